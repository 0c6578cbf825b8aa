"""`search`: the fewest bytes that a gate lets pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kleiber.compress.asked import Asked, known_receipt
from kleiber.compress.attempt import TRIES, Attempt, Bench
from kleiber.compress.gate import allowed_frac, excess, refusal, tried_excess
from kleiber.compress.publish import publish
from kleiber.compress.search.candidates import Pipeline, candidates
from kleiber.compress.search.halving import marked_front, rungs_of
from kleiber.compress.search.sensitivity import Sensitivity, sensitivity_of
from kleiber.compress.search.settings import SearchSettings
from kleiber.compress.search.tries import Outcome, Scout
from kleiber.compress.steps import AnyStep, typed_step
from kleiber.errors import GateError, UsageError
from kleiber.runs import hash_of, now
from kleiber.runs.receipt import CompressionCost, Receipt, Tried
from kleiber.tasks.quality import quality_loss
from kleiber.train.lock import exclusive

__all__ = ["search"]

Found = tuple[Receipt, Attempt, tuple[AnyStep, ...]]


def search(
    source: Path,
    folder: Path,
    *,
    asked: Asked,
    settings: SearchSettings | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Receipt:
    """Find steps that meet a gate: with a bound of quality the fewest bytes, without one the best quality.

    Sensitivity says what is worth trying, short recoveries rank it, and what is left is recovered fully, measured on every
    engine and judged. A search that was cut off goes on; one that has finished is returned as it is.

    Args:
        source: A run, or a folder in the Hugging Face layout.
        folder: Of the result, as `compress` writes it.
        asked: Gate, engines, calibration, seed.
        settings: How long it may take.
        on_progress: Is told each stage.

    Raises:
        GateError: Nothing that was tried meets all bounds; names the closest. Nothing but `tries/` is written.
        UsageError: No bound was asked for, or one that this model cannot be judged by.
        RecipeError: The folder holds something else.
        DataError: Data for calibration is missing or of the wrong kind.
        RunFolderError: There is no model at the source.
        StorageError: The disk refused.
    """
    settings, started_at = settings or SearchSettings(), now()
    tell = on_progress or (lambda _: None)
    if not asked.gate.bounds:
        raise UsageError(
            "a search needs a bound to meet.",
            hint=f"kleiber compress {source} --max-quality-loss 1% --max-bytes 25%",
        )
    asked_hash = asked.hash_with(source, settings.model_dump(mode="json"))
    with exclusive(folder):
        if (known := known_receipt(folder, asked_hash)) is not None:
            return known
        bench = Bench.open(source, folder, asked, tell)
        scout = Scout(bench)
        finalists = _finalists(scout, _pipelines(bench, settings), settings)
        judged = [(bench.receipt(one, asked_hash), one, steps) for one, steps in finalists]
        receipt, attempt = _chosen(scout, judged)
        publish(attempt, receipt, folder, started_at=started_at)
        return receipt


def _pipelines(bench: Bench, settings: SearchSettings) -> tuple[Pipeline, ...]:
    gate, original = bench.asked.gate, bench.original
    count = original.subject.spec.count().total
    return candidates(
        _sensitivity(bench),
        family=original.subject.spec.family,
        num_params=count,
        has_int8_inputs=gate.needs_speed,
        max_frac=allowed_frac(gate, original.stored_bytes),
        max_tries=settings.max_tries,
    )


def _sensitivity(bench: Bench) -> Sensitivity:
    """Return what each layer bears, measured once."""
    key = hash_of([bench.calibration.hash, bench.original.stored_bytes])
    path = bench.folder / TRIES / f"sensitivity-{key}.json"
    if not path.is_file():
        bench.tell("measuring what each layer bears")
        sensitivity_of(bench.original.subject, bench.calibration).write(path)
    return Sensitivity.read(path)


def _finalists(
    scout: Scout, pipelines: Sequence[Pipeline], settings: SearchSettings
) -> list[tuple[Attempt, tuple[AnyStep, ...]]]:
    """Return what is left of all pipelines after their recoveries, and what met the gate on the way with the fewest bytes."""
    recipe = scout.bench.original.subject.recipe
    rungs = rungs_of(len(pipelines), settings.num_finalists, settings.budget_frac * recipe.num_tokens)
    left, steps_of = list(pipelines), dict[str, tuple[AnyStep, ...]]()
    for index, rung in enumerate(rungs):
        ranked = []
        for place, pipeline in enumerate(left[: rung.num]):
            steps = pipeline.steps(max(1, round(rung.num_tokens / recipe.tokens_per_step)))
            outcome = scout.outcome(steps, index)
            if outcome.tried is not None:
                steps_of[outcome.key] = steps
                # Longer recoveries bring more: half of what is missing may still come on each rung that is left.
                slack = 2.0 ** (len(rungs) - 1 - index) if pipeline.can_recover else 1.0
                ranked.append((_rank(scout, outcome, slack), place, pipeline, steps))
        ranked.sort(key=lambda one: one[:2])
        left = [pipeline for _, _, pipeline, _ in ranked]
    chosen = [steps for _, _, _, steps in ranked]
    meeting = [one for one in scout.outcomes.values() if one.key in steps_of and _rank(scout, one)[0] == 0]
    chosen += [steps_of[min(meeting, key=lambda one: _rank(scout, one)).key]] if meeting else []
    return [(scout.bench.done(steps), steps) for steps in dict.fromkeys(chosen)]


def _rank(scout: Scout, outcome: Outcome, slack: float = 1.0) -> tuple[float, float]:
    """Return what sorts outcomes: by how much bounds are missed, then by bytes; without a bound of quality by quality."""
    gate, tried = scout.bench.asked.gate, outcome.tried
    if tried is None:
        raise AssertionError("only what was done is ranked")
    missed = tried_excess(
        gate,
        tried,
        original_bytes=scout.bench.original.stored_bytes,
        original_latency_s=outcome.original_latency_s,
        original_share=scout.original_share,
        slack=slack,
    )
    return missed, float(tried.stored_bytes) if gate.max_quality_loss is not None else tried.quality_loss


def _chosen(scout: Scout, judged: Sequence[Found]) -> tuple[Receipt, Attempt]:
    """Return the one that is written, with all that was tried.

    Raises:
        GateError: None meets all bounds.
    """
    if not judged:
        raise _nothing(scout)
    met = [one for one in judged if one[0].is_met]
    if not met:
        closest = min((receipt for receipt, _, _ in judged), key=lambda one: excess(one.gate))
        raise refusal(closest, len(scout.tried))
    is_bounded = scout.bench.asked.gate.max_quality_loss is not None
    receipt, attempt, steps = min(
        met,
        key=lambda one: one[0].after.stored_bytes if is_bounded else quality_loss(one[0].main_quality).value,
    )
    says = (*receipt.says, *(f"Not tried: {reason}" for reason in scout.refusals))
    update = {"tried": _marked(scout, steps), "cost": _cost(scout), "says": says}
    return receipt.model_copy(update=update), attempt


def _nothing(scout: Scout) -> GateError:
    first, *others = scout.refusals or ("no pipeline suits the model",)
    rest = f" ({len(others)} others are refused as well)" if others else ""
    return GateError(
        f"nothing could be tried{rest}: {first.removesuffix('.')}.",
        hint="name steps: kleiber compress RUN quantize:bits=8",
    )


def _marked(scout: Scout, steps: Sequence[AnyStep]) -> tuple[Tried, ...]:
    typed = tuple(typed_step(step) for step in steps)
    return tuple(
        one.model_copy(update={"is_chosen": one.steps == typed}) for one in marked_front(scout.tried)
    )


def _cost(scout: Scout) -> CompressionCost:
    """Return the cost of all that was tried; steps that tries share were taken once."""
    seconds: dict[str, float] = {}
    tokens: dict[str, int] = {}
    for one in scout.outcomes.values():
        seconds |= one.seconds
        tokens |= one.tokens
    total = sum(tokens.values())
    return CompressionCost(
        seconds=sum(seconds.values()),
        training_tokens=total,
        training_frac=total / scout.bench.original.subject.recipe.num_tokens,
    )
