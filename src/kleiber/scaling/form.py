"""The Chinchilla form, for many parameter vectors at once.

Shapes: B parameter vectors, R rows, K = 5 parameters. Sizes and tokens come as centred logarithms,
so that the level of a term and its exponent are nearly independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "COEFFICIENTS",
    "Array",
    "Design",
    "coefficients_of",
    "log_loss_and_jacobian",
    "predict_loss",
    "rule_of_thumb_flops",
]

Array = npt.NDArray[np.float64]

COEFFICIENTS = ("E", "A", "B", "alpha", "beta")
"""Of L(N, D) = E + A / N^alpha + B / D^beta, in the order of every coefficient vector."""

_ZERO_E = 1e-6
"""Below this part of the loss E is called 0: no row can tell them apart."""


@dataclass(frozen=True)
class Design:
    """Sizes and tokens of the rows as logarithms less their means."""

    log_n: Array
    log_d: Array
    mean_log_n: float
    mean_log_d: float

    @classmethod
    def of(cls, num_params: Array, num_tokens: Array) -> Design:
        """Return the design of positive sizes and tokens."""
        n, d = np.log(num_params), np.log(num_tokens)
        return cls(n - n.mean(), d - d.mean(), float(n.mean()), float(d.mean()))


def log_loss_and_jacobian(theta_BK: Array, design: Design) -> tuple[Array, Array]:
    """Return log L [B, R] and its derivatives [B, R, K] by log-sum-exp.

    Args:
        theta_BK: log of the three terms E, A, B at the design's mean, then alpha and beta.
        design: The rows.
    """
    e, a, b, alpha, beta = (theta_BK[:, k, None] for k in range(5))
    terms = np.stack(np.broadcast_arrays(e, a - alpha * design.log_n, b - beta * design.log_d), axis=-1)
    top = terms.max(axis=-1)
    shares = np.exp(terms - top[..., None])
    total = shares.sum(axis=-1)
    shares /= total[..., None]
    slopes = (-design.log_n * shares[..., 1], -design.log_d * shares[..., 2])
    return top + np.log(total), np.concatenate([shares, np.stack(slopes, axis=-1)], axis=-1)


def coefficients_of(theta_BK: Array, design: Design) -> Array:
    """Return E, A, B, alpha, beta of uncentred sizes and tokens [B, K]."""
    e, a, b, alpha, beta = theta_BK.T
    terms = np.exp(theta_BK[:, :3])
    E = np.where(terms[:, 0] < _ZERO_E * terms.sum(axis=1), 0.0, np.exp(e))
    A, B = np.exp(a + alpha * design.mean_log_n), np.exp(b + beta * design.mean_log_d)
    return np.stack([E, A, B, alpha, beta], axis=1)


def predict_loss(coefficients_BK: Array, num_params: Array | float, num_tokens: Array | float) -> Array:
    """Return the loss of every coefficient vector at every point [B, points].

    Example:
        >>> law = np.array([[1.69, 406.4, 410.7, 0.34, 0.28]])
        >>> round(float(predict_loss(law, 70e9, 1.4e12)[0, 0]), 3)  # Chinchilla itself
        1.937
    """
    E, A, B, alpha, beta = (coefficients_BK[:, k, None] for k in range(5))
    n, d = np.log(np.atleast_1d(num_params)), np.log(np.atleast_1d(num_tokens))
    loss: Array = E + A * np.exp(-alpha * n) + B * np.exp(-beta * d)
    return loss


def rule_of_thumb_flops(num_params: float, num_tokens: float) -> float:
    """Return the compute that a law takes a run for when nobody has counted it: C = 6 N D [FLOP].

    Two operations a parameter and token forward, four backward; attention scores, and what N does not count, are
    left out. It places runs beside each other; what a run costs is counted by `kleiber.cost`.

    Args:
        num_params: N, by the law's convention.
        num_tokens: D, repeats included.

    Source:
        Kaplan et al. 2020, arXiv:2001.08361, section 2.1; Hoffmann et al. 2022, arXiv:2203.15556, appendix F.

    Example:
        >>> f"{rule_of_thumb_flops(70e9, 1.4e12):.2e}"  # Chinchilla itself
        '5.88e+23'
    """
    return 6.0 * num_params * num_tokens
