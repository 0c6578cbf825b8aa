"""Two models of the same data, measured side by side: the receipt, before any gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from kleiber.compress.calibration import Calibration
from kleiber.compress.pipeline import StepDone
from kleiber.compress.sizes import counted_side, predicted_bytes
from kleiber.compress.speed import Measuring, Speeds, first_batch, measured_speeds
from kleiber.compress.subject import Subject
from kleiber.compress.uses import inputs_of
from kleiber.data import Split
from kleiber.infer.decoding import WithCache
from kleiber.infer.engines import EngineName, PredictorModule, open_predictor
from kleiber.runs import Lineage, environment, now
from kleiber.runs.receipt import (
    CalibrationUsed,
    CompressionCost,
    EngineRatio,
    QualityChange,
    Receipt,
    StepReport,
)
from kleiber.tasks import Scores
from kleiber.tasks.evaluation import evaluated_split
from kleiber.tasks.quality import quality_changes

__all__ = ["Original", "Work", "chosen_engine", "engine_scores", "receipt_of"]

_SAMPLES = 32
"""Of real inputs that a graph is made with."""


@dataclass
class Original:
    """The model that came in, and what was measured of it once for all that is compared with it."""

    subject: Subject
    typed: str
    """Its folder."""
    lineage: tuple[Lineage, ...]
    stored_bytes: int
    seed: int = 0
    _scores: dict[str, Scores] = field(default_factory=dict)

    @property
    def split(self) -> Split:
        """Where quality is measured: the test split, validation where there is none."""
        return evaluated_split(self.subject.data)

    def scores(self, engine: EngineName) -> Scores:
        """Return its scores, answered by an engine."""
        if engine not in self._scores:
            self._scores[engine] = engine_scores(self.subject, engine, self.split)
        return self._scores[engine]

    def quality(self, after: Subject, engine: EngineName = "torch") -> tuple[QualityChange, ...]:
        """Return the change of quality, both answered by an engine."""
        scores = engine_scores(after, engine, self.split)
        return quality_changes(
            self.subject.recipe.task.name, self.scores(engine), scores, engine=engine, seed=self.seed
        )


@dataclass(frozen=True)
class Work:
    """What was done to the original."""

    steps: tuple[StepDone, ...]
    calibration: Calibration
    training_tokens: int
    asked_hash: str
    seconds: float
    """Of the whole work."""


def engine_scores(subject: Subject, engine: EngineName, split: Split) -> Scores:
    """Return what a model answers of each sample through an engine; by torch over its cache, where that holds fewer bits.

    Raises:
        MissingExtraError: The engine's packages are not installed.
        RecipeError: The module cannot be exported.
    """
    if engine == "torch":
        cache_bits = subject.activations.cache_bits
        module = subject.module if cache_bits is None else WithCache(subject.module, cache_bits)
        return subject.task.scores(module, subject.data, split)
    predictor = open_predictor(
        engine,
        subject.module,
        inputs_of(first_batch(subject, split, _SAMPLES)),
        forms=subject.forms,
        activations=subject.activations,
    )
    return subject.task.scores(PredictorModule(predictor), subject.data, split)


def receipt_of(
    original: Original,
    after: Subject,
    work: Work,
    *,
    stored_bytes: int,
    measuring: Measuring,
    tell: Callable[[str], None] = lambda _: None,
) -> Receipt:
    """Return the receipt without a gate: sizes counted, speed and quality measured.

    Args:
        original: What came in.
        after: What came out.
        work: What was done.
        stored_bytes: Of what came out.
        measuring: How engines are timed.
        tell: Is told each stage.

    Raises:
        DivergedError: A model answers with losses that are not finite.
    """
    before, split = original.subject, original.split
    tell("timing the engines")
    speeds = measured_speeds(before, after, split, measuring, seed=original.seed)
    engine = chosen_engine(speeds)
    tell("measuring quality")
    answering = list(dict.fromkeys(one.engine for one in speeds.after if one.workload == "forward"))
    quality = tuple(
        change
        for name in dict.fromkeys([*answering, "torch"])
        for change in original.quality(after, name)  # type: ignore[arg-type] # names of engines that were measured
    )
    if engine not in {one.engine for one in quality}:
        engine = "torch"
    sample = first_batch(before, split, 1)
    sides = (
        counted_side(before, sample, original.stored_bytes).model_copy(update={"engines": speeds.before}),
        counted_side(after, sample, stored_bytes).model_copy(update={"engines": speeds.after}),
    )
    return Receipt(
        source=original.typed,
        asked_hash=work.asked_hash,
        steps=_reports(work.steps),
        lineage=original.lineage,
        split="test" if split == "test" else "val",
        before=sides[0],
        after=sides[1],
        engines=speeds.ratios,
        left_out=speeds.left_out,
        engine=engine,
        quality=quality,
        calibration=CalibrationUsed(
            **{key: getattr(work.calibration, key) for key in CalibrationUsed.model_fields}
        ),
        seed=original.seed,
        cost=CompressionCost(
            seconds=work.seconds,
            training_tokens=work.training_tokens,
            training_frac=work.training_tokens / before.recipe.num_tokens,
        ),
        predicted_bytes=predicted_bytes(after.module, after.forms),
        says=tuple(_says(speeds, after)),
        environment=environment(torch.get_num_threads()),
        created_at=now(),
    )


def chosen_engine(speeds: Speeds) -> str:
    """Return the engine that answers soonest after: of language models by token."""
    if not speeds.after:
        return "torch"
    workload = min(one.workload for one in speeds.after)  # decode before forward
    sides = [one for one in speeds.after if one.workload == workload]
    return min(sides, key=lambda one: one.latency_s.value).engine


def _reports(steps: Sequence[StepDone]) -> tuple[StepReport, ...]:
    """Return each step with the notes that it added."""
    reports, known = [], set[str]()
    for step in steps:
        notes = tuple(note for note in step.notes if note not in known)
        reports.append(StepReport(step=step.step, seconds=step.seconds, notes=notes))
        known |= set(step.notes)
    return tuple(reports)


def _says(speeds: Speeds, after: Subject) -> Iterator[str]:
    for one in speeds.ratios:
        if (gain := _no_gain(one)) is not None:
            yield gain
    yield from dict.fromkeys(
        f"{side.engine} ({side.workload}): {note}" for side in speeds.after for note in side.notes
    )
    if after.activations.cache_bits is not None:
        yield f"Quality by torch is that of text written over the cache of {after.activations.cache_bits} bits; other engines answer whole inputs."


def _no_gain(one: EngineRatio) -> str | None:
    """Return a sentence where neither latency nor throughput got better beyond noise; None where one did."""
    if one.latency.high < 1 or one.throughput.low > 1:
        return None
    what = "a token" if one.workload == "decode" else "an input"
    return (
        f"No gain on this device: {one.engine} takes {one.latency.value:.2f} times as long for {what} at batch 1, with "
        f"{one.throughput.value:.2f} times the throughput at saturation."
    )
