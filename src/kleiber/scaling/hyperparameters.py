"""Laws of hyper-parameters: the best learning rate and batch over size and tokens, from sweeps of both.

Loss near its minimum is a bowl in (log rate, log batch). Each size and number of tokens that was swept gives the bowl's
lowest point; a power law goes through these points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kleiber.runs import Convention, Document
from kleiber.scaling.forms import Array
from kleiber.scaling.law import Intervals, intervals_of
from kleiber.scaling.sweeps import Sweep, check_sweeps, is_determined

__all__ = [
    "COEFFICIENTS",
    "NEAR_FRAC",
    "BestSettings",
    "HyperparameterLaw",
    "HyperparameterLaws",
    "best_settings",
    "fit_hyperparameters",
    "fit_shared_bowl",
]

NEAR_FRAC = 0.01
"""Several times the spread of seeds, and still near the bowl's ground."""
_LEAST_NEAR = 12
"""Twice the coefficients of a bowl; where fewer are near, the nearest so many are taken."""
_LEAST_SWEEPS = 4
_MOST_TRIES = 4
"""Draws for each refit: where most of them show no bowl, there is none to trust."""
COEFFICIENTS = (
    "rate_level",
    "rate_by_size",
    "rate_by_tokens",
    "batch_level",
    "batch_by_size",
    "batch_by_tokens",
)


@dataclass(frozen=True)
class BestSettings:
    """Where a sweep's loss is lowest."""

    learning_rate: float
    batch: float
    is_surface: bool
    """From the vertex of the bowl; else the lowest run, for the bowl's vertex lies outside of what was tried."""


class HyperparameterLaw(Document):
    """rate = rate_level N^rate_by_size D^rate_by_tokens, batch = batch_level N^batch_by_size D^batch_by_tokens."""

    coefficients: dict[str, float]
    """By `COEFFICIENTS`; without `batch_by_size` the batch is of tokens alone."""
    intervals: dict[str, Intervals]
    samples: tuple[tuple[float, ...], ...]
    """The coefficients of each refit, in their order."""
    num_sweeps: int
    num_surfaces: int
    """Sweeps whose best is a vertex."""

    def learning_rate(self, num_params: float, num_tokens: float) -> float:
        """Return the best learning rate of a run to come."""
        return _at(self.coefficients, "rate", num_params, num_tokens)

    def batch(self, num_params: float, num_tokens: float) -> float:
        """Return its best batch, in the sweeps' unit."""
        return _at(self.coefficients, "batch", num_params, num_tokens)

    def intervals_at(self, num_params: float, num_tokens: float) -> dict[str, Intervals]:
        """Return the intervals of both, `learning_rate` and `batch`, from the refits."""
        refits = [dict(zip(self.coefficients, sample, strict=True)) for sample in self.samples]
        return {
            name: intervals_of(np.array([_at(one, stem, num_params, num_tokens) for one in refits]))
            for name, stem in (("learning_rate", "rate"), ("batch", "batch"))
        }


class HyperparameterLaws(Document):
    """Both readings of the same sweeps, as `kleiber fit --form hyperparameters -o` writes them."""

    version: Literal[1] = 1
    form: Literal["hyperparameters"] = "hyperparameters"
    convention: Convention
    """Which parameters N counts."""
    max_params: float
    """Of the largest sweep."""
    max_tokens: float
    """Of the longest."""
    each: HyperparameterLaw
    """By each sweep's own best."""
    shared: HyperparameterLaw | None
    """By one bowl for all; None where none fits."""
    notes: tuple[str, ...] = ()


def _at(coefficients: dict[str, float], stem: str, num_params: float, num_tokens: float) -> float:
    by_size = coefficients.get(f"{stem}_by_size", 0.0)
    value: float = num_params**by_size * num_tokens ** coefficients[f"{stem}_by_tokens"]
    return coefficients[f"{stem}_level"] * value


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
        DataError: As `check_sweeps`.

    Source:
        The form of Step Law, Li et al. 2025, arXiv:2503.04715: rate = 1.79 N^-0.713 D^0.307, batch = 0.58 D^0.571 tokens.
    """
    check_sweeps(sweeps)
    n, d = _axes(sweeps)
    best = [best_settings(sweep, near_frac=near_frac) for sweep in sweeps]
    point = _power_laws(n, d, best)
    random = np.random.default_rng(seed)
    drawn: list[Array] = []
    while len(drawn) < num_bootstrap:
        chosen = random.integers(len(sweeps), size=len(sweeps))
        if len(np.unique(chosen)) < _LEAST_SWEEPS or not is_determined(n[chosen], d[chosen]):
            continue
        again = [
            best_settings(sweeps[k], _counts(random, len(sweeps[k].loss)), near_frac=near_frac)
            for k in chosen
        ]
        drawn.append(_power_laws(n[chosen], d[chosen], again))
    names = tuple(name for name in COEFFICIENTS if name != "batch_by_size")
    return _law(names, point, np.array(drawn), len(sweeps), sum(one.is_surface for one in best))


def fit_shared_bowl(
    sweeps: Sequence[Sweep], *, near_frac: float = NEAR_FRAC, num_bootstrap: int = 400, seed: int = 0
) -> HyperparameterLaw | None:
    """Return the power laws by one bowl of the same curvature for all sweeps; None where no bowl fits them.

    Its lowest point moves linearly in log size and log tokens, the batch's too. Intervals come from resampling sweeps.

    Args:
        sweeps: As `fit_hyperparameters` takes them.
        near_frac: Runs whose loss is at most so much above their sweep's lowest show the bowl.
        num_bootstrap: Refits.
        seed: Of the bootstrap.

    Raises:
        DataError: As `check_sweeps`.
    """
    check_sweeps(sweeps)
    n, d = _axes(sweeps)
    point = _shared_bowl(sweeps, near_frac)
    if point is None:
        return None
    random = np.random.default_rng(seed)
    drawn: list[Array] = []
    for _ in range(_MOST_TRIES * num_bootstrap):
        chosen = random.integers(len(sweeps), size=len(sweeps))
        if not is_determined(n[chosen], d[chosen]):
            continue
        again = _shared_bowl([sweeps[k] for k in chosen], near_frac)
        if again is not None:
            drawn.append(again)
        if len(drawn) == num_bootstrap:
            return _law(COEFFICIENTS, point, np.array(drawn), len(sweeps), len(sweeps))
    return None


def _shared_bowl(sweeps: Sequence[Sweep], near_frac: float) -> Array | None:
    """Return the coefficients [6] by linear least squares, each sweep counting alike; None where it is no bowl."""
    log_n, log_d = _axes(sweeps)
    rows, losses = [], []
    for k, one in enumerate(sweeps):
        near = one.loss <= (1 + near_frac) * one.loss.min()
        x, y = np.log(one.learning_rate[near]), np.log(one.batch[near])
        own = np.zeros((len(x), len(sweeps)))
        own[:, k] = 1
        n, d = log_n[k] - log_n.mean(), log_d[k] - log_d.mean()
        bowl = np.stack([x * x, x * y, y * y, x, n * x, d * x, y, n * y, d * y], axis=1)
        weight = len(x) ** -0.5
        rows.append(weight * np.hstack([own, bowl]))
        losses.append(weight * np.log(one.loss[near]))
    solved, *_ = np.linalg.lstsq(np.concatenate(rows), np.concatenate(losses), rcond=None)
    xx, xy, yy, *slopes = solved[len(sweeps) :]
    hessian = np.array([[2 * xx, xy], [xy, 2 * yy]])
    if np.linalg.eigvalsh(hessian)[0] <= 0:
        return None
    (rate, rate_n, rate_d), (batch, batch_n, batch_d) = -np.linalg.solve(
        hessian, np.array(slopes).reshape(2, 3)
    )
    mean_n, mean_d = float(log_n.mean()), float(log_d.mean())
    rate_level = math.exp(rate - rate_n * mean_n - rate_d * mean_d)
    batch_level = math.exp(batch - batch_n * mean_n - batch_d * mean_d)
    return np.array([rate_level, rate_n, rate_d, batch_level, batch_n, batch_d])


def _axes(sweeps: Sequence[Sweep]) -> tuple[Array, Array]:
    """Return log size and log tokens of each sweep."""
    return np.log([one.num_params for one in sweeps]), np.log([one.num_tokens for one in sweeps])


def _law(
    names: Sequence[str], point: Array, samples: Array, num_sweeps: int, num_surfaces: int
) -> HyperparameterLaw:
    return HyperparameterLaw(
        coefficients=dict(zip(names, point.tolist(), strict=True)),
        intervals={name: intervals_of(samples[:, k]) for k, name in enumerate(names)},
        samples=tuple(tuple(row) for row in samples.tolist()),
        num_sweeps=num_sweeps,
        num_surfaces=num_surfaces,
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
