"""Writes a decoder and its tokenizer as one file of GGUF.

Legend: R rows, Y bytes of a row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.errors import RecipeError
from kleiber.infer.export.gguf.blocks import BLOCK, blocks_of
from kleiber.infer.export.gguf.filling import filled, filled_form
from kleiber.infer.export.gguf.layout import Layout, layout_of, name_of
from kleiber.infer.export.gguf.vocabulary import Vocabulary, vocabulary_of
from kleiber.infer.sessions import require
from kleiber.models import Spec, save
from kleiber.models.config_file import read_config, read_weights
from kleiber.models.family import FamilyModule, title_of
from kleiber.models.gpt.spec import GPTSpec, require_qwen3
from kleiber.models.stored import Form, Forms, Quantized, rows_of
from kleiber.models.stored.places import places_of
from kleiber.runs.files import storage_errors

__all__ = ["FLOATS", "GgufFile", "require_gguf", "write_gguf"]

FLOATS: dict[Literal["fp32", "f16"], str] = {"fp32": "F32", "f16": "F16"}
"""How matrices are written that are stored as plain numbers, by the precision that is asked for."""
_FILLED = (
    "The MLP is {:,} wide in the file and {:,} in the model: "
    f"zeros fill it up to whole blocks of {BLOCK} columns."
)
_NAMED = 3


@dataclass(frozen=True)
class GgufFile:
    """What was written."""

    kind: str
    """`qwen3` or `llama`."""
    mlp_width: int
    """Features between gate and down projection; zeros may fill it up to whole blocks."""
    precision: str
    """How matrices are stored, the most numbers first: `F32`, `Q4_0, Q8_0`."""
    notes: tuple[str, ...]
    """What was stored otherwise than before, a sentence each."""


def write_gguf(
    path: Path,
    module: FamilyModule,
    spec: Spec,
    tokenizer: TextTokenizer,
    *,
    forms: Forms | None = None,
    floats: Literal["fp32", "f16"] = "fp32",
    name: str = "model",
) -> GgufFile:
    """Write a language model for llama.cpp.

    Weights in few bits keep their codes where blocks of 32 columns hold them, and are rounded anew else; what has zeros left out
    or is in two factors is written as the numbers that it stands for.

    Args:
        path: Of the file; its folder is there.
        module: fp32, of the family gpt or hf; its weights are those that `forms` stand for.
        spec: Of the module.
        tokenizer: The model's own.
        forms: How weights are stored, by the name of the parameter.
        floats: How matrices without a form are written.
        name: That the file gives the model.

    Raises:
        RecipeError: Neither of the kinds `qwen3` and `llama` holds the model or its tokenizer.
        MissingExtraError: gguf is not installed.
        StorageError: The disk refused.
    """
    require_gguf()
    if isinstance(spec, GPTSpec):
        require_qwen3(spec)
    with tempfile.TemporaryDirectory(prefix="kleiber-gguf-") as place:
        save(module, spec, Path(place))
        config, weights = read_config(Path(place)), read_weights(Path(place))
    layout = layout_of(config, title_of(module))
    vocabulary = vocabulary_of(tokenizer, int(config["vocab_size"]))
    stored = _stored(module, forms or {})
    mlp_width = layout.mlp_width
    notes: tuple[str, ...] = ()
    if any(isinstance(form, Quantized) for form in stored.values()):
        layout = layout.in_blocks()
    if layout.mlp_width != mlp_width:
        notes = (_FILLED.format(layout.mlp_width, mlp_width),)
    writing = _Writing(layout, stored, FLOATS[floats])
    tensors = list(writing.tensors(weights))
    with storage_errors(path):
        _write(path, layout, vocabulary, tensors, name=name, tokenizer_json=tokenizer.backend.to_str())
    return GgufFile(layout.kind, layout.mlp_width, writing.precision(), (*notes, *writing.notes()))


def require_gguf() -> None:
    """Refuse to go on without the package that writes and reads GGUF.

    Raises:
        MissingExtraError: It is not installed.
    """
    require("gguf", "gguf", "A model in the format gguf")


def _stored(module: FamilyModule, forms: Forms) -> dict[str, Form]:
    """Return the forms by the names that transformers has for the weights."""
    places = places_of(module, forms) if forms else {}
    return {
        name: rows_of(forms[place.name], slice(place.start, place.stop)) for name, place in places.items()
    }


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the file."""

    name: str
    kind: str
    """As ggml names it: `F32`, `Q8_0`."""
    array: npt.NDArray[Any]
    num_elements: int


@dataclass
class _Writing:
    """From weights of transformers to tensors of GGUF, and what there is to say of it."""

    layout: Layout
    stored: Mapping[str, Form]
    floats: str
    kept: dict[str, list[str]] = field(default_factory=dict)
    num_elements: dict[str, int] = field(default_factory=dict)

    def tensors(self, weights: Mapping[str, Tensor]) -> Iterator[_Tensor]:
        """Yield the tensors of the file."""
        for name, weight in sorted(weights.items(), key=_place):
            theirs = name_of(name)
            if theirs is None:
                raise RecipeError(
                    f"GGUF of the kind {self.layout.kind} has no place for the weight {name}.",
                    hint="--format onnx   holds any model",
                )
            kind, array = self._array(name, weight)
            if weight.ndim > 1:
                self.num_elements[kind] = self.num_elements.get(kind, 0) + weight.numel()
            yield _Tensor(theirs, kind, array, weight.numel())

    def _array(self, name: str, weight: Tensor) -> tuple[str, npt.NDArray[Any]]:
        """Return how a weight is stored, and the numbers or bytes of it."""
        if weight.ndim == 1:
            return "F32", weight.float().numpy()
        form, shape = self.stored.get(name), self.layout.shape(name, weight.shape)
        if shape != tuple(weight.shape):
            weight = filled(weight, *shape)
            form = filled_form(form, *shape) if isinstance(form, Quantized) else form
        values, order = weight.float().numpy(), self.layout.order(name, shape[0])
        if isinstance(form, Quantized):
            kind, array = self._codes(name, form, values)
        else:
            if form is not None:
                self._say(
                    "Written as the numbers that they stand for, which GGUF has no other form for", name
                )
            kind, array = self.floats, values.astype(np.float16) if self.floats == "F16" else values
        return kind, array if order is None else array[order]

    def _codes(
        self, name: str, form: Quantized, values: npt.NDArray[np.float32]
    ) -> tuple[str, npt.NDArray[Any]]:
        blocks = blocks_of(form)
        if blocks is not None:
            return blocks.kind, blocks.bytes_RY
        if values.shape[1] % BLOCK:
            self._say(f"Written as {self.floats}, because {BLOCK} does not divide their columns", name)
            return self.floats, values.astype(np.float16) if self.floats == "F16" else values
        from gguf import GGMLQuantizationType, quants  # noqa: PLC0415 - of an extra

        self._say(
            f"Rounded anew to Q8_0, because no block of {BLOCK} columns holds their groups or codes", name
        )
        return "Q8_0", quants.quantize(values, GGMLQuantizationType.Q8_0)

    def _say(self, what: str, name: str) -> None:
        self.kept.setdefault(what, []).append(name)

    def precision(self) -> str:
        """Return how matrices are stored, the most numbers first."""
        return ", ".join(sorted(self.num_elements, key=self.num_elements.__getitem__, reverse=True))

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for each thing that was done otherwise."""
        return tuple(f"{what}: {_listed(names)}." for what, names in self.kept.items())


def _place(item: tuple[str, Tensor]) -> tuple[int, str]:
    """Return where a tensor stands in the file: block after block, so that the same model gives the same bytes."""
    numbers = [int(part) for part in item[0].split(".") if part.isdigit()]
    return (numbers[0] if numbers else -1, item[0])


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7}
"""`general.file_type`, as llama.h numbers what most numbers are stored in."""


def _write(
    path: Path,
    layout: Layout,
    vocabulary: Vocabulary,
    tensors: Sequence[_Tensor],
    *,
    name: str,
    tokenizer_json: str,
) -> None:
    import gguf  # noqa: PLC0415 - of an extra

    writer = gguf.GGUFWriter(path, layout.kind)
    try:
        writer.add_name(name)
        most = max(
            _FILE_TYPES, key=lambda kind: sum(_matrix_size(one) for one in tensors if one.kind == kind)
        )
        writer.add_file_type(_FILE_TYPES[most])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for key, value in layout.sizes.items():
            if isinstance(value, float):
                writer.add_float32(f"{layout.kind}.{key}", value)
            else:
                writer.add_uint32(f"{layout.kind}.{key}", value)
        _add_vocabulary(writer, vocabulary)
        writer.add_string("tokenizer.huggingface.json", tokenizer_json)
        for one in tensors:
            writer.add_tensor(one.name, one.array, raw_dtype=gguf.GGMLQuantizationType[one.kind])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _matrix_size(one: _Tensor) -> int:
    return one.num_elements if one.array.ndim > 1 else 0


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    for role, number in (vocabulary.special_ids or {}).items():
        writer.add_uint32(f"tokenizer.ggml.{role}_token_id", number)
    writer.add_bool("tokenizer.ggml.add_bos_token", vocabulary.adds_bos)
    writer.add_bool("tokenizer.ggml.add_eos_token", vocabulary.adds_eos)
    writer.add_bool("tokenizer.ggml.add_space_prefix", vocabulary.adds_space)
