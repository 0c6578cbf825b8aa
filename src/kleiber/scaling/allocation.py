"""How Hoffmann's three approaches, and variable projection, would spend a budget: side by side.

The first two say nothing of the loss at other sizes: they give the best size for a budget, a power of compute, and no law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kleiber.errors import DataError, UsageError
from kleiber.runs import Convention, Row
from kleiber.scaling.fit import fit
from kleiber.scaling.forms import Array
from kleiber.scaling.law import Interval, Law, intervals_of
from kleiber.scaling.law_optimum import optima
from kleiber.scaling.noise import Labels
from kleiber.scaling.points import flops_of

__all__ = ["ALLOCATORS", "Allocation", "Budgeted", "allocations", "isoflop_slices"]

ALLOCATORS = {
    "projection": "the law by variable projection",
    "approach1": "Hoffmann's approach 1: the best run of each budget, a power law through them",
    "approach2": "Hoffmann's approach 2: a parabola of loss over log N at each budget",
    "approach3": "Hoffmann's approach 3: the law by L-BFGS from a grid of starts",
}

Find = Callable[[Array, Array], float | None]
"""From log sizes and losses of one budget to the best log size."""

_SLICE = 1.25
"""Largest over smallest compute of the runs of one budget."""
_LEAST_SLICES, _LEAST_RUNS = 3, 4
_BINS_PER_DECADE = 2

_SAYS = {
    "approach1": "Approach 1 takes the best of the runs that are there: where sizes lie far apart it jumps between them.",
    "approach2": "Approach 2 is biased: a slice is no parabola where alpha and beta differ or sizes are not centred on the "
    "optimum, which moved the exponent by 4.8% on average and up to sevenfold in arXiv:2603.22339.",
}


@dataclass(frozen=True)
class Budgeted:
    """The best run of one budget."""

    flops: float
    num_params: float
    num_tokens: float
    num_params_80: Interval


@dataclass(frozen=True)
class Allocation:
    """What one estimator says."""

    estimator: str
    size_exponent: float
    """The a of N_opt ~ C^a; a law without a power for its optimum is read at the ends of the budgets."""
    size_exponent_80: Interval
    budgets: tuple[Budgeted, ...]
    law: Law | None
    """What it was read off, where the estimator gives a law."""
    notes: tuple[str, ...] = ()


def allocations(
    rows: Sequence[Row],
    at_flops: Sequence[float],
    *,
    estimators: Sequence[str] = tuple(ALLOCATORS),
    convention: Convention = "total",
    num_bootstrap: int = 400,
    seed: int = 0,
) -> tuple[Allocation, ...]:
    """Return the allocation of each estimator, leaving none out silently: one that cannot be made says why in `notes`.

    Args:
        rows: Finished runs.
        at_flops: Budgets [FLOP].
        estimators: Keys of `ALLOCATORS`.
        convention: Which parameters N counts.
        num_bootstrap: Resamples for the intervals.
        seed: Of the bootstrap.

    Raises:
        UsageError: An unknown estimator, or a budget that is not positive.

    Source:
        Hoffmann et al. 2022, arXiv:2203.15556, sections 3.1 to 3.3.
    """
    for flops in at_flops:
        if not (math.isfinite(flops) and flops > 0):
            raise UsageError("A compute budget must be a positive number.", got=flops, hint="--at-flops 1e21")
    budgets = np.array(at_flops, dtype=np.float64)
    found = []
    for name in estimators:
        if name not in ALLOCATORS:
            raise UsageError(
                f"{name!r} is not an estimator. Known: {', '.join(ALLOCATORS)}.", hint="--estimators all"
            )
        try:
            if name in ("approach1", "approach2"):
                runs = _Runs.of(rows, convention)
                found.append(_without_law(name, runs, budgets, num_bootstrap=num_bootstrap, seed=seed))
            else:
                law = fit(rows, estimator=name, convention=convention, num_bootstrap=num_bootstrap, seed=seed)
                found.append(_of_law(law, budgets))
        except DataError as error:
            found.append(Allocation(name, math.nan, (math.nan, math.nan), (), None, (error.message,)))
    return tuple(found)


def _of_law(law: Law, budgets: Array) -> Allocation:
    beta_share = law.coefficients["beta"] / (law.coefficients["alpha"] + law.coefficients["beta"])
    names = law.shape.names
    alpha, beta = (law.refits[:, names.index(name)] for name in ("alpha", "beta"))
    point, refits = optima(law.shape, law.point, budgets), optima(law.shape, law.refits, budgets)
    return Allocation(
        law.estimator,
        beta_share,
        intervals_of(beta / (alpha + beta))["80"],
        _budgeted(budgets, point[0], refits),
        law,
    )


def _budgeted(budgets: Array, sizes: Array, samples_BC: Array) -> tuple[Budgeted, ...]:
    return tuple(
        Budgeted(flops, size, flops / 6 / size, intervals_of(samples)["80"])
        for flops, size, samples in zip(budgets.tolist(), sizes.tolist(), samples_BC.T, strict=True)
    )


@dataclass(frozen=True)
class _Runs:
    """Logarithms of compute and size, and the losses, each [R]."""

    log_c: Array
    log_n: Array
    loss: Array

    @classmethod
    def of(cls, rows: Sequence[Row], convention: Convention) -> _Runs:
        return cls(
            np.log([flops_of(row, convention) for row in rows]),
            np.log([row.num_params.by(convention) for row in rows]),
            np.array([row.loss for row in rows]),
        )


def _without_law(name: str, runs: _Runs, budgets: Array, *, num_bootstrap: int, seed: int) -> Allocation:
    """Fit a line of log N_opt over log C to the optima that each budget's rows show.

    The intervals come from how the optima scatter around the line: its residuals are drawn anew. Drawing runs anew
    would move a minimum, or a parabola through a few runs, to one side.
    """
    is_first = name == "approach1"
    parts = _bins(runs.log_c) if is_first else isoflop_slices(runs.log_c, runs.log_n)
    find = _lowest if is_first else _vertex
    found = [(float(runs.log_c[part].mean()), find(runs.log_n[part], runs.loss[part])) for part in parts]
    shown = np.array([(log_c, best) for log_c, best in found if best is not None])
    if len(shown) < _LEAST_SLICES:
        raise DataError(_too_few(name, len(parts)))
    to_line = np.linalg.pinv(np.stack([shown[:, 0], np.ones(len(shown))], axis=1))
    slope, level = to_line @ shown[:, 1]
    off = shown[:, 1] - level - slope * shown[:, 0]
    random = np.random.default_rng(seed)
    drawn = math.sqrt(len(off) / (len(off) - 2)) * random.choice(off, (num_bootstrap, len(off)))
    lines = (level + slope * shown[:, 0] + drawn) @ to_line.T
    logs = np.log(budgets)
    return Allocation(
        name,
        float(slope),
        intervals_of(lines[:, 0])["80"],
        _budgeted(budgets, np.exp(level + slope * logs), np.exp(lines[:, 1:] + lines[:, :1] * logs)),
        None,
        (_SAYS[name],),
    )


def _too_few(name: str, num_parts: int) -> str:
    if name == "approach1":
        return f"Approach 1 needs runs over at least {_LEAST_SLICES} half-decades of compute, and these cover {num_parts}."
    return (
        f"Approach 2 needs at least {_LEAST_SLICES} budgets at each of which {_LEAST_RUNS} sizes were trained with an optimum "
        f"between them; these rows have {num_parts} such budgets or their optima lie outside."
    )


def _bins(log_c: Array) -> list[Labels]:
    """Return the rows of each half decade of compute."""
    bins = np.floor(log_c / math.log(10) * _BINS_PER_DECADE)
    return [np.flatnonzero(bins == one) for one in np.unique(bins)]


def isoflop_slices(log_c: Array, log_n: Array) -> list[Labels]:
    """Return the rows of each budget at which several sizes were trained.

    Sorted by compute, a slice starts at its cheapest row and holds what is at most a quarter dearer.

    Example:
        >>> log_c = np.log([1.0, 1.1, 1.0, 1.2, 9.0, 2.0])
        >>> [part.tolist() for part in isoflop_slices(log_c, np.arange(6.0))]
        [[0, 2, 1, 3]]
    """
    order, found, k = np.argsort(log_c, kind="stable"), [], 0
    while k < len(order):
        part = order[k:][log_c[order[k:]] <= log_c[order[k]] + math.log(_SLICE)]
        if len(np.unique(log_n[part])) >= _LEAST_RUNS:
            found.append(part)
        k += len(part)
    return found


def _lowest(log_n: Array, loss: Array) -> float | None:
    return float(log_n[loss.argmin()])


def _vertex(log_n: Array, loss: Array) -> float | None:
    """Return where the parabola of log loss is lowest; None where that is outside of the sizes, or it opens downwards."""
    if len(np.unique(log_n)) < 3:
        return None
    middle = log_n.mean()
    bend, slope, _ = np.polyfit(log_n - middle, np.log(loss), 2)
    if bend <= 0:
        return None
    found = float(middle - slope / (2 * bend))
    return found if log_n.min() <= found <= log_n.max() else None
