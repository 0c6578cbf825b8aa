"""Every engine and model in one run in turns, beside the limits of this machine.

Legend: R rounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from kleiber.cost.calibration import load_calibration
from kleiber.cost.call_limit import CallCost
from kleiber.cost.engine_times import load_engine_times, save_engine_times
from kleiber.errors import KleiberError, UsageError
from kleiber.infer.bench.candidates import Candidate, open_candidates, require_known
from kleiber.infer.bench.limits import ReadMeter, peak_meters, working_sets
from kleiber.infer.bench.model import Benched, open_benched
from kleiber.infer.bench.prediction import Prediction, Predictor, call_cost, engine_call
from kleiber.infer.bench.quality import RowQuality, measured_quality
from kleiber.infer.bench.results import Measured, assembled
from kleiber.infer.bench.rounds import Meters, run_rounds
from kleiber.infer.engines import ENGINES
from kleiber.infer.measure import Fresh, fresh_process
from kleiber.infer.precision import PRECISIONS, Precision
from kleiber.runs import Recipe, now
from kleiber.runs.bench_result import BenchResult, BenchSettings, CallKind
from kleiber.train.allocator import keep_freed_memory

__all__ = ["OnProgress", "bench"]

_MULTIPLIES = ("torch", "onnxruntime", "openvino")
"""Engines that run a plain product of matrices, by which peaks are measured."""


class OnProgress(Protocol):
    """Is told what is done now."""

    def __call__(self, stage: str, what: str, *, total: int | None = None) -> object:
        """Hear that the next part of a stage begins, of so many where that is known."""
        ...


def _silent(stage: str, what: str, *, total: int | None = None) -> None:
    del stage, what, total


def bench(
    sources: Sequence[Path],
    settings: BenchSettings,
    *,
    recipe: Recipe | None = None,
    module: str | None = None,
    on_progress: OnProgress = _silent,
) -> BenchResult:
    """Return speed, memory and quality of models by engine and precision, all timed in turns.

    Calls are predicted before they are measured, and what engines took is kept for the predictions of other sizes.

    Args:
        sources: Run folders, or folders with a model.
        settings: What is measured, and how often.
        recipe: Task and data, of folders without a run or where others are meant.
        module: `my_model.py:Net`, of a folder that holds weights of such a module.
        on_progress: Is told each part of the work.

    Raises:
        UsageError: An unknown engine or precision, tokens that do not fit into a context, nothing that can be measured.
        MissingExtraError: An engine that was named is not installed.
        RunFolderError: A source is no model, or does not load.
        DataError: A run's data is missing.
    """
    require_known(settings)
    keep_freed_memory()  # else what large batches take is mostly that of fresh pages, call after call
    if not sources:
        raise UsageError("a benchmark needs a model.", hint="kleiber bench runs/small")
    models = _models(sources, settings, recipe, module, on_progress)
    with tempfile.TemporaryDirectory(prefix="kleiber-") as place:
        candidates, left_out = open_candidates(
            models, settings, Path(place), on_each=lambda what: on_progress("opening", what)
        )
        costs = _costs(candidates, settings)
        predictions = _predictions(candidates, costs, settings)
        started_at = now()
        meters = _meters(candidates, costs, settings)
        num_turns = len(candidates) * len(settings.batches) * (settings.num_rounds + 1)
        num_turns += (len(meters.reads) + len(meters.peaks)) * settings.num_rounds
        rounds = run_rounds(
            candidates,
            meters,
            settings,
            on_turn=lambda what: on_progress("measuring", what, total=num_turns),
        )
        fresh = _fresh(candidates, settings, on_progress)
        qualities = _qualities(candidates, settings, on_progress)
    measured = Measured(
        started_at=started_at,
        models=models,
        candidates=candidates,
        left_out=left_out,
        costs=costs,
        predictions=predictions,
        rounds=rounds,
        fresh=fresh,
        qualities=qualities,
    )
    result = assembled(measured, settings)
    _keep_times(candidates, costs, predictions, result)
    return result


def _models(
    sources: Sequence[Path],
    settings: BenchSettings,
    recipe: Recipe | None,
    module: str | None,
    on_progress: OnProgress,
) -> tuple[Benched, ...]:
    def tell(stage: str) -> None:
        on_progress("opening", stage)

    return tuple(
        open_benched(
            source,
            name=name,
            recipe=recipe,
            module=module,
            has_quality=settings.has_quality,
            seed=settings.seed,
            on_progress=tell,
        )
        for source, name in zip(sources, _names(sources), strict=True)
    )


def _names(sources: Sequence[Path]) -> tuple[str, ...]:
    """Return the folders' names; whole paths where two are the same.

    Raises:
        UsageError: A source is named twice.
    """
    if len(set(sources)) < len(sources):
        raise UsageError("a model is named twice.", got=" ".join(map(str, sources)))
    short = [source.resolve().name for source in sources]
    return tuple(short) if len(set(short)) == len(short) else tuple(map(str, sources))


CallKey = tuple[int, CallKind, int]
"""Place of the candidate, kind, batch."""


def _costs(candidates: Sequence[Candidate], settings: BenchSettings) -> dict[CallKey, CallCost]:
    costs = {}
    for place, candidate in enumerate(candidates):
        counted = candidate.model.counted(candidate.precision)
        for kind in candidate.kinds:
            for batch in settings.batches:
                costs[place, kind, batch] = call_cost(counted, candidate.prompt, kind, batch)
    return costs


def _predictions(
    candidates: Sequence[Candidate], costs: Mapping[CallKey, CallCost], settings: BenchSettings
) -> dict[CallKey, Prediction]:
    """Return what is predicted; nothing on a machine that was never calibrated."""
    calibration = load_calibration()
    if calibration is None or calibration.rates is None:
        return {}
    predictor = Predictor(calibration.rates, load_engine_times(), settings.num_threads)
    found = {
        (place, kind, batch): predictor.predict(candidates[place], kind, batch, cost)
        for (place, kind, batch), cost in costs.items()
    }
    return {key: one for key, one in found.items() if one is not None}


def _meters(
    candidates: Sequence[Candidate], costs: Mapping[CallKey, CallCost], settings: BenchSettings
) -> Meters:
    threads = settings.num_threads
    wanted = {one.model.limit_precision(one.precision) for one in candidates}
    # What has few bits may be multiplied in more: a limit is that of the best way.
    precisions: tuple[Precision, ...] = PRECISIONS[: 1 + max(map(PRECISIONS.index, wanted))]
    engines = [one for one in ENGINES if one in _MULTIPLIES]
    return Meters(
        reads={size: ReadMeter(size, threads) for size in working_sets(c.read_bytes for c in costs.values())},
        peaks=peak_meters(engines, precisions, threads),
    )


def _fresh(
    candidates: Sequence[Candidate], settings: BenchSettings, on_progress: OnProgress
) -> tuple[Fresh | str | None, ...]:
    """Return what fresh processes saw; of one that failed, what it said: the times stand without it."""
    found: list[Fresh | str | None] = []
    for candidate in candidates if settings.has_memory else ():
        on_progress("memory", candidate.title, total=len(candidates))
        try:
            found.append(fresh_process(candidate.opening))
        except KleiberError as error:
            found.append(error.message)
    return tuple(found) or (None,) * len(candidates)


def _qualities(
    candidates: Sequence[Candidate], settings: BenchSettings, on_progress: OnProgress
) -> tuple[RowQuality, ...]:
    if not settings.has_quality:
        return (RowQuality(),) * len(candidates)
    return measured_quality(candidates, settings, on_each=lambda what: on_progress("quality", what))


def _keep_times(
    candidates: Sequence[Candidate],
    costs: Mapping[CallKey, CallCost],
    predictions: Mapping[CallKey, Prediction],
    result: BenchResult,
) -> None:
    """Keep what engines took, for predictions of other sizes."""
    threads = result.settings.num_threads
    calls = []
    for (place, kind, batch), cost in costs.items():
        call = result.rows[place].call(kind, batch)
        if call is not None:
            calls.append(
                engine_call(
                    candidates[place],
                    kind,
                    cost,
                    threads,
                    time_s=call.p50_s.value,
                    predicted=predictions.get((place, kind, batch)),
                )
            )
    save_engine_times(load_engine_times().with_calls(tuple(calls)))
