"""A transformers config made to suit the data: its head, and of what starts from scratch its vocabulary and its images."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

from kleiber.errors import RecipeError, nearest
from kleiber.models.foreign.transformers_config import Architecture, open_config
from kleiber.models.foreign.transformers_inputs import num_positions
from kleiber.models.hf.files import Stamp, folder_of, stamp_of
from kleiber.models.hf.spec import HFSpec
from kleiber.models.seen_data import is_modelled
from kleiber.runs import DataShape

__all__ = ["Fitted", "Head", "fitted"]

Head = Literal["CAUSAL_LM", "SEQUENCE_CLASSIFICATION", "IMAGE_CLASSIFICATION", "SEQ_TO_SEQ_CAUSAL_LM"]
"""As transformers' `MODEL_FOR_..._MAPPING` call it."""


@dataclass(frozen=True)
class Fitted:
    """A class of transformers, the config it is built with, and what was changed in that."""

    head: Head
    architecture: Architecture
    notes: tuple[str, ...]
    """A sentence each."""


def fitted(spec: HFSpec) -> Fitted:
    """Return the architecture of a spec, its config made to suit the data.

    Raises:
        RecipeError: Data that no head reads, an architecture without such a head, or sizes that the data does not have and a
            pretrained model cannot change.
        MissingExtraError: transformers is not installed.
    """
    return _fitted(spec, stamp_of(spec.path))


@functools.lru_cache(maxsize=32)
def _fitted(spec: HFSpec, _stamp: Stamp | None) -> Fitted:
    head = _head_of(spec.shape)
    found = open_config(folder_of(spec.path), head=head)
    config, notes = found.config, [*found.notes]
    if head == "IMAGE_CLASSIFICATION":
        notes += _fit_images_(config, spec)
    else:
        notes += _fit_text_(config, head, spec)
    notes += _fit_outputs_(config, spec)
    _set_sizes_(config, spec)
    return Fitted(head, found, tuple(notes))


def _head_of(shape: DataShape) -> Head:
    if is_modelled(shape):
        return "CAUSAL_LM"
    heads: dict[str, Head] = {
        "tokens": "SEQUENCE_CLASSIFICATION",
        "images": "IMAGE_CLASSIFICATION",
        "pairs": "SEQ_TO_SEQ_CAUSAL_LM",
    }
    if shape.inputs not in heads:
        raise RecipeError(
            "hf reads tokens, images or pairs.",
            got=shape.inputs,
            hint="--set model.family=mlp   reads columns",
        )
    return heads[shape.inputs]


def _fit_text_(config: Any, head: Head, spec: HFSpec) -> list[str]:
    """Set vocabulary and padding; return what was said."""
    text, shape, notes = config.get_text_config(), spec.shape, []
    if spec.pretrained:
        if (shape.vocab_size or 0) > text.vocab_size:
            raise RecipeError(
                f"hf: {spec.path} was trained with a vocabulary of {text.vocab_size:,} tokens, and that of the data has "
                f"{shape.vocab_size:,}: its weights do not fit.",
                hint=f"--set data.tokenizer={spec.path}   the model's own",
            )
        notes.append(f"Tokens must be numbered as when {spec.path} was trained: by the same tokenizer.")
    elif text.vocab_size != shape.vocab_size:
        notes.append(
            f"The vocabulary is the data's {shape.vocab_size:,} tokens, not the config's {text.vocab_size:,}."
        )
        text.vocab_size = shape.vocab_size
    _fit_special_tokens_(config, text, head, shape)
    positions = num_positions(text)
    if positions is not None and shape.context is not None and shape.context > positions:
        raise RecipeError(
            f"hf: {spec.path} has {positions:,} positions, and the data's texts have up to {shape.context:,} tokens.",
            hint=f"--set data.context={positions}",
        )
    if head == "CAUSAL_LM" and getattr(text, "is_decoder", None) is False:
        text.is_decoder = True  # an encoder that models text must not look ahead
    text.use_cache = False
    return notes


def _fit_special_tokens_(config: Any, text: Any, head: Head, shape: DataShape) -> None:
    """Set the padding to the data's, and the end of pairs.

    Text that is modelled has no padding: its token of that number is learnt as any other.
    """
    pad = None if head == "CAUSAL_LM" else shape.pad_id
    for one in {id(config): config, id(text): text}.values():
        one.pad_token_id = pad
        for name in ("bos_token_id", "eos_token_id", "decoder_start_token_id"):
            number = getattr(one, name, None)
            if isinstance(number, int) and number >= text.vocab_size:
                setattr(one, name, shape.pad_id)
        if head == "SEQ_TO_SEQ_CAUSAL_LM":
            one.eos_token_id = shape.end_id
            if getattr(one, "decoder_start_token_id", None) is None:
                one.decoder_start_token_id = shape.pad_id


def _fit_images_(config: Any, spec: HFSpec) -> list[str]:
    """Set the size of images and their channels; return what was said."""
    shape, notes = spec.shape, []
    side = shape.height if shape.height == shape.width else (shape.height, shape.width)
    for name, asked in (("num_channels", shape.channels), ("image_size", side)):
        known = getattr(config, name, None)
        if known is None or known == asked or (isinstance(known, (list, tuple)) and tuple(known) == asked):
            continue
        if spec.pretrained:
            raise RecipeError(
                f"hf: {spec.path} was trained with {name} {known}, and the data's images have {asked}: its weights do not fit.",
                hint=f"--set data.image_size={known}"
                if name == "image_size"
                else "--set model.pretrained=false   starts from scratch",
            )
        notes.append(f"{name} is the data's {asked}, not the config's {known}.")
        setattr(config, name, asked)
    patch = getattr(config, "patch_size", None)
    smallest = min(shape.height or 1, shape.width or 1)
    if isinstance(patch, int) and patch > smallest:
        raise RecipeError(
            f"hf: {spec.path} cuts images into patches of {patch} pixels, and the data's have {smallest}.",
            hint=f"--set data.image_size={8 * patch}",
        )
    return notes


def _fit_outputs_(config: Any, spec: HFSpec) -> list[str]:
    asked = spec.shape.num_outputs
    if asked is None:
        return []
    known = int(config.num_labels)
    config.num_labels = asked
    if not spec.pretrained or known == asked:
        return []
    return [f"The head is made anew: {spec.path} has {known:,} outputs, the data {asked:,}."]


def _set_sizes_(config: Any, spec: HFSpec) -> None:
    """Set the numbers in which a model differs from the config in its path; fewer layers are of the first ones' types."""
    text = config.get_text_config()
    for name, size in spec.sizes:
        if not isinstance(getattr(text, name, None), int):
            known = [key for key, value in text.to_dict().items() if type(value) is int]
            raise RecipeError(
                f"hf size: {spec.path} has no number '{name}'. {nearest(name, known)}", got=size
            )
        setattr(text, name, size)
        if name == "num_hidden_layers" and getattr(text, "layer_types", None):
            text.layer_types = list(text.layer_types)[:size]
