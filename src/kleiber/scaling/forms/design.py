"""What a form is evaluated at: the inputs of every row as logarithms less their means.

Shapes used in this folder: B parameter vectors, R rows, P points, K parameters, T terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["INPUTS", "Array", "Design", "Points", "rule_of_thumb_flops"]

Array = npt.NDArray[np.float64]

Points = Mapping[str, Array]
"""Values of inputs by name, each [P] and > 0."""

INPUTS = {
    "N": "parameters, by the law's convention",
    "D": "training tokens, repeats included",
    "C": "training compute [FLOP]: as the rows count it, else 6 N D",
    "U": "different training tokens",
    "S": "active parameters / all parameters of a mixture of experts",
}
"""What forms are functions of."""


@dataclass(frozen=True)
class Design:
    """Logarithms of the inputs less their means, so that a term's level and its exponent are nearly independent."""

    logs: Mapping[str, Array]
    """By input, each [R]; they sum to 0."""
    means: Mapping[str, float]
    """Of the logarithms."""

    @classmethod
    def of(cls, points: Points) -> Design:
        """Return the design of positive inputs.

        Example:
            >>> design = Design.of({"N": np.array([1.0, np.e**2])})
            >>> design.means["N"], design.logs["N"].tolist()
            (1.0, [-1.0, 1.0])
        """
        logs = {name: np.log(np.asarray(values, dtype=np.float64)) for name, values in points.items()}
        means = {name: float(values.mean()) for name, values in logs.items()}
        return cls({name: values - means[name] for name, values in logs.items()}, means)

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.logs.values())))


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
