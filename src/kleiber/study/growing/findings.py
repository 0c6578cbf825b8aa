"""From points to curves: trends, what depth and width do apart, predictions, the law's floor."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from kleiber.errors import DivergedError, KleiberError
from kleiber.runs import Baseline, Estimate, Row, hash_of, now, row_of
from kleiber.scaling import fit
from kleiber.study.growing.classical import best_baseline, notes_of
from kleiber.study.growing.design import LINES, Line, Member
from kleiber.study.growing.document import Curve, Floor, Point, Quantity, Study, StudyMember
from kleiber.study.growing.extent import StudyPlan
from kleiber.study.growing.found import Found
from kleiber.study.growing.measured import Tuned
from kleiber.study.growing.quantities import QUALITY, WHY_WITHOUT, num_sought, points_of
from kleiber.study.growing.trend import Kind, Trend, contrast, fit_trend, kind_of

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
    fitted = [point for point in points if point.has_trained and not point.is_bound]
    # One kind of fit on all lines, or they could not be compared.
    kind = kind_of([point.value for point in fitted] or [0.0])
    trends = {line: _trend(line, fitted, kind) for line in LINES}
    best = best_baseline(baseline, quantity)
    num_without = num_sought(found, quantity) - len(points)
    errors = [abs(point.predicted / point.value - 1) for point in points if point.predicted and point.value]
    return Curve(
        quantity=quantity,
        points=tuple(points),
        trends=tuple(one for one in trends.values() if one),
        contrast=contrast(trends["depth"], trends["width"]),
        predicted=_predicted(points),
        prediction_error_frac=statistics.median(errors) if errors else None,
        worst_error_frac=max(errors, default=None),
        num_without_value=num_without,
        why_without=WHY_WITHOUT.get(quantity, "not_measured") if num_without else "",
        floor=_floor(found) if quantity == "loss" else None,
        baseline=best[0] if best else None,
        baseline_method=best[1] if best else None,
        baseline_notes=notes_of(baseline, best[1]) if best else (),
        num_runs=sum(point.num_runs for point in points),
    )


def _trend(line: Line, points: Sequence[Point], kind: Kind) -> Trend | None:
    on_it = {point.num_params: point for point in points if line in point.lines}
    values = [point.value for point in on_it.values()]
    if not any(values):  # nothing happened anywhere, such as no spike
        return None
    # The error of a positive value is that of its logarithm.
    errors = [
        point.standard_error
        if kind == "power" or point.standard_error is None or point.value <= 0
        else point.standard_error * point.value * math.log(10)
        for point in on_it.values()
    ]
    return fit_trend(line, list(on_it), values, errors, kind=kind)


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
        if (row := row_of(record)) is not None and found.has_trained(member)
    ]
    return _floor_of(rows)


_ALPHAS = (0.0101, 2.999)
"""Between which an end of an interval does not sit on the bounds of the fit, 0.01 and 3."""


def _floor_of(rows: Sequence[Row]) -> Floor | None:
    try:
        law = fit(rows, form="power_N")
    except KleiberError:  # too few sizes, or losses that no law is made of: the straight line stands alone
        return None

    def estimate(name: str) -> Estimate:
        low, high = law.intervals[name]["95"]
        return Estimate(value=law.coefficients[name], low=low, high=high)

    floor, alpha = estimate("E"), estimate("alpha")
    losses: dict[int, list[float]] = {}
    for row in rows:
        losses.setdefault(row.num_params.total, []).append(row.loss)
    smallest = min(statistics.fmean(of_size) for of_size in losses.values())
    is_inside = (
        floor.low > 0 and floor.value < smallest and _ALPHAS[0] < alpha.low and alpha.high < _ALPHAS[1]
    )
    is_determined = law.e_determined and is_inside
    return Floor(E=floor, alpha=alpha, A=law.coefficients["A"], is_determined=is_determined)


def study_of(found: Found, plan: StudyPlan, tuned: Tuned, baseline: Baseline | None) -> Study:
    """Return what a study found, of everything that stands in its folder.

    Raises:
        DivergedError: No run has finished.
    """
    records = [record for runs in found.runs.values() for _, record in runs]
    if not records:
        raise DivergedError(
            "every run of the study diverged.",
            hint="lower rates: --set train.optimizer.lr=... and another folder with -o",
        )
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
        environment=records[-1].environment,
        num_workers=design.num_workers,
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
