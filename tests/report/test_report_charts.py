from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.report.charts import chart_of, finish, log_ticks, loss_scale
from kleiber.report.isoflop_chart import isoflop_chart
from kleiber.report.law_points import Exchange, budgets, isoflop_curve, size_band, size_curve
from kleiber.report.run_charts import curves_chart, rate_chart
from kleiber.report.scaling_chart import scaling_chart
from kleiber.report.sources import read_sources
from kleiber.report.theme import DARK, LIGHT, Palette, ramp
from kleiber.report.words import read_words
from kleiber.runs import ParamCount, Record, Row
from kleiber.scaling import Law

EN = read_words("en")


def row(num_params: int, num_tokens: float, flops: float | None = None) -> Row:
    count = ParamCount(embedding=0, body=num_params, head=0)
    return Row(run="r", num_params=count, num_tokens=num_tokens, loss=3.0, trunk="r", train_flops=flops)


def test_numbers_that_are_not_finite_stay_out() -> None:
    rows = [{"x": 1.0, "y": 2.0}, {"x": math.nan, "y": 1.0}, {"x": math.inf, "y": 0.0}]
    spec = finish(
        chart_of("rows").mark_point().encode(x="x:Q"), data={"rows": rows}, height=9, description="d"
    )
    assert spec["datasets"] == {"rows": [{"x": 1.0, "y": 2.0}]}
    assert spec["data"] == {"name": "rows"}


def test_loss_axis_keeps_a_span_when_all_losses_are_equal() -> None:
    assert loss_scale([3.0, 3.0], room_frac=0.1).to_dict()["domain"] == pytest.approx([2.9, 3.1])


@given(st.floats(1e-2, 1e20), st.floats(3, 1e6))
def test_ticks_are_round_ordered_and_inside(low: float, ratio: float) -> None:
    ticks = log_ticks(low, low * ratio)
    assert ticks == sorted(set(ticks))
    assert all(low <= tick <= low * ratio for tick in ticks)
    assert all(f"{tick:.0e}"[0] in "1235" for tick in ticks)


def test_exchange_gives_back_counted_flops_and_six_without() -> None:
    rows = [row(10_000, 1e6, 8e10), row(100_000, 1e6, 6.5e11)]
    exchange = Exchange.of(rows, "total")
    assert exchange.flops(10_000, 2e6) == pytest.approx(1.6e11)
    assert exchange.flops(10**4.5, 1e6) == pytest.approx((8 + 6.5) / 2 * 10**10.5)  # halfway in log N
    assert exchange.flops(1e6, 1.0) == pytest.approx(6.5e6)
    assert Exchange.of([row(10_000, 1e6)], "total").flops(3, 5) == pytest.approx(90)


def test_budgets_are_where_sizes_meet() -> None:
    rows = [row(1000, 1e6), row(2000, 0.5e6), row(1000, 8e6), row(2000, 0.95e6)]
    found = budgets(rows, Exchange.of(rows, "total"), "total")
    assert [round(budget.flops / 6e9, 3) for budget in found] == [1.0, 1.9, 8.0]
    assert [len(budget.rows) for budget in found] == [2, 1, 1]


def test_the_best_size_of_a_budget_is_the_analytic_one(law: Law) -> None:
    exchange = Exchange((0.0,), (6.0,))
    flops = 3e12
    line = isoflop_curve(law, exchange, flops, (1e4, 1e7), top=math.inf)
    E, A, B, alpha, beta = (law.coefficients[name] for name in ("E", "A", "B", "alpha", "beta"))
    gain = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    best = gain * (flops / 6) ** (beta / (alpha + beta))  # Hoffmann et al. 2022, eq. 4
    lowest = min(line, key=lambda point: point["loss"])
    assert lowest["params"] == pytest.approx(best, rel=0.05)  # a step of the grid is 7.5%
    assert lowest["loss"] == pytest.approx(E + A / best**alpha + B / (flops / 6 / best) ** beta, rel=1e-4)
    assert max(point["loss"] for point in isoflop_curve(law, exchange, flops, (1e4, 1e7), top=4.0)) <= 4.0


def test_curves_follow_the_law_and_lie_in_its_interval(law: Law) -> None:
    exchange = Exchange((0.0,), (6.0,))
    for point in size_band(law, exchange, 2e5, (5e5, 5e6)):
        num_tokens = point["compute"] / 6 / 2e5
        assert point["loss"] == pytest.approx(law.predict(2e5, num_tokens).loss)
        assert point["low"] < point["loss"] < point["high"]
    curve = size_curve(law, exchange, 2e5, (5e5, 5e6), "200 K")
    assert curve[0]["loss"] == pytest.approx(law.predict(2e5, 5e5).loss)
    assert all(np.diff([point["loss"] for point in curve]) < 0)


def test_forecast_and_truth_stand_on_the_scaling_chart(study: Path) -> None:
    sources = read_sources([study])
    spec = scaling_chart(sources, EN)
    assert spec
    assert sources.forecast
    assert sources.target
    assert sources.target.record.result
    point = spec["datasets"]["target"][0]
    assert point["loss"] == sources.forecast.loss
    assert point["truth"] == sources.target.record.result.val_loss
    assert point["compute"] == sources.target.record.train_flops
    assert len(spec["datasets"]["runs"]) == 24


def test_isoflop_points_stand_with_their_budget(study: Path) -> None:
    found = isoflop_chart(read_sources([study]), EN)
    assert found
    spec, num_budgets = found
    assert num_budgets == 4
    assert len({line["budget"] for line in spec["datasets"]["law"]}) == 4
    assert {point["size"] for point in spec["datasets"]["runs"]} == {"39.2 K", "84.6 K", "182 K", "407 K"}


def test_curves_are_light_and_skip_what_is_not_finite(
    tmp_path: Path, make_run: Callable[..., Record]
) -> None:
    make_run(tmp_path / "a", num_params=50_000, num_steps=20_000)
    path = tmp_path / "a" / "metrics.jsonl"
    bad = [{"step": 1, "tokens": 512, "loss": math.nan, "val_loss": None, "lr": None}, {"step": 2}]
    path.write_text("".join(json.dumps(line) + "\n" for line in bad) + path.read_text() + '{"step": 3, "tok')
    sources = read_sources([tmp_path / "a"])
    spec = curves_chart(sources, EN)
    assert spec
    assert 100 <= len(spec["datasets"]["train"]) <= 120
    assert len(spec["datasets"]["val"]) == 40  # every 500 steps
    assert "NaN" not in json.dumps(spec)
    assert rate_chart(sources, EN)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_text_can_be_read_on_its_ground(palette: Palette) -> None:
    """WCAG 2.2 asks a contrast of 4.5 for text and 3 for marks."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    def contrast(colour: str, ground: str) -> float:
        light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    texts = (palette.ink, palette.muted, palette.accent, palette.truth, palette.good, palette.bad)
    for ground in (palette.paper, palette.card):
        assert [colour for colour in texts if contrast(colour, ground) < 4.5] == []
    assert [colour for colour in ramp(palette.sizes, 9) if contrast(colour, palette.card) < 2.2] == []
