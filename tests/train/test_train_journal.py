"""The diary of a run; and a disk that fills up while it runs."""

import contextlib
import json
import resource
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from kleiber.errors import Interrupted, StorageError
from kleiber.runs import METRIC_KEYS, RunFolder
from kleiber.train import train
from kleiber.train.checkpoint import read_newest
from kleiber.train.journal import Journal

_LINE = dict.fromkeys(METRIC_KEYS, 1.0)


@pytest.fixture
def limit():
    """Return a function after which no file may grow beyond a size: to a program the same as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _events(folder):
    files = sorted((folder.path / "events").iterdir())
    return [event for file in files for event in EventFileLoader(str(file)).Load()]


def test_tensorboard_reads_what_was_logged(tmp_path):
    folder = RunFolder(tmp_path)
    for start in (0, 20):  # a run and its resumption
        with Journal(folder, start) as journal:
            journal.write(_LINE | {"step": start + 10, "loss": 2.5, "val_loss": None})
    assert [line["step"] for line in folder.read_metrics()] == [10, 30]
    events = _events(folder)
    assert events[0].file_version == "brain.Event:2"
    assert [event.step for event in events if event.HasField("session_log")] == [1, 21]
    logged = [event for event in events if event.HasField("summary")]
    assert [event.step for event in logged] == [10, 30]
    tags = {value.tag for value in logged[0].summary.value}
    assert tags == set(METRIC_KEYS) - {"step", "time_s", "val_loss"}


def test_a_resumed_run_forgets_lines_after_its_step(tmp_path):
    with Journal(RunFolder(tmp_path), 0) as journal:
        for step in (10, 20, 30):
            journal.write(_LINE | {"step": step})
    with Journal(RunFolder(tmp_path), 20):
        pass
    assert [line["step"] for line in RunFolder(tmp_path).read_metrics()] == [10, 20]


def test_a_line_has_all_keys(tmp_path):
    with (
        Journal(RunFolder(tmp_path), 0) as journal,
        pytest.raises(ValueError, match="a line of metrics has the"),
    ):
        journal.write({"step": 1})


def test_a_full_disk_is_said_by_a_write(tmp_path, limit):
    with Journal(RunFolder(tmp_path), 0) as journal:
        limit(0)
        with pytest.raises(StorageError, match=r"cannot write .*metrics\.jsonl: File too large\."):
            journal.write(_LINE)
        limit(resource.RLIM_INFINITY)


@pytest.mark.parametrize(("error", "raised"), [(None, StorageError), (ZeroDivisionError, ZeroDivisionError)])
def test_a_full_disk_is_said_by_the_end_unless_there_was_an_error_before(tmp_path, limit, error, raised):
    def fill():
        with Journal(RunFolder(tmp_path), 0) as journal:
            limit(0)
            with contextlib.suppress(StorageError):
                journal.write(_LINE)  # stays in the file's buffer
            if error is not None:
                raise error

    with pytest.raises(raised):
        fill()


def test_a_disk_that_is_full_when_the_files_are_opened_is_said(tmp_path, limit):
    limit(0)
    with pytest.raises(StorageError, match=r"cannot write .*events.out.tfevents.*: File too large\."):
        Journal(RunFolder(tmp_path), 0)


@pytest.mark.parametrize(
    "case",
    [
        (20_000, 5, r"checkpoints/step-00000010: .*File too large", "failed"),
        (
            1_500,
            6,
            r"checkpoints/step-00000012: .*File too large",
            "running",
        ),  # nor can the record be written
        (300, 8, r"metrics\.jsonl: File too large", "running"),
    ],
)
def test_a_disk_that_fills_up_leaves_earlier_checkpoints_whole(recipe, tmp_path, limit, case):
    size_bytes, checkpoint_every, message, status = case
    recipe = recipe.with_values([f"train.checkpoint_every={checkpoint_every}"])
    folder = RunFolder(tmp_path / "a")

    with pytest.raises(StorageError, match=rf"cannot write .*{message}"):
        train(recipe, folder.path, on_progress=lambda progress: progress.step == 10 and limit(size_bytes))
    limit(resource.RLIM_INFINITY)
    checkpoint, complaints = read_newest(folder.checkpoints_path)
    assert (checkpoint.counters.step, complaints) == (checkpoint_every, [])
    assert folder.read_record().status == status
    assert not list(folder.checkpoints_path.glob(".*"))
    assert train(recipe, folder.path).status == "finished"


def test_a_full_disk_ends_the_command_with_one_clear_error(recipe, tmp_path):
    folder = RunFolder(tmp_path / "a")

    def interrupt(progress):
        if progress.step == 10:
            raise Interrupted("by hand.")

    with pytest.raises(Interrupted):
        train(recipe, folder.path, on_progress=interrupt)
    recipe.write(tmp_path / "r.yaml")
    code = (
        "import resource, sys; from kleiber.cli.main import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "train", str(tmp_path / "r.yaml"), "-o", str(folder.path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    error = ran.stderr[ran.stderr.index("error: ") :]
    assert error.startswith("error: cannot write ")
    assert "checkpoints/step-00000010" in error
    assert error.endswith("then run the same command again, without --fresh: it resumes\n")
    record = json.loads(folder.record_path.read_text())
    assert record["status"] == "failed"
    assert read_newest(folder.checkpoints_path)[0].counters.step == 5
