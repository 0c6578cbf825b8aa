import math

import numpy as np
import pytest

from kleiber.runs import Environment, Estimate
from kleiber.study.growing.document import Curve, Floor, Point, Study, StudyMember
from kleiber.study.growing.extent import StudyPlan
from kleiber.study.growing.trend import contrast, fit_trend

SIZES = {
    "both": (18_000, 45_000, 108_000, 280_000, 714_000),
    "depth": (29_000, 55_000, 110_000, 290_000, 660_000),
    "width": (20_000, 46_000, 107_000, 270_000, 668_000),
}


def points_of(exponents, level, *, noise=0.02, predicted=None, has_interval=True):
    rng = np.random.default_rng(0)
    found = []
    for line, sizes in SIZES.items():
        for size in sizes:
            value = level * size ** exponents[line] * math.exp(rng.normal(0, noise))
            found.append(
                Point(
                    member=f"{line}-{size}",
                    num_params=size,
                    lines=(line,),
                    value=value,
                    low=value * 0.95 if has_interval else None,
                    high=value * 1.05 if has_interval else None,
                    predicted=predicted(value) if predicted else None,
                    num_runs=3 if line == "both" else 1,
                )
            )
    return found


def curve_of(quantity, points, **more):
    trends = {}
    for line in SIZES:
        on_it = [point for point in points if line in point.lines and not point.is_bound]
        if any(point.value for point in on_it):
            trend = fit_trend(line, [one.num_params for one in on_it], [one.value for one in on_it])
            trends |= {line: trend} if trend else {}
    return Curve(
        quantity=quantity,
        points=tuple(points),
        trends=tuple(trends.values()),
        contrast=contrast(trends.get("depth"), trends.get("width")),
        num_runs=sum(point.num_runs for point in points),
        **more,
    )


@pytest.fixture
def study():
    """A study with every kind of curve: trends, none, bounds, never, predictions, a floor and a baseline."""
    same = dict.fromkeys(SIZES, 1.0)
    loss = points_of(dict.fromkeys(SIZES, -0.05), 8.0, noise=0.003)
    onset = [
        one.model_copy(update={"is_bound": k < 2})
        for k, one in enumerate(points_of(dict.fromkeys(SIZES, -0.3), 100.0))
    ]
    spikes = [one.model_copy(update={"value": 0.0, "low": 0.0, "high": 0.004}) for one in loss]
    gap = [
        one.model_copy(update={"value": 0.4 * math.log10(one.num_params) - 1.9, "low": None, "high": None})
        for one in loss
    ]
    curves = (
        curve_of("loss", loss, baseline=4.5, baseline_method="5-gram with Kneser-Ney back-off",
                 floor=Floor(E=Estimate(value=2.1, low=1.5, high=2.6), alpha=Estimate(value=0.11, low=0.05, high=0.2), A=9.0, is_determined=True)),
        curve_of("train_flops", points_of(same, 6e6, noise=0.0, has_interval=False)),
        curve_of("step_time_s", points_of({"both": 0.7, "depth": 0.95, "width": 0.5}, 1e-6, predicted=lambda value: value * 1.1), prediction_error_frac=0.1),
        curve_of("peak_memory_bytes", points_of(dict.fromkeys(SIZES, 0.4), 2e5, predicted=lambda value: value * 0.97), prediction_error_frac=0.03),
        curve_of("stored_bytes", points_of(same, 4.0, predicted=lambda value: value), prediction_error_frac=0.0),
        curve_of("packed_bytes", points_of(same, 0.9)),
        curve_of("gradient_bytes", points_of(same, 4.0)),
        curve_of("packed_gradient_bytes", points_of(same, 0.6)),
        curve_of("decode_s", points_of(dict.fromkeys(SIZES, 0.3), 2e-5)),
        curve_of("gap", gap),
        curve_of("onset_epoch", onset),
        curve_of("highest_rate", points_of(dict.fromkeys(SIZES, 0.0), 0.1, noise=0.3)),
        curve_of("noise_scale", points_of(dict.fromkeys(SIZES, 0.2), 300.0)),
        curve_of("spike_frac", spikes),
        curve_of("seed_sd", points_of(dict.fromkeys(SIZES, 0.0), 0.004, noise=0.4)[:5]),
    )  # fmt: skip
    return Study(
        family="gpt",
        source="text:data/text/novels.train.txt.xz",
        task="lm",
        unit="token",
        design_hash="0123456789abcdef",
        plan=StudyPlan(
            num_steps=400, short_steps=50, repeated_batches=12, expected_s=500.0, says=("By hand.",)
        ),
        num_units=819_200,
        num_epochs=0.07,
        rate_factor=2.0,
        is_rate_at_edge=False,
        members=tuple(
            StudyMember(name=f"d2-w{size}-n{size}", depth=2, width=size, num_params=size, lines=(line,))
            for line, sizes in SIZES.items()
            for size in sizes
        ),
        curves=curves,
        environment=Environment(
            kleiber="1.0", python="3.11", torch="2.13", platform="linux-x86_64", num_cores=2, num_threads=1
        ),
        eval_hash="fedcba9876543210",
        created_at="2026-01-01T00:00:00.000+00:00",
    )
