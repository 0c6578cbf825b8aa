"""Variable projection: for given exponents the law is linear, so only the exponents are searched."""

from __future__ import annotations

import numpy as np

from kleiber.scaling.form import Array, Design

__all__ = ["EXPONENTS", "project"]

EXPONENTS = np.geomspace(0.03, 1.5, 32)
"""Grid of alpha and of beta; published exponents lie between 0.05 and 0.8."""


def project(design: Design, loss_BR: Array, weights_BR: Array, *, num_starts: int = 1) -> Array:
    """Return the best grid points, each with its non-negative least squares E, A, B.

    Errors are relative: each row is weighted by 1 / loss². The minimum over non-negative coefficients is the
    best of the unconstrained solutions on subsets of the terms whose members are all positive.

    Args:
        design: The rows.
        loss_BR: Losses, > 0.
        weights_BR: How much each row counts.
        num_starts: Grid points returned for each of the B, best first.

    Returns:
        Parameter vectors as `log_loss_and_jacobian` takes them [B, num_starts, K].

    Source:
        Golub and Pereyra 1973; for scaling laws arXiv:2603.22339.
    """
    gram, target = _normal_equations(design, loss_BR, weights_BR)
    terms, explained = _non_negative(gram, target)
    best = np.argsort(-explained.reshape(len(loss_BR), -1), axis=1)[:, :num_starts]
    terms = np.take_along_axis(terms.reshape(len(loss_BR), -1, 3), best[..., None], axis=1)
    floor = 1e-5 * loss_BR.min(axis=1)[:, None, None]  # a term of 0 has no logarithm to refine
    i, j = np.unravel_index(best, (len(EXPONENTS), len(EXPONENTS)))
    exponents = np.stack([EXPONENTS[i], EXPONENTS[j]], axis=-1)
    return np.concatenate([np.log(np.maximum(terms, floor)), exponents], axis=-1)


def _normal_equations(
    design: Design, loss_BR: Array, weights_BR: Array
) -> tuple[list[list[Array]], list[Array]]:
    """Return X'X and X'y of the terms (1, N^-alpha, D^-beta), each entry [B, alpha, beta]."""
    u = weights_BR / loss_BR**2
    x = np.exp(-np.outer(design.log_n, EXPONENTS))
    z = np.exp(-np.outer(design.log_d, EXPONENTS))
    one = u.sum(axis=1)[:, None, None]
    one_x, one_z = (u @ x)[:, :, None], (u @ z)[:, None, :]
    x_x, z_z = (u @ x**2)[:, :, None], (u @ z**2)[:, None, :]
    x_z = np.einsum("br,ri,rj->bij", u, x, z, optimize=True)
    y = u * loss_BR
    gram = [[one, one_x, one_z], [one_x, x_x, x_z], [one_z, x_z, z_z]]
    return gram, [y.sum(axis=1)[:, None, None], (y @ x)[:, :, None], (y @ z)[:, None, :]]


def _non_negative(gram: list[list[Array]], target: list[Array]) -> tuple[Array, Array]:
    """Return the non-negative solutions [..., 3] and the sum of squares that each explains."""
    shape = gram[1][2].shape
    best, explained = np.zeros((*shape, 3)), np.zeros(shape)
    for members in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        solution = [np.broadcast_to(value, shape) for value in _solve(gram, target, members)]
        gain = sum((s * target[k] for s, k in zip(solution, members, strict=True)), start=np.zeros(shape))
        better = (gain > explained) & np.all([s > 0 for s in solution], axis=0)
        explained = np.where(better, gain, explained)
        for k in range(3):
            value = solution[members.index(k)] if k in members else 0.0
            best[..., k] = np.where(better, value, best[..., k])
    return best, explained


def _solve(gram: list[list[Array]], target: list[Array], members: tuple[int, ...]) -> list[Array]:
    """Return the least squares solution on a subset of the terms, by Cramer's rule."""
    g = [[gram[i][j] for j in members] for i in members]
    t = [target[i] for i in members]
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # collinear terms give nan, which no comparison passes
        determinant = _determinant(g)
        return [
            _determinant([[t[i] if j == k else g[i][j] for j in range(len(t))] for i in range(len(t))])
            / determinant
            for k in range(len(t))
        ]


def _determinant(m: list[list[Array]]) -> Array:
    if len(m) == 1:
        return m[0][0]
    if len(m) == 2:
        return m[0][0] * m[1][1] - m[0][1] * m[1][0]
    minors = [[[row[j] for j in range(3) if j != k] for row in m[1:]] for k in range(3)]
    return (
        m[0][0] * _determinant(minors[0])
        - m[0][1] * _determinant(minors[1])
        + m[0][2] * _determinant(minors[2])
    )
