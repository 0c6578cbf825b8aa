"""Quality of two models on the same samples, with paired bootstrap intervals.

Legend: N samples, V values of a sample, S resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kleiber.errors import DataError, DivergedError
from kleiber.runs import Estimate, TaskName
from kleiber.runs.receipt import QualityChange
from kleiber.tasks.paired import Scores

__all__ = ["paired_means", "quality_changes", "quality_loss"]

Floats = npt.NDArray[np.float64]
Measure = Callable[[Floats], Floats]

_NUM_RESAMPLES = 2000
_CHUNK = 2_000_000
"""Samples drawn at a time: 16 MB."""
_BOUNDS = (0.025, 0.975)
_MAX_LOSS = math.log(1e30)
"""Perplexity of a loss above says no more than that it is hopeless."""
_HITS: dict[TaskName, str] = {
    "classification": "accuracy",
    "contrastive": "image_to_text_recall_at_1",
}
_BY_TOKEN: tuple[TaskName, ...] = ("lm", "seq2seq")


def quality_changes(
    task: TaskName,
    before: Scores,
    after: Scores,
    *,
    engine: str,
    names: tuple[str, str] = ("original", "compressed model"),
    seed: int = 0,
) -> tuple[QualityChange, ...]:
    """Return the change of each measure of a task, the one that a gate goes by first.

    Args:
        task: Texts are judged by perplexity, classes and pairs by hits, values by their loss.
        before: Of the original.
        after: Of the same samples.
        engine: That answered.
        names: What messages call the two.
        seed: Of the resamples.

    Raises:
        DataError: The two are not of the same samples.
        DivergedError: A loss is not finite.
    """
    _require_pairs(before, after, engine, names)
    columns = [before.losses_N, after.losses_N]
    if before.hits_N is not None and after.hits_N is not None:
        columns += [before.hits_N.astype(np.float64), after.hits_N.astype(np.float64)]
    means_V, drawn_SV = paired_means(np.stack(columns, 1), before.weights_N, seed=seed)
    measures: list[tuple[str, int, Measure]] = [("loss", 0, _itself)]
    if task in _BY_TOKEN:
        measures.insert(0, ("perplexity", 0, _perplexity))
    elif task in _HITS:
        measures.insert(0, (_HITS[task], 2, _itself))
    return tuple(
        _change(name, measure, means_V[at : at + 2], drawn_SV[:, at : at + 2], engine, is_main=not index)
        for index, (name, at, measure) in enumerate(measures)
    )


def quality_loss(change: QualityChange) -> Estimate:
    """Return how much worse the main measure got, as a share: of perplexity and losses what they rose by, of hits what is missing.

    Example:
        >>> change = QualityChange(name="accuracy", engine="torch", is_main=True, **dict.fromkeys(("before", "after", "difference"),
        ...     Estimate(value=0, low=0, high=0)), ratio=Estimate(value=0.75, low=0.5, high=1.0))
        >>> quality_loss(change)
        Estimate(value=0.25, low=0.0, high=0.5)
    """
    ratio = change.ratio
    if change.name in _HITS.values():
        return Estimate(value=1 - ratio.value, low=1 - ratio.high, high=1 - ratio.low)
    return Estimate(value=ratio.value - 1, low=ratio.low - 1, high=ratio.high - 1)


def paired_means(values_NV: Floats, weights_N: Floats, *, seed: int = 0) -> tuple[Floats, Floats]:
    """Return the weighted means of several values of the same samples, [V], and those of resampled samples, [S, V].

    A resample takes all values of a sample or none of them, so that what is easy or hard for both models cancels.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 8.3.

    Example:
        >>> means_V, drawn_SV = paired_means(np.array([[1.0, 2.0], [5.0, 6.0]]), np.ones(2))
        >>> means_V.tolist(), set((drawn_SV[:, 1] - drawn_SV[:, 0]).tolist())
        ([3.0, 4.0], {1.0})
    """
    N, random = len(values_NV), np.random.default_rng(seed)
    weighted = np.concatenate((weights_N[:, None] * values_NV, weights_N[:, None]), 1)
    sums = []
    step = max(1, _CHUNK // N)
    for start in range(0, _NUM_RESAMPLES, step):
        rows = min(step, _NUM_RESAMPLES - start)
        places = random.integers(0, N, (rows, N)) + N * np.arange(rows)[:, None]
        counts_SN = np.bincount(places.ravel(), minlength=rows * N).reshape(rows, N)
        sums.append(counts_SN @ weighted)
    drawn, whole = np.concatenate(sums), weighted.sum(0)
    return whole[:-1] / whole[-1], drawn[:, :-1] / drawn[:, -1:]


def _change(
    name: str, measure: Measure, means_2: Floats, drawn_S2: Floats, engine: str, *, is_main: bool
) -> QualityChange:
    before, after = measure(means_2)
    before_S, after_S = measure(drawn_S2).T
    return QualityChange(
        name=name,
        engine=engine,
        is_main=is_main,
        before=_estimate(before, before_S),
        after=_estimate(after, after_S),
        difference=_estimate(after - before, after_S - before_S),
        ratio=_estimate(float(_ratio(np.array([after]), np.array([before]))[0]), _ratio(after_S, before_S)),
    )


def _ratio(tops: Floats, bottoms: Floats) -> Floats:
    """Return ratios; 1 over nothing: where the original got nothing right nothing can be lost."""
    return np.divide(tops, bottoms, out=np.ones_like(tops), where=bottoms > 0)


def _itself(means: Floats) -> Floats:
    return means


def _perplexity(losses: Floats) -> Floats:
    perplexities: Floats = np.exp(np.minimum(losses, _MAX_LOSS))
    return perplexities


def _estimate(value: float, drawn_S: Floats) -> Estimate:
    low, high = (float(bound) for bound in np.quantile(drawn_S, _BOUNDS))
    return Estimate(value=float(value), low=min(low, float(value)), high=max(high, float(value)))


def _require_pairs(before: Scores, after: Scores, engine: str, names: tuple[str, str]) -> None:
    if not np.array_equal(before.weights_N, after.weights_N):
        raise DataError(
            "quality is compared on the same samples before and after.",
            got=(len(before.losses_N), len(after.losses_N)),
        )
    for name, scores in zip(names, (before, after), strict=True):
        num_bad = int((~np.isfinite(scores.losses_N)).sum())
        if num_bad:
            raise DivergedError(
                f"the {name} answers {num_bad} of {len(scores.losses_N)} samples with a loss that is not finite on {engine}."
            )
