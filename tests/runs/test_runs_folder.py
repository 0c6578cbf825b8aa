"""Run folders: found, read, and refused when they are not one."""

from __future__ import annotations

import json

import pytest

from kleiber.errors import RunFolderError
from kleiber.runs import (
    LedgerEntry,
    Lineage,
    RunFolder,
    find_runs,
    read_ledger,
    row_of,
    write_ledger,
)


@pytest.fixture
def make_run(make_record):
    """Return a function that writes a finished run."""

    def make(path):
        make_record(path.name).write(RunFolder(path).record_path)
        return RunFolder(path)

    return make


def test_a_copied_run_still_reads(make_run, tmp_path):
    run = make_run(tmp_path / "a")
    run.path.rename(tmp_path / "b")
    assert RunFolder(tmp_path / "b").read_record().run == "a"


def test_the_model_of_a_run_and_a_model_without_one_are_found(make_run, tmp_path):
    run = make_run(tmp_path / "a")
    with pytest.raises(
        RunFolderError, match=r"a has no model yet: .*\n  try: kleiber train .*recipe\.yaml -o .*a$"
    ):
        run.find_model()
    run.model_path.mkdir()
    with pytest.raises(RunFolderError, match=r"model is neither a run nor a folder with a config\.json\."):
        RunFolder(run.model_path).find_model()
    (run.model_path / "config.json").write_text("{}")
    assert run.find_model() == RunFolder(run.model_path).find_model() == tmp_path / "a" / "model"


def test_a_folder_without_a_record_is_not_a_run(tmp_path):
    with pytest.raises(
        RunFolderError, match=r"is not a run folder: it has no record\.json\.\n  try: kleiber train"
    ):
        RunFolder(tmp_path).read_record()


def test_a_truncated_record_says_so(make_run, tmp_path):
    run = make_run(tmp_path / "a")
    text = run.record_path.read_text()
    run.record_path.write_text(text[: len(text) // 2])
    with pytest.raises(RunFolderError, match=r"record\.json is truncated or not valid JSON"):
        run.read_record()


def test_a_record_of_a_later_version_is_refused(make_run, tmp_path):
    run = make_run(tmp_path / "a")
    raw = json.loads(run.record_path.read_text()) | {"version": 3}
    run.record_path.write_text(json.dumps(raw))
    with pytest.raises(RunFolderError, match=r"record\.json: version: input should be 2\. Got 3\."):
        run.read_record()


def test_the_last_metrics_line_may_be_torn(tmp_path):
    run = RunFolder(tmp_path)
    run.metrics_path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert [line["step"] for line in run.read_metrics()] == [1, 2]


def test_a_torn_line_in_the_middle_is_an_error(tmp_path):
    run = RunFolder(tmp_path)
    run.metrics_path.write_text('{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl line 2 is not valid JSON"):
        run.read_metrics()


def test_no_metrics_yet_is_no_error(tmp_path):
    run = RunFolder(tmp_path)
    assert run.read_metrics() == run.read_samples() == run.read_ledger() == []


def test_find_runs_looks_two_levels_deep_in_order(make_run, tmp_path):
    for name in ("ladder/b", "ladder/a", "target", "a/b/too-deep"):
        make_run(tmp_path / name)
    assert [run.name for run in find_runs([tmp_path])] == ["a", "b", "target"]
    assert [run.name for run in find_runs([tmp_path / "target", tmp_path / "ladder"])] == ["target", "a", "b"]


def test_find_runs_does_not_enter_a_run(make_run, tmp_path):
    make_run(tmp_path / "outer")
    make_run(tmp_path / "outer" / "inner")
    assert [run.name for run in find_runs([tmp_path / "outer"])] == ["outer"]


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_find_runs_refuses_a_path_without_any(tmp_path, name):
    with pytest.raises(RunFolderError, match=r"is not a run folder and holds none\.\n  try: kleiber train"):
        list(find_runs([tmp_path / name]))


def test_a_branch_belongs_to_its_trunk(make_record):
    branch = make_record("d2-s0-h100", lineage=(Lineage(run="d2-s0", operation="branch", step=80),))
    assert branch.trunk == "d2-s0"
    assert make_record("d2-s0").trunk == "d2-s0"


def test_row_of_a_finished_run(make_record):
    row = row_of(make_record())
    assert row is not None
    assert (row.loss, row.num_tokens, row.unique_tokens, row.trunk) == (3.2, 20_000, 5_000, "small")
    assert (row.eval_hash, row.seed, row.num_params.total) == ("e", 3, 30)


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_an_unfinished_run_has_no_row(make_record, status):
    assert row_of(make_record(status=status, result=None)) is None


def make_entry(**changes):
    return LedgerEntry(
        **{
            "quantity": "val_loss", "unit": "nats/token", "predicted": 2.1, "measured": 2.0, "predicted_at": "a",
            "measured_at": "b", "method": "law", "interval_80": (1.9, 2.2), "skill": 0.1,
        } | changes
    )  # fmt: skip


def test_the_ledger_comes_back(tmp_path):
    entries = [make_entry(), make_entry(quantity="step_time_s", unit="s", interval_80=None, skill=None)]
    write_ledger(tmp_path / "ledger.jsonl", entries)
    assert read_ledger(tmp_path / "ledger.jsonl") == entries


def test_ledger_arithmetic():
    assert make_entry().error_frac == pytest.approx(0.05)
    assert make_entry(predicted=1.9).error_frac == pytest.approx(-0.05)
    assert make_entry().is_inside is True
    assert make_entry(measured=2.3).is_inside is False
    assert make_entry(interval_80=None).is_inside is None


def test_a_ledger_line_that_does_not_parse_is_named(tmp_path):
    path = tmp_path / "ledger.jsonl"
    write_ledger(path, [make_entry()])
    path.write_text(path.read_text() + "{oh\n")
    with pytest.raises(RunFolderError, match=r"ledger\.jsonl line 2 is not valid JSON"):
        read_ledger(path)
    path.write_text('{"quantity": "happiness"}\n')
    with pytest.raises(RunFolderError, match=r"ledger\.jsonl line 1: quantity: input should be 'val_loss'"):
        read_ledger(path)
