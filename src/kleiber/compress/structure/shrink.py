"""The step `shrink`: a smaller dense model of the same family, made of the units that a calibration shows to matter."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kleiber.compress.calibration import Calibration
from kleiber.compress.layers import find_layers, require_finite
from kleiber.compress.structure.families import skeleton_of
from kleiber.compress.structure.importance import Importance
from kleiber.compress.structure.narrow import Narrowing, narrowed
from kleiber.compress.structure.shallow import shallower
from kleiber.compress.structure.sizes import Target, asked_sizes, solved_sizes
from kleiber.compress.subject import Subject
from kleiber.errors import RecipeError
from kleiber.models import size_of
from kleiber.models.stored import LowRank, Quantized
from kleiber.runs import Document, ModelRecipe

__all__ = ["Shrink"]

_Part = Annotated[float, Field(gt=0, le=1)]
_Size = Annotated[int, Field(strict=True, ge=1)]
_ASKED = ("params", "macs", "heads", "mlp_width", "width", "channels", "depth")


class Shrink(Document):
    """Heads, neurons, channels, features of the residual stream and whole blocks are cut out, those that matter least.

    A target is met by narrower layers; blocks are dropped only where `depth` says so: of two models of a size the deeper one
    recovers better (Minitron, section 4).

    Source:
        Muralidharan et al. 2024, arXiv:2407.14679; blocks: Men et al. 2024, arXiv:2403.03853.
    """

    help_line = "shrink:params=0.5   or shrink:macs=0.5"

    name: Literal["shrink"] = "shrink"
    params: _Part | None = None
    """Part of the parameters that is left at most."""
    macs: _Part | None = None
    """Part of the operations of a forward pass that is left at most."""
    heads: _Size | None = None
    """Query heads; those that share key and value go together."""
    mlp_width: _Size | None = None
    """Neurons of each MLP."""
    width: _Size | None = None
    """Features of the residual stream; of a perceptron, of its hidden layers."""
    channels: _Part | None = None
    """Part of the channels of every convolution whose channels can go by themselves."""
    depth: _Size | None = None
    """Blocks."""
    importance: Importance = "contribution"
    """Of a unit inside a block: the size of what the layer behind makes of its values, or of the values alone, as in the paper
    (docs/log.md has both)."""
    is_refitted: bool = Field(default=True, strict=True)
    """Whether the layer behind is refitted by least squares, so that what is kept takes over what went."""
    multiple: Annotated[int, Field(strict=True, ge=1, le=1024)] = 8
    """Of sizes that follow from a target, where these are at least four times as large."""

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if all(getattr(self, name) is None for name in _ASKED):
            raise ValueError(f"one of {', '.join(_ASKED)} is needed, such as params=0.5")
        return self

    def apply(self, subject: Subject, calibration: Calibration) -> Subject:
        """Return the smaller model.

        Raises:
            RecipeError: Weights are quantized or in factors already, the family has no such sizes, they do not fit together,
                the target cannot be met, or a weight is not finite.
            DataError: What enters a layer is not finite.
            MissingExtraError: torch-pruning is not installed, which finds the channels of convolutional networks.
        """
        _require_plain(subject)
        require_finite(subject.module, find_layers(subject.module, calibration.batches[0]))
        whole = skeleton_of(subject.module, subject.spec)
        small, dropped = shallower(subject, whole, self.depth, calibration)
        skeleton = skeleton_of(small.module, small.spec) if dropped else whole
        asked = asked_sizes(
            skeleton,
            subject.spec.family,
            {"heads": self.heads, "mlp_width": self.mlp_width, "width": self.width},
            self.channels,
            self.multiple,
        )
        target = Target(subject.spec, self.params, self.macs)
        sizes = solved_sizes(skeleton, asked, target, self.multiple)
        small = narrowed(
            small, skeleton, sizes, calibration, Narrowing(self.importance, is_refitted=self.is_refitted)
        )
        recipe = subject.recipe.model_copy(update={"model": ModelRecipe(**size_of(small.spec))})
        is_cut = small.spec.count().total < subject.spec.count().total
        return dataclasses.replace(small, recipe=recipe, is_cut=is_cut or subject.is_cut)


def _require_plain(subject: Subject) -> None:
    reasons = {
        Quantized: "quantized: codes and scales were chosen for the inputs of all units",
        LowRank: "in two factors, in which no unit has rows or columns of its own",
    }
    for name, form in subject.forms.items():
        for kind, reason in reasons.items():
            if isinstance(form, kind):
                raise RecipeError(
                    f"shrink comes before quantize and factorize; {name} is {reason}.",
                    hint="shrink, recover, quantize",
                )
