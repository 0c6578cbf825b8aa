"""Charts and tables of backtests and of ladders beside each other, by themselves and in a report."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from kleiber.errors import UsageError
from kleiber.report.backtest_chart import (
    backtest_panels,
    coverage_chart,
    error_chart,
    methods_of,
    write_backtest_chart,
)
from kleiber.report.backtest_table import backtest_views
from kleiber.report.compare_chart import crossing_says, difference_chart, loss_chart, write_compare_chart
from kleiber.report.page import write_report
from kleiber.report.words import read_words
from kleiber.runs import ParamCount, Row
from kleiber.scaling import Foretold, Law, fit
from kleiber.scaling.backtest_document import Backtest
from kleiber.scaling.comparison_document import Comparisons

EN = read_words("en")


def cell(method: str, factor: float, reach: float, log_error: float, half_80: float = 0.02) -> Foretold:
    return Foretold(
        method=method, factor=factor, cut_flops=1e18, flops=reach * 1e18, run=f"run-{reach:g}", log_measured=1.0,
        log_foretold=1.0 + log_error, half_80=half_80, half_95=2 * half_80, naive_error=0.1,
    )  # fmt: skip


CELLS = (
    cell("auto", 10, 10, 0.01), cell("auto", 10, 40, -0.03), cell("tied", 10, 10, 0.04), cell("tied", 10, 40, 0.09),
    cell("auto", 30, 40, 0.0),
)  # fmt: skip


@pytest.fixture
def found() -> Backtest:
    return Backtest.of_cells({"": (35, CELLS, ["tied on 16 rows: too few."])}, "total")


def test_the_document_holds_what_was_found_and_comes_back(found: Backtest, tmp_path: Path) -> None:
    found.write(tmp_path / "backtest.json")
    again = Backtest.read(tmp_path / "backtest.json")
    assert again == found
    group = again.groups[""]
    assert group.num_rows == 35
    assert [one.reach for one in group.cells] == [10, 40, 10, 40, 40]
    assert group.cells[1].log_error == pytest.approx(-0.03)
    auto = group.scores[0]
    assert (auto.method, auto.factor, auto.num_cells) == ("auto", 10, 2)
    assert auto.error == pytest.approx(math.sqrt(0.01 * 0.03))
    assert auto.coverage_80 == 0.5


def test_a_skill_beside_an_exact_naive_forecast_is_none() -> None:
    exact = [Foretold(**(vars(CELLS[0]) | {"naive_error": 0.0}))]
    assert Backtest.of_cells({"": (20, exact, [])}, "total").groups[""].scores[0].skill is None


def test_errors_stand_at_the_reach_of_their_runs_and_never_at_0(found: Backtest) -> None:
    spec = error_chart(found.groups[""], methods_of(found), EN)
    assert methods_of(found) == ["auto", "tied"]
    assert [(row["reach"], row["error"]) for row in spec["datasets"]["cells"][:2]] == [
        (10, pytest.approx(0.01)),
        (40, pytest.approx(0.03)),
    ]
    assert spec["datasets"]["cells"][4]["error"] == 1e-4  # a logarithmic axis has no 0
    assert [(row["method"], row["reach"]) for row in spec["datasets"]["means"]] == [
        ("auto", 10), ("tied", 10), ("auto", 30),
    ]  # fmt: skip


def test_coverage_stands_beside_what_is_promised(found: Backtest) -> None:
    spec = coverage_chart(found.groups[""], methods_of(found), EN)
    assert {row["held"] for row in spec["datasets"]["nominal"]} == {0.8, 0.95}
    held = {(row["method"], row["factor"], row["level"]): row["held"] for row in spec["datasets"]["held"]}
    assert held["auto", "10x", "80%"] == 0.5
    assert held["auto", "10x", "95%"] == 1.0
    assert held["tied", "10x", "80%"] == 0.0


@pytest.mark.parametrize("suffix", ["svg", "png", "html"])
def test_a_backtest_is_drawn(found: Backtest, tmp_path: Path, suffix: str) -> None:
    path = write_backtest_chart(found, tmp_path / f"backtest.{suffix}")
    head = path.read_bytes()
    assert {"svg": b"<svg", "png": b"\x89PNG", "html": b"<!doctype html>"}[suffix] in head[:200]
    if suffix == "svg":
        assert b"tied" in head
        assert b"How often the intervals held" in head
    if suffix == "html":
        assert b"10x" in head
        assert b"tied on 16 rows: too few." in head


def test_another_ending_is_refused(found: Backtest, pair: Comparisons, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"A backtest is drawn as \.svg, \.png or \.html\. Got 'x\.pdf'"):
        write_backtest_chart(found, tmp_path / "x.pdf")
    with pytest.raises(UsageError, match=r"A comparison is drawn as \.svg, \.png or \.html\. Got 'x\.pdf'"):
        write_compare_chart(pair, tmp_path / "x.pdf")


def test_the_table_has_the_least_error_first(found: Backtest) -> None:
    (view,) = backtest_views(found, EN)
    assert view.table is not None
    assert [row[0].text for row in view.table.rows] == ["auto", "tied", "auto"]
    assert [row[1].text for row in view.table.rows] == ["10x", "10x", "30x"]
    assert view.table.rows[0][3].text == "1.73%"
    assert view.about == "35 rows, 5 forecasts"
    assert backtest_views(None, EN) == []
    assert len(backtest_panels(found, EN)) == 2


def ladder(bonus: float, slope: float) -> Law:
    random = np.random.default_rng(3)
    rows = [
        Row(run=f"{n}-{d:g}", trunk=f"{n}-{d:g}", num_tokens=d, num_params=ParamCount(embedding=0, body=n, head=0),
            loss=float((1.7 + bonus + 120 / n**slope + 300 / d**0.35) * np.exp(random.normal(0, 0.001))))
        for n in (30_000, 100_000, 300_000, 1_000_000) for d in (1e6, 4e6, 1.6e7)
    ]  # fmt: skip
    return fit(rows, num_bootstrap=100)


@pytest.fixture(scope="module")
def pair() -> Comparisons:
    # The second is worse by a constant and better by its exponent: it wins where size is large.
    return Comparisons.of_groups("recipe", {"old": ladder(0.0, 0.30), "new": ladder(0.4, 0.33)}, ["new"])


def test_a_comparison_holds_curves_and_comes_back(pair: Comparisons, tmp_path: Path) -> None:
    pair.write(tmp_path / "comparison.json")
    assert Comparisons.read(tmp_path / "comparison.json") == pair
    (one,) = pair.pairs
    spent = [run.flops for run in [*one.first_runs, *one.second_runs]]
    assert one.points[0].flops == pytest.approx(min(spent))
    assert one.points[-1].flops == pytest.approx(100 * max(spent))
    for point in one.points:
        assert point.difference == pytest.approx(point.second_loss - point.first_loss)


def test_the_difference_is_drawn_with_its_interval_and_its_crossing(pair: Comparisons) -> None:
    (one,) = pair.pairs
    spec = difference_chart(one, EN)
    (mark,) = spec["datasets"]["crossing"]
    signs = [row["difference"] > 0 for row in spec["datasets"]["points"]]
    change = signs.index(not signs[0])
    left, right = (spec["datasets"]["points"][k]["flops"] for k in (change - 1, change))
    assert left <= mark["flops"] <= right
    assert all(
        row["low95"] <= row["low"] <= row["high"] <= row["high95"] for row in spec["datasets"]["points"]
    )
    assert "They cross at" in crossing_says(one, EN)
    assert {row["group"] for row in loss_chart(one, EN)["datasets"]["runs"]} == {"old", "new"}


def test_two_that_do_not_cross_say_so_and_draw_no_crossing(pair: Comparisons) -> None:
    (one,) = pair.pairs
    apart = one.model_copy(
        update={"crossing": one.crossing.model_copy(update={"flops": None, "crosses_frac": 0.02})}
    )
    assert difference_chart(apart, EN)["datasets"]["crossing"] == []
    assert re.search("do not cross from .*; 2% of the pairs", crossing_says(apart, EN))
    unsure = one.model_copy(update={"crossing": one.crossing.model_copy(update={"interval_80": None})})
    assert "which is not sure" in crossing_says(unsure, EN)


@pytest.mark.parametrize("suffix", ["svg", "png", "html"])
def test_a_comparison_is_drawn(pair: Comparisons, tmp_path: Path, suffix: str) -> None:
    path = write_compare_chart(pair, tmp_path / f"comparison.{suffix}")
    head = path.read_bytes()
    assert {"svg": b"<svg", "png": b"\x89PNG", "html": b"<!doctype html>"}[suffix] in head[:200]
    if suffix == "svg":
        assert b"new less old" in head


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_report_shows_both_where_they_lie_in_the_study(
    found: Backtest, pair: Comparisons, tmp_path: Path, lang: str
) -> None:
    found.write(tmp_path / "backtest.json")
    pair.write(tmp_path / "comparison.json")
    page = write_report([tmp_path], tmp_path / "report.html", lang=lang).read_text(encoding="utf-8")  # type: ignore[arg-type]
    words = read_words(lang)
    for key in ("backtest_title", "compare_part"):
        assert words(key) in page
    for chart in ("backtest-error-0", "backtest-held-0", "compare-loss-0", "compare-difference-0"):
        assert f'id="chart-{chart}"' in page
    assert "tied on 16 rows: too few." in page
