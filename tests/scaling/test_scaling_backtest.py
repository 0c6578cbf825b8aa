from __future__ import annotations

import pytest

from kleiber.errors import DataError, UsageError
from kleiber.scaling import Cell, Prediction, backtest, coverage_frac, leave_one_out


def test_a_cell_worked_by_hand():
    cell = Cell(1e5, 1e6, Prediction(2.2, (1.98, 2.42), (1.9, 2.5)), (1.95, 2.05))
    assert cell.measured == pytest.approx(2.0)
    assert cell.error_frac == pytest.approx(0.1)
    assert cell.held_frac() == 0.5
    assert cell.held_frac("95") == 1.0
    assert cell.half_width_frac() == pytest.approx(0.1)
    assert cell.half_width_frac("95") == pytest.approx(0.3 / 2.2)


def test_each_size_is_left_out_with_all_its_trunks(noisy_rows, monkeypatch):
    fitted = []
    real = backtest.fit
    monkeypatch.setattr(backtest, "fit", lambda rows, **options: fitted.append(rows) or real(rows, **options))
    cells = leave_one_out(noisy_rows, num_bootstrap=100)
    assert len(cells) == 12
    assert [len(rows) for rows in fitted] == [18] * 4
    for rows, cell in zip(fitted, cells[::3], strict=True):
        assert cell.num_params not in {row.num_params.total for row in rows}
    assert {len(cell.losses) for cell in cells} == {2}
    assert max(abs(cell.error_frac) for cell in cells) < 0.05


def test_the_largest_horizon_is_left_out(noisy_rows):
    cells = leave_one_out(noisy_rows, by="horizon", num_bootstrap=100)
    assert [cell.num_tokens for cell in cells] == [1_638_400.0] * 4
    assert max(abs(cell.error_frac) for cell in cells) < 0.05


def test_intervals_cover_what_they_say(ladder):
    """Eight ladders drawn anew, 96 cells; over sixty of them 80% intervals hold 80% and 95% intervals 93%."""
    cells = [
        cell
        for seed in range(8)
        for cell in leave_one_out(
            ladder(trunk_frac=0.004, run_frac=0.0015, seed=seed), num_bootstrap=100, seed=seed
        )
    ]
    assert 0.70 <= coverage_frac(cells) <= 0.90
    assert 0.80 <= coverage_frac(cells, "95") <= 1.0
    assert sorted(cell.half_width_frac() for cell in cells)[len(cells) // 2] < 0.03


def test_what_is_left_out_is_checked(noisy_rows):
    with pytest.raises(UsageError, match="leaves out a 'size' or the largest 'horizon'"):
        leave_one_out(noisy_rows, by="seed")


def test_a_ladder_too_small_to_leave_anything_out_is_refused(ladder):
    with pytest.raises(DataError, match="at least two sizes"):
        leave_one_out(ladder(sizes=(40_000, 90_000)), num_bootstrap=100)
