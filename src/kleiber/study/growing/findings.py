"""From points to curves: trends, what depth and width do apart, predictions, the law's floor."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from kleiber.errors import KleiberError
from kleiber.runs import Baseline, Estimate, Row, environment, hash_of, now, row_of
from kleiber.scaling import fit
from kleiber.study.growing.design import LINES, Line, Member
from kleiber.study.growing.document import Curve, Floor, Point, Quantity, Study, StudyMember
from kleiber.study.growing.extent import StudyPlan
from kleiber.study.growing.measured import Tuned
from kleiber.study.growing.quantities import QUALITY, Found, best_baseline, points_of
from kleiber.study.growing.trend import Trend, contrast, fit_trend

__all__ = ["curves_of", "study_of"]

_OTHERS: tuple[Quantity, ...] = (
    "train_flops", "step_time_s", "peak_memory_bytes", "stored_bytes", "packed_bytes", "gradient_bytes",
    "packed_gradient_bytes", "decode_s", "forward_s", "gap", "onset_epoch", "highest_rate", "spike_frac", "noise_scale",
    "seed_sd",
)  # fmt: skip
"""All but quality, in the order of the page."""


def curves_of(found: Found, baseline: Baseline | None) -> list[Curve]:
    """Return the curves of everything that was measured of three sizes or more."""
    quality = QUALITY.get(found.design.base.task.name, ("loss",))
    curves = [_curve(found, quantity, baseline) for quantity in (*quality, *_OTHERS)]
    return [curve for curve in curves if curve is not None]


def _curve(found: Found, quantity: Quantity, baseline: Baseline | None) -> Curve | None:
    points = points_of(found, quantity)
    if len(points) < 3:
        return None
    trends = {line: _trend(line, points) for line in LINES}
    best = best_baseline(baseline, quantity)
    errors = [abs(point.predicted / point.value - 1) for point in points if point.predicted and point.value]
    return Curve(
        quantity=quantity,
        points=tuple(points),
        trends=tuple(one for one in trends.values() if one),
        contrast=contrast(trends["depth"], trends["width"]),
        predicted=_predicted(points),
        prediction_error_frac=statistics.median(errors) if errors else None,
        floor=_floor(found) if quantity == "loss" else None,
        baseline=best[0] if best else None,
        baseline_method=best[1] if best else None,
        num_runs=sum(point.num_runs for point in points),
    )


def _trend(line: Line, points: Sequence[Point]) -> Trend | None:
    on_it = {point.num_params: point for point in points if line in point.lines and not point.is_bound}
    values = [point.value for point in on_it.values()]
    if not any(values):  # nothing happened anywhere, such as no spike
        return None
    return fit_trend(line, list(on_it), values, [_interval(point) for point in on_it.values()])


def _interval(point: Point) -> tuple[float, float] | None:
    return None if point.low is None or point.high is None else (point.low, point.high)


def _predicted(points: Sequence[Point]) -> Trend | None:
    said = {
        point.num_params: point.predicted for point in points if "both" in point.lines and point.predicted
    }
    return fit_trend("both", list(said), list(said.values()))


def _floor(found: Found) -> Floor | None:
    """Return the law with a floor of the losses of depth and width together; None where none can be fitted."""
    rows = [
        row
        for member in found.members
        if "both" in member.lines
        for _, record in found.runs[member.name]
        if (row := row_of(record)) is not None
    ]
    return _floor_of(rows)


def _floor_of(rows: Sequence[Row]) -> Floor | None:
    try:
        law = fit(rows, form="power_N")
    except KleiberError:  # too few sizes, or losses that no law is made of: the straight line stands alone
        return None

    def estimate(name: str) -> Estimate:
        low, high = law.intervals[name]["95"]
        return Estimate(value=law.coefficients[name], low=low, high=high)

    return Floor(
        E=estimate("E"), alpha=estimate("alpha"), A=law.coefficients["A"], is_determined=law.e_determined
    )


def study_of(found: Found, plan: StudyPlan, tuned: Tuned, baseline: Baseline | None) -> Study:
    """Return what a study found, of everything that stands in its folder.

    Raises:
        ValueError: No run has finished.
    """
    records = [record for runs in found.runs.values() for _, record in runs]
    if not records:
        raise ValueError("a study without a finished run has found nothing")
    design, data = found.design, records[0].data
    num_units = plan.num_steps * design.base.tokens_per_step
    return Study(
        family=design.base.model.family,
        source=design.base.data.source,
        task=design.base.task.name,
        unit=design.base.unit,
        design_hash=hash_of(design),
        plan=plan,
        num_units=num_units,
        num_epochs=num_units / data.num_train_tokens,
        rate_factor=tuned.factor(plan.num_steps),
        is_rate_at_edge=tuned.is_at_edge,
        members=tuple(_member(found, one) for one in found.members),
        curves=tuple(curves_of(found, baseline)),
        baseline=baseline,
        environment=environment(1),
        eval_hash=data.eval_hash,
        created_at=now(),
        notes=(*design.notes, *plan.says),
    )


def _member(found: Found, member: Member) -> StudyMember:
    return StudyMember(
        name=member.name,
        depth=member.spec.depth,
        width=member.spec.width,
        num_params=member.num_params,
        lines=member.lines,
        num_diverged=found.num_diverged[member.name],
    )
