from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kleiber.errors import RunFolderError
from kleiber.report.sources import read_sources
from kleiber.runs import Record


def test_a_study(study: Path) -> None:
    sources = read_sources([study])
    assert len(sources.runs) == 8 * 4 + 1
    assert len(sources.ladder) == 8 * 4
    assert sources.target
    assert sources.target.record.run == "target"
    assert sources.size_labels == ["39.2 K", "84.6 K", "182 K", "407 K", "1.27 M"]
    assert [entry.method for entry in sources.ledger] == ["law", "last_rung", "log_log_line", *["plan"] * 3]


def test_a_run_folder_finds_what_stands_beside_it(study: Path) -> None:
    alone = read_sources([study / "target"])
    assert len(alone.runs) == 1
    assert alone.law
    assert alone.forecast
    assert alone.target is alone.runs[0]
    rung = read_sources([study / "ladder" / "d2-w32-s0"])
    assert rung.law is None
    assert rung.target is None


def test_what_a_shell_brings_along(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "demo"
    shutil.copytree(study, copy)
    (copy / "report.html").write_text("old")
    sources = read_sources(sorted(copy.iterdir()), output=copy / "report.html")
    assert len(sources.runs) == 33
    with pytest.raises(RunFolderError, match="is not a run folder and holds none"):
        read_sources(sorted(copy.iterdir()))


def test_the_target_is_the_run_that_names_the_forecast(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "demo"
    shutil.copytree(study, copy)
    (copy / "target").rename(copy / "big")
    found = read_sources([copy]).target
    assert found
    assert found.folder.name == "big"
    (copy / "forecast.json").unlink()
    assert read_sources([copy]).target


def test_two_studies_are_refused(study: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(study / "law.json", tmp_path / name)
    with pytest.raises(RunFolderError, match="One report shows one study, and the paths hold two"):
        read_sources([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read as a plan"), ("[1]", "must hold a mapping of keys to values. Got 'list'")],
)
def test_a_broken_plan(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(RunFolderError, match=message):
        read_sources([tmp_path])


def test_a_truncated_record_is_named(tmp_path: Path, make_run: Callable[..., Record]) -> None:
    make_run(tmp_path / "a", num_params=50_000, num_steps=1000)
    (tmp_path / "a" / "record.json").write_text('{"run": ')
    with pytest.raises(RunFolderError, match=r"record\.json is truncated or not valid JSON"):
        read_sources([tmp_path])


def test_a_branch_spends_only_its_own_steps(tmp_path: Path, make_run: Callable[..., Record]) -> None:
    make_run(tmp_path / "r" / "trunk", num_params=50_000, num_steps=2400)
    make_run(tmp_path / "r" / "trunk-h1000", num_params=50_000, num_steps=1000, branch_of="trunk")
    make_run(tmp_path / "r" / "x", num_params=50_000, num_steps=1000, status="running", steps_done=400)
    trunk, branch, running = read_sources([tmp_path / "r"]).runs
    flops_per_step = 6.6 * 50_000 * 512
    assert trunk.spent_flops == pytest.approx(2400 * flops_per_step)
    assert branch.spent_flops == pytest.approx(250 * flops_per_step)
    assert running.spent_flops == pytest.approx(400 * flops_per_step)
