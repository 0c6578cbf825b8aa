"""The step `factorize`: linear layers as the product of two thin ones.

Legend: R rows of a weight (outputs), C columns (inputs), K rank.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from kleiber.compress.calibration import Calibration
from kleiber.compress.in_order import solve_in_order
from kleiber.compress.layers import Layer, NamePatterns, find_layers, kept_notes, require_finite, select
from kleiber.compress.subject import Subject
from kleiber.errors import RecipeError
from kleiber.models.stored import Forms, LowRank, Masked
from kleiber.runs import Document

__all__ = ["Factorize", "factors", "rank_of_energy", "rank_of_ratio"]

_DAMPING = 1e-6
"""Of the mean square of the inputs, so that directions that none took have a finite cost."""


def factors(weight_RC: Tensor, second_CC: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors of a weight at full rank, of which the first K are the best ones of rank K, and what each is worth.

    With inputs x whose mean of x x^T is S S^T, the mean square of (W - W') x is |(W - W') S|^2. What is cut off W S by its
    singular values is therefore what the outputs lose.

    Args:
        weight_RC: W.
        second_CC: Mean of x x^T over the inputs; None takes all directions for equally common.

    Returns:
        Left factor [R, min(R, C)], right factor [min(R, C), C], and the share of the outputs' energy in each, descending,
        float64. Both factors carry the root of a singular value.

    Source:
        Wang et al. 2024, "SVD-LLM", arXiv:2403.07378, section 3.1.

    Example:
        >>> left, right, energy = factors(torch.diag(torch.tensor([1.0, 3.0])), torch.diag(torch.tensor([100.0, 1.0])))
        >>> (left[:, :1] @ right[:1]).round().tolist()  # the input of the smaller weight is ten times as large
        [[1.0, 0.0], [0.0, 0.0]]
    """
    W = weight_RC.double()
    S = torch.eye(W.shape[1], dtype=torch.float64) if second_CC is None else _root(second_CC.double())
    U_RK, sigma_K, V_KC = torch.linalg.svd(W @ S, full_matrices=False)
    root_K = sigma_K.sqrt()
    right_KC = torch.linalg.solve_triangular(S, root_K[:, None] * V_KC, upper=False, left=False)
    energy_K = sigma_K.square()
    return U_RK * root_K, right_KC, energy_K / energy_K.sum().clamp(min=torch.finfo(torch.float64).tiny)


def rank_of_ratio(shape: tuple[int, int], ratio: float) -> int:
    """Return the largest rank at which both factors together have at most a share of the weight's numbers; 1 at least.

    Example:
        >>> rank_of_ratio((64, 64), 0.5), rank_of_ratio((64, 64), 0.001)
        (16, 1)
    """
    R, C = shape
    return max(1, int(ratio * R * C / (R + C)))


def rank_of_energy(energy_K: Tensor, energy: float) -> int:
    """Return the least rank that keeps a share of the energy.

    Example:
        >>> rank_of_energy(torch.tensor([0.6, 0.3, 0.1]), 0.85)
        2
    """
    # What is left off is added up from the smallest on: a share of 1 - 1e-12 is not lost in rounding.
    lost_K = energy_K.flip(0).cumsum(0)
    return max(1, len(energy_K) - int((lost_K <= 1 - energy).sum()))


class Factorize(Document):
    """Each linear layer becomes two thin ones where that takes fewer numbers; what its outputs lose on calibration is least.

    Source:
        Wang et al. 2024, "SVD-LLM", arXiv:2403.07378.
    """

    help_line = "factorize:ratio=0.5   or factorize:energy=0.99"

    name: Literal["factorize"] = "factorize"
    ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of each layer's numbers that its two factors have at most."""
    energy: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Instead, the share of the mean square of each layer's outputs that is kept: the rank follows."""
    is_activation_aware: bool = Field(default=True, strict=True)
    """Whether outputs on calibration are kept, not the weights themselves."""
    layers: NamePatterns = ()
    """Patterns of names of the only layers that are treated; none is all hidden ones."""
    keep: NamePatterns = ()
    """Patterns of names of layers that are left as they are."""
    has_head: bool = Field(default=False, strict=True)
    """Whether the output projection is treated too."""

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.ratio is None) == (self.energy is None):
            raise ValueError(f"takes either a ratio or an energy, got {self.ratio} and {self.energy}")
        return self

    def apply(self, subject: Subject, calibration: Calibration) -> Subject:
        """Return the model in factors.

        Layers are treated in the order of use, each on the inputs that it gets from those before it.

        Raises:
            RecipeError: A layer is masked, quantized or in factors already, or holds NaN; a pattern of names matches nothing;
                two factors save nothing in any layer.
            DataError: Calibration gives a layer inputs that are not finite.
        """
        batch = calibration.batches[0]
        chosen = select(
            find_layers(subject.module, batch), only=self.layers, keep=self.keep, has_head=self.has_head
        )
        linear = tuple(layer for layer in chosen if layer.kind == "linear" and not layer.is_tied)
        _require_plain(subject.forms, linear)
        require_finite(subject.module, linear)
        solved = solve_in_order(subject.module, calibration, linear, self._factorized)
        if not solved.forms:
            raise RecipeError(
                "factorize: two factors take fewer numbers in none of the layers.",
                got=f"{len(chosen)} layers",
                hint=self.help_line,
            )
        kept = [layer.name for layer in chosen if layer.name not in solved.forms]
        notes = (*subject.notes, *kept_notes(subject.module, batch), *_notes(kept))
        return dataclasses.replace(
            subject,
            module=solved.module,
            forms={**subject.forms, **solved.forms},
            notes=tuple(dict.fromkeys(notes)),
        )

    def _factorized(self, layer: Layer, weight_RC: Tensor, second_CC: Tensor) -> Tensor | LowRank:
        left_RK, right_KC, energy_K = factors(weight_RC, second_CC if self.is_activation_aware else None)
        if self.ratio is not None:
            K = rank_of_ratio(layer.matrix_shape, self.ratio)
        else:
            K = rank_of_energy(energy_K, self.energy or 1.0)
        if K * sum(layer.matrix_shape) >= weight_RC.numel():
            return weight_RC
        return LowRank(left_RK[:, :K].float().contiguous(), right_KC[:K].float().contiguous())


def _root(second_CC: Tensor) -> Tensor:
    """Return the lower triangular S with S S^T the second moments, these made positive definite."""
    C = len(second_CC)
    mean_square = second_CC.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
    damping = _DAMPING
    while True:
        S_CC, failed = torch.linalg.cholesky_ex(
            second_CC + damping * mean_square * torch.eye(C, dtype=torch.float64)
        )
        if not failed:
            root_CC: Tensor = S_CC
            return root_CC
        damping *= 10


def _require_plain(forms: Forms, layers: Sequence[Layer]) -> None:
    for layer in layers:
        form = forms.get(layer.name)
        if form is None:
            continue
        if isinstance(form, Masked):
            what, why = (
                "has zeros that are to stay, and a product of two factors has none",
                "prune or factorize, not both",
            )
        elif isinstance(form, LowRank):
            what, why = "is in two factors already", "once, with a smaller ratio"
        else:
            what, why = "is quantized, and codes were chosen for the whole weight", "factorize, then quantize"
        raise RecipeError(f"factorize comes first: {layer.name} {what}.", hint=why)


def _notes(kept: Sequence[str]) -> tuple[str, ...]:
    if not kept:
        return ()
    named = ", ".join(kept[:3]) + (", ..." if len(kept) > 3 else "")
    reason = "they are no linear layers, or two factors would not be smaller"
    return (f"Not factorized: {len(kept)} layers ({named}), for {reason}.",)
