from __future__ import annotations

import pytest

from kleiber.errors import DataError, UsageError
from kleiber.scaling import Foretold, backtest_rows, naive_forecasts, scores
from kleiber.scaling.scores import interval_score

WIDE = {"sizes": (40_000, 120_000, 360_000, 1_080_000, 3_240_000), "horizons": (4e5, 2e6, 1e7, 5e7)}


def cell(method="m", log_foretold=0.0, half_80=0.02, cut_flops=1.0, naive_error=0.1):
    return Foretold(
        method=method, factor=10.0, cut_flops=cut_flops, flops=10.0, run="r", log_measured=0.0,
        log_foretold=log_foretold, half_80=half_80, half_95=2 * half_80, naive_error=naive_error,
    )  # fmt: skip


def test_scores_worked_by_hand():
    (score,) = scores(
        [cell(log_foretold=0.01), cell(log_foretold=-0.04), cell(log_foretold=0.05, cut_flops=2.0)]
    )
    assert (score.num_cuts, score.num_cells) == (2, 3)
    assert score.error == pytest.approx((0.02 * 0.05) ** 0.5)
    assert score.worst == pytest.approx(0.05)
    assert score.skill == pytest.approx(1 - (0.025 + 0.05) / 2 / 0.1)
    assert score.coverage_80 == pytest.approx(0.25)
    assert score.coverage_95 == pytest.approx(0.5)
    assert score.interval_score == pytest.approx((0.04 + 0.24) / 2 / 2 + 0.34 / 2)


def test_an_interval_pays_for_its_width_and_ten_times_for_what_it_missed():
    assert interval_score(cell(log_foretold=0.01)) == pytest.approx(0.04)
    assert interval_score(cell(log_foretold=0.05)) == pytest.approx(0.04 + 10 * 0.03)
    assert interval_score(cell(log_foretold=0.05), widening=3) == pytest.approx(0.12)


def test_the_true_form_foretells_and_a_parabola_does_not(ladder):
    rows = ladder(**WIDE, num_seeds=2, run_frac=0.001)
    cells = backtest_rows(rows, forms=("chinchilla", "quadratic"), factors=(10,), num_bootstrap=20)
    for one in cells:
        assert one.flops >= 9.99 * one.cut_flops
    by_method = {one.method: one for one in scores(cells)}
    assert by_method["chinchilla"].error < 0.02 < by_method["quadratic"].error
    assert by_method["chinchilla"].skill > 0.8


def test_forecasts_do_not_see_the_dear_rows(ladder):
    rows = ladder(**WIDE, num_seeds=2, run_frac=0.001)
    options = {"forms": ("auto",), "factors": (10.0,), "most_cuts": 1, "num_bootstrap": 20}
    cells = backtest_rows(rows, **options)
    dear = {one.run for one in cells}
    changed = [row.model_copy(update={"loss": row.loss * 1.3}) if row.run in dear else row for row in rows]
    assert [one.log_foretold for one in backtest_rows(changed, **options)] == [
        one.log_foretold for one in cells
    ]


def test_what_cannot_be_cut_or_is_unknown_is_said(ladder):
    told: list[str] = []
    rows = ladder(**WIDE)
    backtest_rows(rows, forms=("tied",), factors=(10, 1e9), num_bootstrap=20, on_skip=told.append)
    assert told == ["No cut leaves 15 rows to fit and one of 1e+09 times the compute to foretell."]
    with pytest.raises(DataError, match="too little, or too few, to cut"):
        backtest_rows(rows[:10])
    with pytest.raises(UsageError, match="'chinchila' cannot be backtested"):
        backtest_rows(rows, forms=("chinchila",))
    with pytest.raises(UsageError, match="gives no law to backtest"):
        backtest_rows(rows, estimators=("approach1",))
    with pytest.raises(UsageError, match="must be above 1"):
        backtest_rows(rows, factors=(1.0,))


def test_a_line_through_rungs_of_one_budget_stays_a_number(ladder):
    """It is as good as vertical, and would overflow at ten times the compute."""
    first, second = (
        ladder(sizes=(size,), horizons=(budget / size,), num_seeds=1)[0]
        for size, budget in ((40_000, 4e10), (80_000, 4.001e10))
    )
    rungs = (first, second.model_copy(update={"loss": first.loss * 0.9}))
    for rows in (rungs, tuple(row.model_copy(update={"loss": 8.1 / row.loss}) for row in rungs)):
        line = naive_forecasts(rows, "total", 1e6, 1e7).log_log_line_loss
        assert 0 < line < 1e22
