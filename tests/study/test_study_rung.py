import dataclasses
import math

import pytest

from kleiber.errors import DivergedError, KleiberError
from kleiber.fleet import Done
from kleiber.runs import RunFolder
from kleiber.scaling import read_excluded, read_rows
from kleiber.study import rung as rung_module
from kleiber.study.design import rungs_of
from kleiber.study.ladder import ladder_excluded, ladder_rows, ladder_status, run_ladder
from kleiber.study.rung import excluded_runs, has_ended, run_names, slower, train_rung
from kleiber.train import train
from kleiber.train.schedule import rate as ordinary


class InThisProcess:
    def run(self, jobs):
        for job in jobs:
            yield Done(job.name, job.call(lambda _: None))


@pytest.fixture
def diverging(monkeypatch):
    """Names of runs whose loss leaves the finite numbers at their third step, and what was trained."""
    names, asked = set(), []

    def trained(recipe, folder, **options):
        asked.append((folder.name, recipe.train.optimizer.lr))
        if folder.name in names:
            monkeypatch.setattr("kleiber.train.loop.rate", lambda step, *_: float("inf") if step else 1.0)
        try:
            return train(recipe, folder, **options)
        finally:
            monkeypatch.setattr("kleiber.train.loop.rate", ordinary)

    monkeypatch.setattr(rung_module, "train", trained)
    return names, asked


@pytest.fixture
def small(design):
    return design.model_copy(update={"sizes": design.sizes[:2], "seeds": (0,)})


def test_a_trunk_that_diverges_is_trained_again_at_half_the_rates_and_stops_no_other(
    small, diverging, tmp_path
):
    diverging[0].add("d1-w32-s0")
    rows = run_ladder(small, tmp_path, executor=InThisProcess())
    assert [row.run for row in rows] == [
        "d1-w16-s0-h16",
        "d1-w16-s0-h32",
        "d1-w32-s0-slower-h16",
        "d1-w32-s0-slower-h32",
    ]
    assert {row.trunk for row in rows} == {"d1-w16-s0", "d1-w32-s0-slower"}
    (one,) = ladder_excluded(small, tmp_path)
    assert one.run == "d1-w32-s0"
    assert "not finite at step" in one.reason
    assert one.reason.endswith("; trained again at half the rates as d1-w32-s0-slower.")
    first, again = (
        RunFolder(tmp_path / "ladder" / f"d1-w32-s0{end}").read_record() for end in ("", "-slower")
    )
    assert (first.status, first.is_diverged, again.is_diverged) == ("failed", True, False)
    rates = [record.recipe.train.optimizer for record in (first, again)]
    assert rates[1].lr == rates[0].lr / 2
    assert rates[1].matrix_lr == rates[0].matrix_lr / 2
    by_name = {one.run: one for one in ladder_status(tmp_path)}
    assert by_name["d1-w32-s0"].status == "diverged"
    assert by_name["d1-w32-s0"].reason == one.reason
    assert "d1-w32-s0-h16" not in by_name
    assert by_name["d1-w32-s0-slower-h16"].status == "finished"

    diverging[1].clear()
    assert run_ladder(small, tmp_path, executor=InThisProcess()) == rows
    assert diverging[1] == []


def test_a_trunk_that_diverges_twice_is_left_out(small, diverging, tmp_path):
    diverging[0].update({"d1-w32-s0", "d1-w32-s0-slower"})
    rows = run_ladder(small, tmp_path, executor=InThisProcess())
    assert [row.trunk for row in rows] == ["d1-w16-s0"] * 2
    assert [one.run for one in ladder_excluded(small, tmp_path)] == ["d1-w32-s0", "d1-w32-s0-slower"]
    assert ladder_excluded(small, tmp_path)[1].reason.endswith("; its branches were not trained.")
    diverging[1].clear()
    assert run_ladder(small, tmp_path, executor=InThisProcess()) == rows
    assert diverging[1] == []


def test_a_trunk_that_ends_above_guessing_has_diverged_too(small, monkeypatch, tmp_path):
    def wild(recipe, folder, **options):
        factor = 1e3 if folder.name == "d1-w32-s0" else 1.0
        monkeypatch.setattr("kleiber.train.loop.rate", lambda *given: factor * ordinary(*given))
        return train(recipe, folder, **options)

    monkeypatch.setattr(rung_module, "train", wild)
    rows = run_ladder(small, tmp_path, executor=InThisProcess())
    assert {row.trunk for row in rows} == {"d1-w16-s0", "d1-w32-s0-slower"}
    first = RunFolder(tmp_path / "ladder" / "d1-w32-s0").read_record()
    assert (first.status, first.is_diverged) == ("finished", False)
    assert first.result.val_loss > 1.01 * math.log(small.base.data.vocab_size)
    (one,) = ladder_excluded(small, tmp_path)
    assert one.reason.startswith("It ended at a loss of")
    assert one.reason.endswith("that of guessing; trained again at half the rates as d1-w32-s0-slower.")
    assert [row.status for row in ladder_status(tmp_path) if row.run == "d1-w32-s0"] == ["diverged"]


def test_a_branch_that_diverges_leaves_its_sisters(small, diverging, tmp_path):
    rung = rungs_of(small)[1]
    diverging[0].add("d1-w32-s0-h16")
    train_rung(rung, tmp_path / "ladder", lambda _: None)
    assert has_ended(rung, tmp_path / "ladder")
    (one,) = excluded_runs(rung, tmp_path / "ladder")
    assert one.reason.endswith("; it is left out.")
    assert [row.run for row in ladder_rows(small, tmp_path)] == ["d1-w32-s0-h32"]


def test_another_error_still_ends_a_rung(small, monkeypatch, tmp_path):
    def full(*_, **__):
        raise KleiberError("the disk is full.")

    monkeypatch.setattr(rung_module, "train", full)
    with pytest.raises(KleiberError, match="disk is full"):
        train_rung(rungs_of(small)[0], tmp_path, lambda _: None)


def test_a_second_attempt_is_told_apart_by_its_names(small, tmp_path):
    rung = rungs_of(small)[0]
    again = slower(rung)
    assert [name for name, _ in again.branches] == ["d1-w16-s0-slower-h16", "d1-w16-s0-slower-h32"]
    assert not has_ended(rung, tmp_path)
    assert [name for name, _ in run_names(rung, tmp_path)] == ["d1-w16-s0", "d1-w16-s0-h16", "d1-w16-s0-h32"]
    assert dataclasses.replace(again, trunk=rung.trunk).spec == rung.spec


def test_only_divergence_marks_a_record(small, diverging, tmp_path):
    rung = rungs_of(small)[0]
    diverging[0].add("one")
    with pytest.raises(DivergedError):
        rung_module.train(rung.trunk_recipe, tmp_path / "one")
    assert RunFolder(tmp_path / "one").read_record().is_diverged
    rung_module.train(rung.trunk_recipe, tmp_path / "two")
    assert not RunFolder(tmp_path / "two").read_record().is_diverged


def test_a_law_tells_what_it_was_not_fitted_to(small, diverging, tmp_path):
    diverging[0].add("d1-w32-s0")
    rows = run_ladder(small, tmp_path, executor=InThisProcess())
    assert [row.run for row in read_rows([tmp_path / "ladder"])] == sorted(row.run for row in rows)
    assert read_excluded([tmp_path / "ladder"]) == tuple(ladder_excluded(small, tmp_path))
