"""How much the loss rises when one layer alone is treated, for each kind of step at a few strengths.

Legend: R rows, C columns, K rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from torch import Tensor

from kleiber.compress.calibration import Calibration
from kleiber.compress.factorize import factors, rank_of_ratio
from kleiber.compress.layers import Layer, find_layers
from kleiber.compress.quantize.budget import Choice, least_error
from kleiber.compress.quantize.sensitivity import mean_loss
from kleiber.compress.subject import Subject
from kleiber.errors import UsageError
from kleiber.models.stored.grid import Grid
from kleiber.models.stored.rounding import round_to_nearest
from kleiber.runs import Document
from kleiber.tasks.evaluation import evaluating

__all__ = ["GROUP_SIZE", "Kind", "LayerChange", "Sensitivity", "sensitivity_of"]

Kind = Literal["prune", "quantize", "factorize"]

GROUP_SIZE = 64
"""Columns of a row that share a scale, of few bits."""
STRENGTHS: dict[Kind, tuple[float, ...]] = {
    "prune": (0.3, 0.5, 0.7, 0.8),
    "quantize": (8, 4, 3),
    "factorize": (0.6,),
}
"""Shares of zeros, bits, and shares of numbers that factors have."""
_BATCHES = 2
"""Of calibration: every layer and strength is a forward pass of each."""


class LayerChange(Document):
    """One layer treated, the others as they were."""

    layer: str
    num_numbers: int
    """Of the layer."""
    kind: Kind
    strength: float
    """Share of zeros, bits, or share of numbers in factors."""
    loss_change: float
    """0 where it falls."""


class Sensitivity(Document):
    """All layers at all strengths."""

    changes: tuple[LayerChange, ...]

    def by_layer(self, kind: Kind, strength: float) -> dict[str, float]:
        """Return the change of each layer."""
        return {
            one.layer: one.loss_change
            for one in self.changes
            if one.kind == kind and one.strength == strength
        }

    def damage(self, kind: Kind, strength: float) -> float:
        """Return the changes of all layers together, as if they added up; between two strengths that were tried, between them."""
        tried = sorted({one.strength for one in self.changes if one.kind == kind})
        low = max((one for one in tried if one <= strength), default=tried[0])
        high = min((one for one in tried if one >= strength), default=tried[-1])
        part = 0.0 if high == low else (strength - low) / (high - low)
        return (1 - part) * sum(self.by_layer(kind, low).values()) + part * sum(
            self.by_layer(kind, high).values()
        )

    def layer_ratios(self, ratio: float) -> dict[str, float]:
        """Return how much of each layer becomes zero so that all together lose `ratio` and the loss rises least.

        Example:
            >>> rows = [("a", 0.3, 0.1), ("a", 0.5, 0.2), ("a", 0.7, 0.3), ("b", 0.3, 1.0), ("b", 0.5, 2.0), ("b", 0.7, 9.0)]
            >>> changes = (LayerChange(layer=n, num_numbers=10, kind="prune", strength=s, loss_change=c) for n, s, c in rows)
            >>> Sensitivity(changes=tuple(changes)).layer_ratios(0.5)
            {'a': 0.7, 'b': 0.3}
        """
        sizes = {one.layer: one.num_numbers for one in self.changes if one.kind == "prune"}
        strengths = sorted({one.strength for one in self.changes if one.kind == "prune"})
        changes = [self.by_layer("prune", strength) for strength in strengths]
        choices = [
            [
                Choice((1 - strength) * size, change[name])
                for strength, change in zip(strengths, changes, strict=True)
            ]
            for name, size in sizes.items()
        ]
        chosen = least_error(choices, (1 - ratio) * sum(sizes.values()) * (1 + 1e-9))
        if chosen is None:
            return dict.fromkeys(sizes, ratio)
        return {name: strengths[index] for name, index in zip(sizes, chosen, strict=True)}


def sensitivity_of(subject: Subject, calibration: Calibration) -> Sensitivity:
    """Return how much each hidden layer bears, the module as it was afterwards.

    Raises:
        UsageError: There is no hidden layer.
    """
    batches = calibration.batches[:_BATCHES]
    layers = [layer for layer in find_layers(subject.module, batches[0]) if layer.is_hidden]
    if not layers:
        raise UsageError(
            "a search treats the layers between embedding and head, and this model has none.",
            hint="kleiber compress RUN quantize:bits=8",
        )
    with evaluating(subject.module):
        before = mean_loss(subject.module, subject.task, batches)
        changes = [
            one.model_copy(update={"loss_change": max(0.0, one.loss_change - before)})
            for layer in layers
            for one in _losses(subject, layer, lambda: mean_loss(subject.module, subject.task, batches))
        ]
    return Sensitivity(changes=tuple(changes))


def _losses(subject: Subject, layer: Layer, loss: Callable[[], float]) -> Iterator[LayerChange]:
    """Yield the loss with one layer treated, at each strength; what comes back holds the loss itself."""
    param = dict(subject.module.named_parameters())[layer.name]
    saved = param.clone()
    try:
        for kind, strength, treated_RC in _treated(saved.flatten(1), is_linear=layer.kind == "linear"):
            param.copy_(treated_RC.view_as(param))
            yield LayerChange(
                layer=layer.name,
                num_numbers=param.numel(),
                kind=kind,
                strength=strength,
                loss_change=loss(),
            )
    finally:
        param.copy_(saved)


def _treated(W_RC: Tensor, *, is_linear: bool) -> Iterator[tuple[Kind, float, Tensor]]:
    for ratio in STRENGTHS["prune"]:
        yield "prune", ratio, _pruned(W_RC, ratio)
    for bits in STRENGTHS["quantize"]:
        grid = Grid(int(bits), None if bits == 8 else GROUP_SIZE, is_symmetric=bits > 4)
        yield "quantize", bits, round_to_nearest(W_RC, grid).dense()
    if is_linear:
        left_RK, right_KC, _ = factors(W_RC)
        for ratio in STRENGTHS["factorize"]:
            K = rank_of_ratio((W_RC.shape[0], W_RC.shape[1]), ratio)
            yield "factorize", ratio, (left_RK[:, :K] @ right_KC[:K]).float()


def _pruned(W_RC: Tensor, ratio: float) -> Tensor:
    """Return a weight whose smallest entries are 0."""
    num = int(ratio * W_RC.numel())
    order = W_RC.abs().flatten().argsort(stable=True)
    pruned = W_RC.flatten().clone()
    pruned[order[:num]] = 0
    return pruned.view_as(W_RC)
