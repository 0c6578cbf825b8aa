"""What a model makes of each sample of a split: two models that saw the same samples compare sample by sample.

Legend: N samples: sequences of a text that is modelled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Scores"]


@dataclass(frozen=True)
class Scores:
    """Losses of the samples of a split in their order, and which were answered right.

    Example:
        >>> Scores(np.array([1.0, 4.0]), np.array([2.0, 1.0])).loss
        2.0
    """

    losses_N: npt.NDArray[np.float64]
    """The mean over each sample's tokens where it has several, as minimized, without what only regularizes."""
    weights_N: npt.NDArray[np.float64]
    """How much each counts in the mean: 1, or the tokens of a target."""
    hits_N: npt.NDArray[np.bool_] | None = None
    """Whether the likeliest answer was right; None where there is no right answer, or one for each token."""

    @property
    def loss(self) -> float:
        """The mean over the split."""
        return float((self.weights_N * self.losses_N).sum() / self.weights_N.sum())
