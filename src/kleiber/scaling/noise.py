"""How far a single run falls from the law: seed noise from repeats, misfit from what remains."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kleiber.runs import Document
from kleiber.scaling.forms import Array

__all__ = ["MISFIT_FLOOR_FRAC", "Groups", "Labels", "Noise", "measure_noise"]

Labels = npt.NDArray[np.intp]


MISFIT_FLOOR_FRAC = 0.002
"""A smaller misfit is not believed: the best published forecast of a large run was this far off."""


class Groups:
    """Which rows share a size, a trunk, and a cell, as labels from 0.

    A cell has one size and one number of tokens, and one of whatever else the rows differ in on purpose (`others`).
    """

    def __init__(
        self,
        num_params: Array,
        num_tokens: Array,
        trunks: list[str],
        others: Sequence[tuple[float, ...]] | None = None,
    ) -> None:
        self.size_R = _labels(num_params)
        self.trunk_R = _labels(np.array(trunks))
        cell = self.size_R * len(num_tokens) + _labels(num_tokens)
        if others:
            apart = {values: k for k, values in enumerate(dict.fromkeys(others))}
            cell = cell * len(apart) + np.array([apart[values] for values in others])
        self.cell_R = _labels(cell)

    @property
    def num_trunks(self) -> int:
        """Distinct trunks."""
        return int(self.trunk_R.max()) + 1

    @property
    def num_cells(self) -> int:
        """Distinct pairs of size and tokens."""
        return int(self.cell_R.max()) + 1


class Noise(Document):
    """Standard deviations of log loss, which are fractions of the loss.

    Example:
        >>> Noise(trunk_frac=0.003, run_frac=0.0, misfit_frac=0.004, num_repeats=4).total_frac
        0.005
    """

    trunk_frac: float
    """Between seeds, shared by the branches of a trunk."""
    run_frac: float
    """Between seeds, of each branch by itself."""
    misfit_frac: float
    """Between the law and the mean of the runs of one size and horizon; without repeats, all noise is here."""
    num_repeats: int
    """Degrees of freedom behind the seed noise; 0 when no run was repeated with another seed."""

    @property
    def seed_frac(self) -> float:
        """Between two runs that differ only by seed: the floor of every forecast's error."""
        return math.hypot(self.trunk_frac, self.run_frac)

    @property
    def total_frac(self) -> float:
        """Of one new run around the true law."""
        return math.hypot(self.seed_frac, self.misfit_frac)


def measure_noise(log_loss_R: Array, fitted_R: Array, groups: Groups, *, num_coefficients: int = 5) -> Noise:
    """Return the noise that repeats and residuals show.

    Seed noise is the spread inside cells, split into a part that a trunk's branches share and the rest as in a
    two-way analysis of variance. Misfit is the mean square of the cells' means around the law, less what seed noise puts
    there; it is never taken to be below `MISFIT_FLOOR_FRAC`. It is not divided by the freedom that the coefficients
    leave: what a smooth form cannot follow is no noise that the fit has swallowed a part of.

    Args:
        log_loss_R: Log of the measured losses.
        fitted_R: Log of the law's losses.
        groups: Labels of the rows.
        num_coefficients: Of the law.
    """
    count_C = np.bincount(groups.cell_R)
    deviation_R = log_loss_R - (np.bincount(groups.cell_R, log_loss_R) / count_C)[groups.cell_R]
    trunk, run, num_repeats = _seed_variances(deviation_R, count_C, groups)
    residual_C = np.bincount(groups.cell_R, log_loss_R - fitted_R) / count_C
    freedom = max(1, len(residual_C) - num_coefficients)
    of_seeds = freedom * (trunk + run) / float(count_C.mean())
    misfit = max(0.0, float(residual_C @ residual_C) - of_seeds) / len(residual_C)
    return Noise(
        trunk_frac=math.sqrt(trunk),
        run_frac=math.sqrt(run),
        misfit_frac=max(math.sqrt(misfit), MISFIT_FLOOR_FRAC),
        num_repeats=num_repeats,
    )


def _seed_variances(deviation_R: Array, count_C: Labels, groups: Groups) -> tuple[float, float, int]:
    """Return the variances between trunks and between a trunk's runs, and the degrees of freedom of the first."""
    repeated = count_C[groups.cell_R] > 1
    if not repeated.any():
        return 0.0, 0.0, 0
    trunk_R, deviation_R = _labels(groups.trunk_R[repeated]), deviation_R[repeated]
    runs_T = np.bincount(trunk_R)
    mean_T = np.bincount(trunk_R, deviation_R) / runs_T
    all_freedom = int((count_C[count_C > 1] - 1).sum())
    num_sizes = len(np.unique(groups.size_R[repeated]))
    trunk_freedom = max(1, min(all_freedom, len(runs_T) - num_sizes))
    run_freedom = all_freedom - trunk_freedom
    within_R = deviation_R - mean_T[trunk_R]
    run = float(within_R @ within_R) / run_freedom if run_freedom > 0 else 0.0
    trunk = max(0.0, float(mean_T @ mean_T) / trunk_freedom - run / float(runs_T.mean()))
    return trunk, run, trunk_freedom


def _labels(values: npt.NDArray[np.generic]) -> Labels:
    labels: Labels = np.unique(values, return_inverse=True)[1].ravel()
    return labels
