"""Laws of hyper-parameters: the best learning rate and batch over size and tokens, from sweeps of both.

Loss near its minimum is a bowl in (log rate, log batch). Each size and number of tokens that was swept gives the bowl's
lowest point; a power law goes through these points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kleiber.errors import DataError, UsageError
from kleiber.scaling.forms import Array
from kleiber.scaling.law import Intervals, intervals_of
from kleiber.scaling.table import Columns, read_table
from kleiber.scaling.where import Condition, number_of

__all__ = [
    "NEAR_FRAC",
    "BestSettings",
    "HyperparameterLaw",
    "Sweep",
    "best_settings",
    "fit_hyperparameters",
    "read_sweeps",
]

NEAR_FRAC = 0.01
"""Several times the spread of seeds, and still near the bowl's ground."""
_LEAST_NEAR = 12
"""Twice the coefficients of a bowl; where fewer are near, the nearest so many are taken."""
_LEAST_SWEEPS = 4


@dataclass(frozen=True)
class Sweep:
    """Runs of one size and number of tokens, each array [R]."""

    num_params: float
    num_tokens: float
    learning_rate: Array
    batch: Array
    """Of whatever unit the table has: a factor moves no exponent."""
    loss: Array


@dataclass(frozen=True)
class BestSettings:
    """Where a sweep's loss is lowest."""

    learning_rate: float
    batch: float
    is_surface: bool
    """From the vertex of the bowl; else the lowest run, for the bowl's vertex lies outside of what was tried."""


@dataclass(frozen=True)
class HyperparameterLaw:
    """rate = level N^by_size D^by_tokens, batch = batch_level D^batch_by_tokens."""

    coefficients: dict[str, float]
    """`rate_level rate_by_size rate_by_tokens batch_level batch_by_tokens`."""
    intervals: dict[str, Intervals]
    num_sweeps: int
    num_surfaces: int
    """Sweeps whose best is a vertex."""

    def learning_rate(self, num_params: float, num_tokens: float) -> float:
        """Return the best learning rate of a run to come."""
        c = self.coefficients
        rate: float = c["rate_level"] * num_params ** c["rate_by_size"] * num_tokens ** c["rate_by_tokens"]
        return rate

    def batch(self, num_tokens: float) -> float:
        """Return its best batch, in the sweeps' unit."""
        batch: float = self.coefficients["batch_level"] * num_tokens ** self.coefficients["batch_by_tokens"]
        return batch


def read_sweeps(
    paths: Sequence[Path],
    learning_rate: str,
    batch: str,
    columns: Columns | None = None,
    *,
    where: str | None = None,
) -> list[Sweep]:
    """Return the sweeps of tables, one for each size and number of tokens.

    Args:
        paths: Tables.
        learning_rate: The column that holds it, or a key of `extra`.
        batch: Likewise.
        columns: Which other column is which.
        where: A `Condition` on rows: runs that diverged say nothing of the bowl.

    Raises:
        DataError: A cell is no positive number.
        UsageError: There is no such column.
    """
    condition = Condition(where) if where else None
    found: dict[tuple[float, float], list[tuple[float, float, float]]] = {}
    for path in paths:
        for line in read_table(path, columns or Columns(), ("params", "tokens", "loss")):
            if condition and not condition(line.every, line.where):
                continue
            values = []
            for name in (learning_rate, batch):
                if name not in line.every:
                    raise UsageError(f"{line.where} has no column {name!r}; it has {', '.join(line.every)}.")
                value = number_of(line.every[name])
                if value is None or not (math.isfinite(value) and value > 0):
                    raise DataError(f"{line.where}: {name} must be a positive number.", got=line.every[name])
                values.append(value)
            key = (line.number("params"), line.number("tokens"))
            found.setdefault(key, []).append((*values, line.number("loss")))  # type: ignore[arg-type] # three numbers
    return [Sweep(*key, *np.array(runs).T) for key, runs in sorted(found.items())]


def best_settings(
    sweep: Sweep, weights_R: Array | None = None, *, near_frac: float = NEAR_FRAC
) -> BestSettings:
    """Return the lowest point of the quadratic surface through the runs near the lowest loss.

    Args:
        sweep: Of at least `_LEAST_NEAR` runs; of fewer, the lowest run is the answer.
        weights_R: How often each run counts; None counts each once.
        near_frac: Runs whose loss is at most so much above the lowest show the bowl.
    """
    weights = np.ones(len(sweep.loss)) if weights_R is None else weights_R
    used = np.flatnonzero(weights > 0)
    order = used[np.argsort(sweep.loss[used])]
    lowest = int(order[0])
    near = order[: max(_LEAST_NEAR, int((sweep.loss[order] <= (1 + near_frac) * sweep.loss[lowest]).sum()))]
    x, y = np.log(sweep.learning_rate[near]), np.log(sweep.batch[near])
    vertex = _vertex(x, y, np.log(sweep.loss[near]), weights[near]) if len(near) >= _LEAST_NEAR else None
    if vertex is None:
        return BestSettings(float(sweep.learning_rate[lowest]), float(sweep.batch[lowest]), is_surface=False)
    return BestSettings(math.exp(vertex[0]), math.exp(vertex[1]), is_surface=True)


def _vertex(x: Array, y: Array, log_loss: Array, weights: Array) -> tuple[float, float] | None:
    """Return the minimum of a quadratic surface; None where it has none within the runs."""
    x_0, y_0 = float(x.mean()), float(y.mean())
    u, v = x - x_0, y - y_0
    surface = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)
    root = np.sqrt(weights)
    (_, b_u, b_v, a_uu, a_uv, a_vv), *_ = np.linalg.lstsq(
        surface * root[:, None], log_loss * root, rcond=None
    )
    hessian = np.array([[2 * a_uu, a_uv], [a_uv, 2 * a_vv]])
    if np.linalg.eigvalsh(hessian)[0] <= 0:
        return None
    u_best, v_best = np.linalg.solve(hessian, [-b_u, -b_v])
    is_inside = u.min() <= u_best <= u.max() and v.min() <= v_best <= v.max()
    return (x_0 + float(u_best), y_0 + float(v_best)) if is_inside else None


def fit_hyperparameters(
    sweeps: Sequence[Sweep], *, near_frac: float = NEAR_FRAC, num_bootstrap: int = 400, seed: int = 0
) -> HyperparameterLaw:
    """Return the power laws of the best learning rate and batch.

    Intervals come from resampling sweeps, and within each its runs.

    Args:
        sweeps: Of at least four different sizes and numbers of tokens, at least two of each.
        near_frac: As `best_settings` takes it.
        num_bootstrap: Refits.
        seed: Of the bootstrap.

    Raises:
        DataError: Too few sweeps, or of one size or number of tokens.

    Source:
        The form of Step Law, Li et al. 2025, arXiv:2503.04715: rate = 1.79 N^-0.713 D^0.307, batch = 0.58 D^0.571 tokens.
    """
    n, d = (np.log([getattr(one, name) for one in sweeps]) for name in ("num_params", "num_tokens"))
    if len(sweeps) < _LEAST_SWEEPS or len(np.unique(n)) < 2 or len(np.unique(d)) < 2:
        raise DataError(
            f"A law of hyper-parameters needs at least {_LEAST_SWEEPS} sweeps over two sizes and two numbers of tokens.",
            got=len(sweeps),
        )
    best = [best_settings(sweep, near_frac=near_frac) for sweep in sweeps]
    point = _power_laws(n, d, best)
    random = np.random.default_rng(seed)
    drawn: list[Array] = []
    while len(drawn) < num_bootstrap:
        chosen = random.integers(len(sweeps), size=len(sweeps))
        if (
            len(np.unique(n[chosen])) < 2
            or len(np.unique(d[chosen])) < 2
            or len(np.unique(chosen)) < _LEAST_SWEEPS
        ):
            continue
        again = [
            best_settings(sweeps[k], _counts(random, len(sweeps[k].loss)), near_frac=near_frac)
            for k in chosen
        ]
        drawn.append(_power_laws(n[chosen], d[chosen], again))
    names = ("rate_level", "rate_by_size", "rate_by_tokens", "batch_level", "batch_by_tokens")
    samples = np.array(drawn)
    return HyperparameterLaw(
        dict(zip(names, point.tolist(), strict=True)),
        {name: intervals_of(samples[:, k]) for k, name in enumerate(names)},
        len(sweeps),
        sum(one.is_surface for one in best),
    )


def _counts(random: np.random.Generator, num_runs: int) -> Array:
    """Return how often each of so many runs is drawn."""
    return random.multinomial(num_runs, np.full(num_runs, 1 / num_runs)).astype(np.float64)


def _power_laws(n: Array, d: Array, best: Sequence[BestSettings]) -> Array:
    """Return the least squares of both logarithms [5]."""
    ones = np.ones_like(n)
    rate, *_ = np.linalg.lstsq(
        np.stack([ones, n, d], axis=1), np.log([one.learning_rate for one in best]), rcond=None
    )
    batch, *_ = np.linalg.lstsq(np.stack([ones, d], axis=1), np.log([one.batch for one in best]), rcond=None)
    return np.array([np.exp(rate[0]), rate[1], rate[2], np.exp(batch[0]), batch[1]])
