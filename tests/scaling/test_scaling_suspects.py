from __future__ import annotations

import pytest

from kleiber.scaling import fit


def test_a_row_that_is_there_twice_counts_once(ladder):
    rows = ladder(run_frac=0.003)
    once, twice = fit(rows, num_bootstrap=100), fit([*rows, rows[3], rows[5]], num_bootstrap=100)
    assert twice.coefficients == once.coefficients
    assert twice.num_rows == len(rows)
    assert twice.notes[0].startswith(
        "2 rows say exactly what another says, and count once: n40000-s1-h512000, "
    )
    assert not any("exactly what another" in note for note in once.notes)
    (note, *_) = fit([*rows, rows[0]], num_bootstrap=100).notes
    assert note.startswith("1 row says exactly")


def test_two_seeds_of_one_loss_are_two_runs(ladder):
    assert fit(ladder(), num_bootstrap=100).num_rows == 24


@pytest.mark.parametrize("factor", [1.2, 3.0])
def test_a_diverged_run_is_named(ladder, factor):
    rows = ladder(run_frac=0.003)
    rows[4] = rows[4].model_copy(update={"loss": rows[4].loss * factor})
    (note, *_) = fit(rows, num_bootstrap=100).notes
    assert note.startswith(f"1 run lies far above the law, {rows[4].run!r} by ")
    assert note.endswith(f"--where 'run != \"{rows[4].run}\"'")


def test_several_are_counted_and_three_named(ladder):
    rows = ladder(run_frac=0.003, num_seeds=4)
    for k in (4, 11, 17, 30, 41):
        rows[k] = rows[k].model_copy(update={"loss": rows[k].loss * 1.5})
    (note, *_) = fit(rows, num_bootstrap=100).notes
    assert note.startswith("5 runs lie far above the law")
    assert " and 2 more)" in note


def test_a_run_far_below_or_a_little_above_is_none(ladder):
    rows = ladder(run_frac=0.003)
    rows[4] = rows[4].model_copy(update={"loss": rows[4].loss * 0.8})
    rows[9] = rows[9].model_copy(update={"loss": rows[9].loss * 1.03})
    assert not any("far above" in note for note in fit(rows, num_bootstrap=100).notes)


def test_a_diverged_run_widens_no_interval(ladder):
    rows = ladder(run_frac=0.003)
    clean = fit(rows, num_bootstrap=100)
    rows[4] = rows[4].model_copy(update={"loss": rows[4].loss * 1.5})
    broken = fit(rows, num_bootstrap=100)
    assert broken.noise.total_frac == pytest.approx(clean.noise.total_frac, rel=0.5)
    assert "no part of its noise" in broken.notes[0]
