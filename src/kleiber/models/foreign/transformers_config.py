"""A transformers architecture out of its `config.json`: built with random weights, never downloaded.

`trust_remote_code` is never given, and no weight file is opened.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging import ERROR
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kleiber.errors import MissingExtraError, RecipeError, nearest
from kleiber.models.foreign.grouped_experts import let_experts_be_traced
from kleiber.models.subject import BlockShape

__all__ = ["Architecture", "open_config", "quiet", "sentence"]

_HINT = "kleiber plan folder/config.json"

# Which head is built when the config names no architecture: the first of these that its model type has.
_HEADS = (
    "ZERO_SHOT_IMAGE_CLASSIFICATION",
    "SPEECH_SEQ_2_SEQ",
    "SEQ_TO_SEQ_CAUSAL_LM",
    "CTC",
    "MASKED_LM",
    "CAUSAL_LM",
    "IMAGE_CLASSIFICATION",
    "VIDEO_CLASSIFICATION",
    "AUDIO_CLASSIFICATION",
    "IMAGE_TEXT_TO_TEXT",
)
# What draws at random how much is computed in training.
_STEADY: dict[str, tuple[object, str]] = {
    "layerdrop": (0.0, "every layer runs"),
    "encoder_layerdrop": (0.0, "every layer of the encoder runs"),
    "decoder_layerdrop": (0.0, "every layer of the decoder runs"),
    "apply_spec_augment": (False, "no part of the sound is masked"),
}


@dataclass(frozen=True)
class Architecture:
    """A class of transformers and the config it is built with."""

    model_class: Any
    config: Any
    notes: tuple[str, ...]
    """What was chosen for the user, a sentence each."""

    def build(self) -> nn.Module:
        """Return the module with random fp32 weights, on the current default device.

        Raises:
            RecipeError: The sizes of the config do not fit together.
        """
        try:
            with quiet():
                return self._build()
        except Exception as error:  # noqa: BLE001 - a hundred architectures, each with its own checks
            raise RecipeError(
                f"{self.model_class.__name__} cannot be built from this config: {sentence(error)}"
            ) from None

    def _build(self) -> nn.Module:
        # What `AutoModel.from_config` calls; the class is chosen already. A copy: building writes into the config.
        config = copy.deepcopy(self.config)
        module: nn.Module = self.model_class._from_config(config, dtype=torch.float32)  # noqa: SLF001
        if self.model_class.__name__.endswith("LMHeadModel"):
            module.loss_type = "ForCausalLM"  # type: ignore[assignment] # what transformers falls back to, with a warning
        return module.train()

    @property
    def text_config(self) -> Any:
        """The config of the text model; the config itself where there is but one."""
        return self.config.get_text_config()

    def blocks(self) -> BlockShape | None:
        """Return what layouts must divide; None without attention heads, and for two towers side by side."""
        config = self.text_config
        width, num_heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
        if width is None or num_heads is None or not (depth := self._depth()):
            return None
        return BlockShape(
            depth=depth,
            width=width,
            num_heads=num_heads,
            num_kv_heads=_size(config, "num_key_value_heads") or num_heads,
            head_dim=_size(config, "head_dim") or width // num_heads,
            vocab_size=_size(config, "vocab_size") or 0,
        )

    def _depth(self) -> int:
        """Return the repeated blocks: of an encoder-decoder, those of both."""
        config = self.text_config
        if config is not self.config and not self.model_class.can_generate():
            return 0
        if not getattr(config, "is_encoder_decoder", False):
            return _size(config, "num_hidden_layers") or 0
        encoder = _size(config, "encoder_layers") or _size(config, "num_layers") or 0
        return encoder + (_size(config, "decoder_layers") or _size(config, "num_decoder_layers") or encoder)

    def num_experts(self) -> tuple[int, int] | None:
        """Return how many experts a token visits and how many a layer has; None without a mixture."""
        config = self.text_config
        total = _size(config, "num_local_experts") or _size(config, "num_experts")
        visited = _size(config, "num_experts_per_tok")
        return (visited, total) if total and visited and total > 1 else None


def open_config(path: Path, *, head: str | None = None) -> Architecture:
    """Return the architecture of a `config.json`, or of a folder with one.

    Layers are never dropped at random: what is counted must not depend on chance.

    Args:
        path: The file or the folder.
        head: Of the class, as in transformers' `MODEL_FOR_CAUSAL_LM_MAPPING`; None takes the one that the config names.

    Raises:
        RecipeError: No such file, no JSON object, an unknown model type or architecture, one without such a head, or one
            that needs code from the hub.
        MissingExtraError: transformers is not installed.
    """
    file = path / "config.json" if path.is_dir() else path
    raw = _read(file)
    config = _config(raw, file)
    model_class, notes = (
        _model_class(raw, config, file) if head is None else (_with_head(config, head, file), ())
    )
    if "quantization_config" in raw:
        notes += ("quantization_config is left out: the weights count in full precision",)
    for name, (value, note) in _STEADY.items():
        if getattr(config, name, value):
            setattr(config, name, value)
            notes += (f"{name} is set to {value}: {note}",)
    architecture = Architecture(model_class, config, notes)
    if architecture.num_experts() is not None:
        let_experts_be_traced()
    return architecture


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' advice on token ids and kernels, and its bars of files, from the user."""
    from transformers.utils import logging  # noqa: PLC0415 - takes a second to import

    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(ERROR)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers leaves it unannotated
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call] # the same


def _read(file: Path) -> dict[str, Any]:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{file} cannot be read: {error.strerror}.", hint=_HINT) from None
    except ValueError:
        raise RecipeError(f"{file} is not valid JSON.", hint=_HINT) from None
    if not isinstance(raw, dict):
        raise RecipeError(f"{file} must hold a JSON object.", got=type(raw).__name__, hint=_HINT)
    return raw


def _config(raw: dict[str, Any], file: Path) -> Any:
    try:
        from transformers import CONFIG_MAPPING  # noqa: PLC0415 - takes a second to import, and is an extra
    except ImportError:
        raise MissingExtraError.of("transformers", "hf", f"Reading {file}") from None
    model_type = raw.get("model_type")
    if not isinstance(model_type, str):
        raise RecipeError(f"{file} must name its model_type.", got=model_type, hint='"model_type": "llama"')
    if model_type not in CONFIG_MAPPING:
        if "auto_map" in raw:
            raise RecipeError(
                f"{file}: the model_type '{model_type}' is built by code from the hub, which Kleiber does not run.",
                hint="save that code as my_model.py and plan my_model.py:Net --input 1x128:int64",
            )
        near = nearest(model_type, CONFIG_MAPPING.keys())
        clause = near if near.startswith("Did") else "transformers has no such architecture."
        raise RecipeError(
            f"{file}: unknown model_type '{model_type}'. {clause}", hint='"model_type": "llama"'
        )
    left_out = {"auto_map", "quantization_config"}
    try:
        with quiet():
            config = CONFIG_MAPPING[model_type].from_dict({k: v for k, v in raw.items() if k not in left_out})
    except Exception as error:  # noqa: BLE001 - every config class has its own checks
        raise RecipeError(f"{file}: {sentence(error)}") from None
    return config


def _model_class(raw: Mapping[str, Any], config: Any, file: Path) -> tuple[Any, tuple[str, ...]]:
    import transformers  # noqa: PLC0415 - takes a second to import

    names = raw.get("architectures") or []
    if names:
        name = str(names[0])
        found = getattr(transformers, name, None)
        if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
            siblings = [n for n in dir(transformers) if n.startswith(name[:3]) and "For" in n]
            clause = nearest(name, siblings) if siblings else "transformers has no such class."
            raise RecipeError(f"{file}: unknown architecture '{name}'. {clause}")
        return found, ()
    name = _default_class(config.model_type)
    return getattr(transformers, name), (f"the config names no architecture: built as {name}",)


def _with_head(config: Any, head: str, file: Path) -> Any:
    import transformers  # noqa: PLC0415 - takes a second to import

    mapping = getattr(transformers, f"MODEL_FOR_{head}_MAPPING")
    if type(config) not in mapping:
        raise RecipeError(
            f"transformers has no '{config.model_type}' for {head.lower().replace('_', ' ')}.",
            got=str(file),
            hint="another config, or data and a task of its kind",
        )
    return mapping[type(config)]


def _default_class(model_type: str) -> str:
    from transformers.models.auto import modeling_auto  # noqa: PLC0415 - takes a second to import

    for head in _HEADS:
        names = getattr(modeling_auto, f"MODEL_FOR_{head}_MAPPING_NAMES")
        if model_type in names:
            return _first(names[model_type])
    if model_type not in modeling_auto.MODEL_MAPPING_NAMES:
        raise RecipeError(f"transformers builds no model of model_type '{model_type}' by itself.")
    return _first(modeling_auto.MODEL_MAPPING_NAMES[model_type])


def _first(names: str | Sequence[str]) -> str:
    return names if isinstance(names, str) else names[0]


def _size(config: Any, name: str) -> int | None:
    value = getattr(config, name, None)
    return value if isinstance(value, int) and value > 0 else None


def sentence(error: BaseException) -> str:
    """Return the last line of a message: validators put what is wrong behind a headline."""
    line = str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__
    line = line.removeprefix("TypeError: ").removeprefix("ValueError: ")
    return line if line.endswith(".") else f"{line}."
