"""Variable projection: for given exponents a law is linear, so only the exponents are searched."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kleiber.scaling.forms.design import Array

__all__ = ["Feature", "project"]


class Feature(NamedTuple):
    """What a linear coefficient is multiplied with, for every value of the exponents that it depends on."""

    axes: tuple[int, ...]
    """Axes of the grid; two features may share one."""
    values: Array
    """[the lengths of those axes..., R]."""


def project(
    features: Sequence[Feature],
    shape: tuple[int, ...],
    value_BR: Array,
    weights_BR: Array,
    *,
    num_starts: int = 1,
) -> tuple[Array, npt.NDArray[np.intp]]:
    """Return the best points of a grid, each with its non-negative least squares coefficients.

    Errors are relative: each row is weighted by 1 / value². The minimum over non-negative coefficients is the
    best of the unconstrained solutions on subsets of the features whose members are all positive.

    Args:
        features: T of them.
        shape: Of the grid, one axis a non-linear coefficient.
        value_BR: What is fitted, > 0.
        weights_BR: How much each row counts.
        num_starts: Grid points returned for each of the B, best first.

    Returns:
        Coefficients [B, num_starts, T] and flat places in the grid [B, num_starts].

    Source:
        Golub and Pereyra 1973; for scaling laws arXiv:2603.22339.
    """
    gram, target = _normal_equations(features, shape, value_BR, weights_BR)
    found, explained = _non_negative(gram, target, (len(value_BR), *shape))
    order = np.argsort(-explained.reshape(len(value_BR), -1), axis=1)[:, :num_starts]
    found = found.reshape(len(value_BR), -1, len(features))
    return np.take_along_axis(found, order[..., None], axis=1), order


def _normal_equations(
    features: Sequence[Feature], shape: tuple[int, ...], value_BR: Array, weights_BR: Array
) -> tuple[list[list[Array]], list[Array]]:
    """Return X'X and X'y, each entry with the axes [B, grid...], of length 1 where it does not change."""
    u_BR = weights_BR / value_BR**2
    gram: list[list[Array]] = [[u_BR] * len(features) for _ in features]
    for i, j in itertools.combinations_with_replacement(range(len(features)), 2):
        gram[i][j] = gram[j][i] = _weighted_product(u_BR, (features[i], features[j]), shape)
    return gram, [_weighted_product(u_BR * value_BR, (one,), shape) for one in features]


def _weighted_product(u_BR: Array, factors: tuple[Feature, ...], shape: tuple[int, ...]) -> Array:
    """Return sum over rows of u times the factors, with the axes [B, grid...]."""
    rows, first = len(shape) + 1, 0
    used = sorted({axis for one in factors for axis in one.axes})
    operands: list[Any] = [u_BR, [first, rows]]
    for one in factors:
        operands += [one.values, [*(axis + 1 for axis in one.axes), rows]]
    product: Array = np.einsum(*operands, [first, *(axis + 1 for axis in used)], optimize=True)
    return product.reshape(len(u_BR), *(n if axis in used else 1 for axis, n in enumerate(shape)))


def _non_negative(
    gram: list[list[Array]], target: list[Array], shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """Return the non-negative solutions [..., T] and the sum of squares that each explains."""
    num_terms = len(target)
    best, explained = np.zeros((*shape, num_terms)), np.zeros(shape)
    subsets = (
        members
        for size in range(1, num_terms + 1)
        for members in itertools.combinations(range(num_terms), size)
    )
    for members in subsets:
        solution = [np.broadcast_to(value, shape) for value in _solve(gram, target, members)]
        with np.errstate(invalid="ignore"):  # of collinear features
            gain = sum((s * target[k] for s, k in zip(solution, members, strict=True)), start=np.zeros(shape))
        better = np.isfinite(gain) & (gain > explained) & np.all([s > 0 for s in solution], axis=0)
        explained = np.where(better, gain, explained)
        for k in range(num_terms):
            value = solution[members.index(k)] if k in members else 0.0
            best[..., k] = np.where(better, value, best[..., k])
    return best, explained


def _solve(gram: list[list[Array]], target: list[Array], members: tuple[int, ...]) -> list[Array]:
    """Return the least squares solution on a subset of the features, by Cramer's rule."""
    g = [[gram[i][j] for j in members] for i in members]
    t = [target[i] for i in members]
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # collinear features give nan, which no comparison passes
        determinant = _determinant(g)
        return [
            _determinant([[t[i] if j == k else g[i][j] for j in range(len(t))] for i in range(len(t))])
            / determinant
            for k in range(len(t))
        ]


def _determinant(m: list[list[Array]]) -> Array:
    """Expand along the first row; a law has five terms at most."""
    if len(m) == 1:
        return m[0][0]
    if len(m) == 2:
        return m[0][0] * m[1][1] - m[0][1] * m[1][0]
    minors = ([[row[j] for j in range(len(m)) if j != k] for row in m[1:]] for k in range(len(m)))
    return sum(
        ((-1) ** k * m[0][k] * _determinant(minor) for k, minor in enumerate(minors)),
        start=np.zeros(()),
    )
