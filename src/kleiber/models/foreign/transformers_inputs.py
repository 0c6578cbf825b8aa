"""What goes into a transformers architecture: text, pixels or sound, and the labels that its head compares with."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from kleiber.errors import RecipeError
from kleiber.models.foreign.inputs import numbers, whole_numbers
from kleiber.models.foreign.transformers_config import Architecture
from kleiber.models.subject import Inputs

__all__ = ["default_context", "has_own_loss", "image_size", "make_example", "num_positions", "reads_text"]

_MAX_DEFAULT_CONTEXT = 1024
_IMAGE_SIZE = 224
_SAMPLES = 160_000
"""Ten seconds of sound at 16 kHz."""
_CLASS_HEADS = tuple(f"For{what}Classification" for what in ("Image", "Sequence", "Audio", "Video"))
_TOKEN_HEADS = ("ForTokenClassification", "ForQuestionAnswering")
_TEXT_HEADS = ("ForCausalLM", "LMHeadModel", "ForMaskedLM", "ForPreTraining", "ForConditionalGeneration")
# Their positions are counted from behind the number of the padding token.
_COUNT_FROM_PADDING = frozenset(
    [
        "roberta",
        "xlm-roberta",
        "xlm-roberta-xl",
        "roberta-prelayernorm",
        "camembert",
        "xmod",
        "mpnet",
        "longformer",
        "data2vec-text",
        "ibert",
        "luke",
        "esm",
        "layoutlmv3",
    ]
)


def has_own_loss(architecture: Architecture) -> bool:
    """Return whether the module computes a loss from labels that can be made up.

    Not a CTC head: how long its paths are depends on the labels.
    """
    return str(architecture.model_class.__name__).endswith((*_CLASS_HEADS, *_TOKEN_HEADS, *_TEXT_HEADS))


def reads_text(architecture: Architecture) -> bool:
    """Return whether a sample is a sequence of tokens, whose number the user chooses."""
    return str(architecture.model_class.main_input_name) == "input_ids"


def default_context(architecture: Architecture, context: int | None) -> int:
    """Return the tokens of a sequence: the user's, or the largest power of two that the config has positions for.

    Raises:
        RecipeError: More than the config has positions for.
    """
    limit = num_positions(architecture.text_config)
    if context is None:
        return 1 << (min(limit or _MAX_DEFAULT_CONTEXT, _MAX_DEFAULT_CONTEXT).bit_length() - 1)
    if limit is not None and context > limit:
        raise RecipeError(
            f"--context must be at most the {limit:,} positions of the config.",
            got=context,
            hint=f"--context {limit}",
        )
    return context


def num_positions(config: Any) -> int | None:
    """Return the longest text that a config has positions for [tokens]; None where it has no such limit."""
    names = ("max_target_positions", "max_position_embeddings")
    found = next((v for name in names if isinstance(v := getattr(config, name, None), int) and v > 0), None)
    if found is None or config.model_type not in _COUNT_FROM_PADDING:
        return found
    return found - (config.pad_token_id or 0) - 1


def make_example(architecture: Architecture, batch_size: int, context: int, *, has_labels: bool) -> Inputs:
    """Return the keyword arguments of one forward call, on the current default device.

    Args:
        architecture: What is called.
        batch_size: Samples.
        context: Tokens of each text; of an encoder-decoder, on both sides.
        has_labels: Whether the module computes its loss.

    Raises:
        RecipeError: It is not known what this architecture takes.
    """
    taken = inspect.signature(architecture.model_class.forward).parameters
    main = str(architecture.model_class.main_input_name)
    config, text = architecture.config, architecture.text_config
    kwargs: dict[str, Tensor] = {main: _main_input(main, config, text, batch_size, context)}
    if main == "input_ids" and "pixel_values" in taken and not architecture.model_class.can_generate():
        kwargs["pixel_values"] = _pixels(config, batch_size)
    labels = (
        _labels(architecture.model_class.__name__, config, text, batch_size, context) if has_labels else {}
    )
    kwargs |= {name: value for name, value in labels.items() if name in taken}
    starts_itself = "labels" in kwargs and getattr(config, "decoder_start_token_id", None) is not None
    if "decoder_input_ids" in taken and not starts_itself:
        kwargs["decoder_input_ids"] = whole_numbers((batch_size, context), text.vocab_size)
    return Inputs(kwargs=kwargs)


def _main_input(main: str, config: Any, text: Any, batch_size: int, context: int) -> Tensor:
    if main == "input_ids":
        return whole_numbers((batch_size, context), text.vocab_size)
    if main == "pixel_values":
        return _pixels(config, batch_size)
    if main == "input_features" and hasattr(config, "max_source_positions"):
        # Two frames of the spectrogram become one position.
        return numbers((batch_size, config.num_mel_bins, 2 * config.max_source_positions))
    if main == "input_values" and hasattr(config, "num_mel_bins"):
        return numbers((batch_size, config.max_length, config.num_mel_bins))
    if main == "input_values":
        return numbers((batch_size, _SAMPLES))
    raise RecipeError(
        f"It is not known what goes into a '{config.model_type}' ({main}).",
        hint=f"kleiber plan my_model.py:make_model --input 8x128:int64   (a function that returns the {config.model_type})",
    )


def _pixels(config: Any, batch_size: int) -> Tensor:
    frames = getattr(getattr(config, "vision_config", config), "num_frames", None)
    return numbers((batch_size, *((frames,) if frames else ()), *image_size(config)))


def image_size(config: Any) -> tuple[int, int, int]:
    """Return channels, height and width of the images that a config is for."""
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", _IMAGE_SIZE)
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return getattr(vision, "num_channels", 3), height, width


def _labels(name: str, config: Any, text: Any, batch_size: int, context: int) -> dict[str, Tensor]:
    if name.endswith(_CLASS_HEADS):
        return {"labels": _classes(config, batch_size)}
    if name.endswith("ForTokenClassification"):
        return {"labels": whole_numbers((batch_size, context), config.num_labels)}
    if name.endswith("ForQuestionAnswering"):
        ends = whole_numbers((batch_size,), context)
        return {"start_positions": ends, "end_positions": ends.clone()}
    if name.endswith(_TEXT_HEADS):
        labels = {"labels": whole_numbers((batch_size, context), text.vocab_size)}
        return labels | {"next_sentence_label": whole_numbers((batch_size,), 2)}
    return {}


def _classes(config: Any, batch_size: int) -> Tensor:
    if config.problem_type == "multi_label_classification":
        return whole_numbers((batch_size, config.num_labels), 2).float()
    if config.problem_type == "regression" or config.num_labels == 1:
        return numbers((batch_size, config.num_labels)).squeeze(-1)
    return whole_numbers((batch_size,), config.num_labels)
