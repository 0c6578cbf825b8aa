"""The step `prune`."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from kleiber.compress.calibration import Calibration
from kleiber.compress.layers import (
    Layer,
    NamePatterns,
    find_layers,
    kept_notes,
    require_finite,
    require_matches,
    select,
)
from kleiber.compress.prune.masks import Pattern, Scope
from kleiber.compress.prune.methods import Method, Plan, Pruned, prune_at_once, prune_in_order
from kleiber.compress.subject import Subject
from kleiber.errors import RecipeError
from kleiber.models.stored import Forms, LowRank, Masked, Quantized
from kleiber.runs import Document

__all__ = ["Prune"]

_OWN_SCOPE: dict[Method, Scope] = {"magnitude": "global", "wanda": "row", "sparsegpt": "layer"}
"""Of each method, among what it compares as it was published; sparsegpt does so block by block of a layer's columns."""
_MAX_GROUP = 32


def _typed_pattern(value: Any) -> Any:
    """Return `2:4` of what YAML 1.1 makes of it: it reads 2 minutes and 4 seconds, 124."""
    return "{}:{}".format(*divmod(value, 60)) if isinstance(value, int) else value


class Prune(Document):
    """Zeros where weights matter least, single entries (`ratio`) or N of M neighbours (`pattern`)."""

    help_line = "prune:ratio=0.5,method=wanda   or prune:pattern=2:4"

    name: Literal["prune"] = "prune"
    ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the entries of the treated layers that becomes zero."""
    pattern: Annotated[str | None, BeforeValidator(_typed_pattern)] = None
    """Instead of a ratio, `2:4`: at most 2 of every 4 neighbours in a row are kept."""
    method: Method = "magnitude"
    """What says how much an entry matters: its size; its size times that of its inputs (wanda); by how much the layer's outputs
    change when the rest makes up for it, which it then does (sparsegpt)."""
    scope: Scope | None = None
    """Among what the least entries are sought; None as the method was published: global of magnitude, row of wanda. It has no
    effect on sparsegpt and on patterns."""
    layer_ratios: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(default_factory=dict)
    """By a pattern of names, other ratios than `ratio`; the first that matches counts. Of a global scope there are none."""
    layers: NamePatterns = ()
    """Patterns of names of the only layers that are treated; none is all hidden ones."""
    keep: NamePatterns = ()
    """Patterns of names of layers that are left as they are."""
    has_embedding: bool = Field(default=False, strict=True)
    """Whether look-up tables are treated too."""
    has_head: bool = Field(default=False, strict=True)
    """Whether the output projection is treated too."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.ratio is None) == (self.pattern is None):
            raise ValueError(f"takes either a ratio or a pattern, got {self.ratio} and {self.pattern}")
        _ = self._pattern
        if self.scope is not None and (self.pattern is not None or self.method == "sparsegpt"):
            what = "a pattern" if self.pattern is not None else "sparsegpt"
            raise ValueError(f"scope has no effect on {what}, got {self.scope}")
        if self.layer_ratios and (self.pattern is not None or self._scope == "global"):
            what = (
                "a pattern" if self.pattern is not None else "a global scope, which finds each layer's itself"
            )
            raise ValueError(f"layer_ratios have no effect on {what}, got {self.layer_ratios}")
        return self

    def apply(self, subject: Subject, calibration: Calibration) -> Subject:
        """Return the model with zeros, in the form `Masked`; what was zero by such a form before stays so and counts as gone.

        Raises:
            RecipeError: A layer holds few bits or two factors already, or NaN; a pattern of names matches nothing.
            DataError: Calibration gives a layer inputs that are not finite.
        """
        batch = calibration.batches[0]
        layers = self._chosen(find_layers(subject.module, batch))
        _refuse_forms(subject.forms, layers)
        require_finite(subject.module, layers)
        goes_in_order = self.method == "sparsegpt" or (self.method == "wanda" and self._scope != "global")
        prune = prune_in_order if goes_in_order else prune_at_once
        pruned = prune(subject.module, calibration, layers, self._plan(layers, subject.forms))
        if not pruned.masks:
            raise RecipeError(
                f"{self.method} needs what a weight is multiplied by, and calibration gave none of the layers inputs.",
                got=list(pruned.unseen),
                hint="prune:method=magnitude",
            )
        notes = (*subject.notes, *kept_notes(subject.module, batch), *_notes(pruned))
        return dataclasses.replace(
            subject,
            module=pruned.module,
            forms={**subject.forms, **pruned.masks},
            notes=tuple(dict.fromkeys(notes)),
        )

    @property
    def _scope(self) -> Scope:
        return self.scope or _OWN_SCOPE[self.method]

    @property
    def _pattern(self) -> Pattern | None:
        if self.pattern is None:
            return None
        match = re.fullmatch(r"(\d{1,2}):(\d{1,2})", self.pattern)
        if match is None or not 0 < int(match[1]) < int(match[2]) <= _MAX_GROUP:
            raise ValueError(
                f"pattern must be N:M with 0 < N < M <= {_MAX_GROUP}, such as 2:4, got {self.pattern}"
            )
        return int(match[1]), int(match[2])

    def _chosen(self, layers: Sequence[Layer]) -> tuple[Layer, ...]:
        taken = select(
            layers,
            only=self.layers,
            keep=self.keep,
            has_embedding=self.has_embedding,
            has_head=self.has_head,
        )
        require_matches(self.layer_ratios, taken)
        if self.pattern is not None:
            return taken
        if not (pruned := tuple(layer for layer in taken if self._ratio_of(layer.name) > 0)):
            raise RecipeError("no layer is left to prune: every ratio is 0.", got=self.layer_ratios)
        return pruned

    def _ratio_of(self, name: str) -> float:
        ratios = (ratio for key, ratio in self.layer_ratios.items() if fnmatch.fnmatchcase(name, key))
        return next(ratios, self.ratio or 0.0)

    def _plan(self, layers: Sequence[Layer], forms: Forms) -> Plan:
        masks = {name: form.is_kept_RC for name, form in forms.items() if isinstance(form, Masked)}
        ratios = {} if self.pattern is not None else {one.name: self._ratio_of(one.name) for one in layers}
        return Plan(self.method, self._scope, ratios, self._pattern, masks)


def _refuse_forms(forms: Forms, layers: Sequence[Layer]) -> None:
    for layer in layers:
        form = forms.get(layer.name)
        if isinstance(form, Quantized):
            raise RecipeError(
                f"prune cannot follow quantize: the scales of {layer.name} are fitted to the weights that zeros would take out.",
                hint="prune first, then quantize: zeros stay zeros in few bits",
            )
        if isinstance(form, LowRank):
            raise RecipeError(
                f"prune cannot follow factorize: {layer.name} is stored as two factors, whose product has no zeros to leave out.",
                hint=f"keep={layer.name}   leaves it as it is",
            )


def _notes(pruned: Pruned) -> list[str]:
    notes = [f"Kept as it is, because calibration gave it no inputs: {name}." for name in pruned.unseen]
    empty = [name for name, mask in pruned.masks.items() if not bool(mask.is_kept_RC.any())]
    return notes + [f"Nothing is left of {name}: all of its entries were among the least." for name in empty]
