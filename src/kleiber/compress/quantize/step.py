"""`quantize`: what is typed, what goes with what, and the model after it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from kleiber.compress.calibration import Calibration
from kleiber.compress.layers import (
    Layer,
    NamePatterns,
    find_layers,
    kept_notes,
    require_finite,
    select,
)
from kleiber.compress.quantize.bits import (
    SensitivityName,
    grids_within_bytes,
    grids_within_mean_bits,
    measured_changes,
)
from kleiber.compress.quantize.budget import weight_bytes
from kleiber.compress.quantize.clipping import Clipping
from kleiber.compress.quantize.input_ranges import input_ranges
from kleiber.compress.quantize.selection import (
    matrix_shapes,
    plain_bytes,
    require_unquantized,
    uneven_note,
)
from kleiber.compress.quantize.weights import Method, MethodName, quantize_weights
from kleiber.compress.subject import Subject
from kleiber.errors import RecipeError
from kleiber.models.stored import Activations
from kleiber.models.stored.grid import Grid
from kleiber.runs import Document

__all__ = ["Quantize"]

_Bits = Annotated[int, Field(strict=True, ge=2, le=8)]
_Percent = Annotated[float, Field(gt=50, le=100)]
_OneOrMore = BeforeValidator(lambda value: (value,) if isinstance(value, int) else value)
"""A single one is typed without the sign that divides lists."""


class Quantize(Document):
    """Weights in 2 to 8 bits; inputs of layers and a decoder's cache in 8, where asked."""

    help_line = "quantize:bits=8   or quantize:bits=4,group_size=128,method=gptq"

    name: Literal["quantize"] = "quantize"
    """As it is typed."""
    bits: _Bits | None = None
    """Of hidden layers; 8 where nothing is said and no budget chooses."""
    mean_bits: float | None = Field(default=None, ge=2, le=8)
    """Instead of `bits`: those of `bit_widths` that change the model least at so many bits a weight on average."""
    max_bytes: int | None = Field(default=None, strict=True, gt=0)
    """Instead of `bits`: those of `bit_widths` that change the model least when all its weights take so many bytes in a file."""
    bit_widths: Annotated[tuple[_Bits, ...], _OneOrMore, Field(min_length=1)] = (2, 3, 4, 6, 8)
    """What a budget chooses from, layer by layer."""
    sensitivity: SensitivityName = "loss"
    """What a budget goes by: the loss with one layer rounded, or, in one pass and less surely, the change of that layer's own
    outputs."""
    method: MethodName = "rtn"
    """Round-to-nearest, GPTQ, AWQ or HQQ."""
    group_size: int | None = Field(default=None, strict=True, ge=2)
    """At most so many columns of a row share a scale, as evenly as they divide; None: the whole row. Embedding and head in 8
    bits have a scale a row all the same."""
    is_symmetric: bool | None = Field(default=None, strict=True)
    """Whether no zeros are stored; None: from 5 bits on, below them a zero is worth its bits."""
    clipping: Clipping = "minmax"
    """What codes reach over: all weights of a group, their middle `percentile` per cent, or what gives the least squared error
    (of AWQ: of the outputs)."""
    percentile: _Percent = 99.9
    """Per cent of a group's weights within the reach of codes, of that clipping only."""
    damping_frac: float = Field(default=0.01, gt=0, le=1)
    """Of GPTQ: what is added to the diagonal of the inputs' second moments, as a part of its mean."""
    has_act_order: bool = Field(default=True, strict=True)
    """Of GPTQ: columns of large inputs are rounded first."""
    embedding_bits: _Bits | None = 8
    """Of look-up tables; None keeps them."""
    head_bits: _Bits | None = 8
    """Of the output projection; None keeps it. A head that is also the embedding has as many bits as that."""
    layers: NamePatterns = ()
    """Patterns of names such as `blocks.*.qkv`: only these; none takes all."""
    keep: NamePatterns = ()
    """Patterns of names that are left as they are."""
    inputs: Literal["none", "dynamic", "static"] = "none"
    """Whether inputs of quantized layers become int8: by the range that each batch shows, or by a calibrated one."""
    input_clipping: Clipping = "minmax"
    """Of static inputs: all that calibration saw, its middle `input_percentile` per cent, or what gives the least squared error."""
    input_percentile: _Percent = 99.99
    """Per cent of the inputs within the range, of that clipping only."""
    cache_bits: Literal[8] | None = None
    """Of the keys and values that a decoder keeps; None keeps them as computed."""

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        typed = [key for key in ("bits", "mean_bits", "max_bytes") if getattr(self, key) is not None]
        if len(typed) > 1:
            raise ValueError(
                f"one of bits, mean_bits and max_bytes says how many bits there are, got {typed}"
            )
        is_by_row = (
            not self.has_budget and self.group_size is None and {self.bits, self.head_bits} <= {None, 8}
        )
        if self.inputs != "none" and not is_by_row:
            raise ValueError(
                f"inputs={self.inputs} goes with weights of 8 bits and one scale a row: products of int8 are summed over whole rows"
            )
        if self.clipping != "percentile":
            self._refuse_without_effect(("percentile",), "clipping=percentile")
        if self.inputs != "static":
            self._refuse_without_effect(("input_clipping",), "inputs=static")
        if self.input_clipping != "percentile":
            self._refuse_without_effect(("input_percentile",), "input_clipping=percentile")
        if self.method != "gptq":
            self._refuse_without_effect(("damping_frac", "has_act_order"), "method=gptq")
        if not self.has_budget:
            self._refuse_without_effect(("bit_widths", "sensitivity"), "mean_bits or max_bytes")
        return self

    @property
    def has_budget(self) -> bool:
        """Whether bits are chosen layer by layer."""
        return self.mean_bits is not None or self.max_bytes is not None

    def apply(self, subject: Subject, calibration: Calibration) -> Subject:
        """Return the model with quantized weights.

        Raises:
            RecipeError: It is quantized already, no layer is left, or a budget cannot be met.
            UsageError: A weight is not finite.
            DataError: What enters a layer is not finite.
        """
        require_unquantized(subject.forms)
        self._require_cache(subject)
        module, batch = subject.module, calibration.batches[0]
        layers = self._layers(find_layers(module, batch))
        require_finite(module, layers)
        grids = self._grids(subject, calibration, layers)
        method = Method(self.method, self.clipping, self.percentile, self.damping_frac, self.has_act_order)
        found = quantize_weights(module, calibration, layers, grids=grids, method=method, forms=subject.forms)
        ranges = (
            input_ranges(
                found.module,
                calibration.batches,
                list(found.forms),
                self.input_clipping,
                self.input_percentile,
            )
            if self.inputs == "static"
            else {}
        )
        notes = (*kept_notes(module, batch), *uneven_note(layers, grids), *found.notes)
        return dataclasses.replace(
            subject,
            module=found.module,
            forms=subject.forms | found.forms,
            activations=Activations(
                input_ranges=subject.activations.input_ranges | ranges,
                has_dynamic_inputs=self.inputs == "dynamic",
                cache_bits=self.cache_bits,
            ),
            notes=subject.notes + notes,
        )

    def _require_cache(self, subject: Subject) -> None:
        if self.cache_bits is not None and subject.recipe.task.name != "lm":
            raise RecipeError(
                "cache_bits is of language models, which keep the keys and values of what they have read.",
                got=f"a model of {subject.recipe.task.name}",
            )

    def _layers(self, found: Sequence[Layer]) -> tuple[Layer, ...]:
        """Return what is quantized.

        Raises:
            RecipeError: Patterns leave nothing, or name what the bits keep.
        """
        if self.embedding_bits != self.head_bits and (tied := [one.name for one in found if one.is_tied]):
            raise RecipeError(
                f"embedding_bits and head_bits must be the same: {tied[0]} is both.",
                got=(self.embedding_bits, self.head_bits),
            )
        layers = select(
            found,
            only=self.layers,
            keep=self.keep,
            has_embedding=self.embedding_bits is not None,
            has_head=self.head_bits is not None,
        )
        for layer in layers:
            if not layer.is_hidden and self._fixed_bits(layer) is None:
                kind = "embedding" if layer.kind == "embedding" else "head"
                raise RecipeError(f"layers names {layer.name}, which {kind}_bits keeps as it is.")
        return layers

    def _fixed_bits(self, layer: Layer) -> int | None:
        """Return the bits of a layer that no budget chooses for; None keeps it."""
        if layer.kind == "embedding":
            return self.embedding_bits
        return self.head_bits if layer.is_head else self.bits or 8

    def _grid(self, layer: Layer, num_bits: int) -> Grid:
        is_by_row = num_bits == 8 and not layer.is_hidden
        is_symmetric = num_bits > 4 if self.is_symmetric is None else self.is_symmetric
        return Grid(num_bits, None if is_by_row else self.group_size, is_symmetric)

    def _grids(self, subject: Subject, calibration: Calibration, layers: Sequence[Layer]) -> dict[str, Grid]:
        """Return how each layer is laid out, by name."""
        shared = [layer for layer in layers if self.has_budget and layer.is_hidden]
        fixed = {
            layer.name: self._grid(layer, bits)
            for layer in layers
            if layer not in shared and (bits := self._fixed_bits(layer)) is not None
        }
        if not self.has_budget:
            return fixed
        if not shared:
            raise RecipeError("a budget of bits needs hidden layers to share it.", got=sorted(fixed))
        shapes = {layer.name: matrix_shapes(layer, subject.forms.get(layer.name)) for layer in layers}
        choices = {
            layer.name: [self._grid(layer, bits) for bits in sorted({*self.bit_widths})] for layer in shared
        }
        changes = measured_changes(subject.module, subject.task, calibration, choices, self.sensitivity)
        own = {layer.name: shapes[layer.name] for layer in shared}
        if self.mean_bits is not None:
            return fixed | grids_within_mean_bits(own, choices, changes, self.mean_bits)
        fixed_bytes = sum(weight_bytes(*part, grid) for name, grid in fixed.items() for part in shapes[name])
        others = plain_bytes(subject.module, subject.forms, shapes) + fixed_bytes
        return fixed | grids_within_bytes(own, choices, changes, self.max_bytes or 0, others)
