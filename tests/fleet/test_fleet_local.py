import functools
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from fleet_jobs import crash, die, fail, square

from kleiber.errors import DataError, Interrupted, KleiberError
from kleiber.fleet import Done, Job, LocalExecutor, Progressed


def test_jobs_run_in_several_processes_and_report():
    jobs = [Job(f"j{i}", functools.partial(square, i)) for i in range(4)]
    events = list(LocalExecutor(2).run(jobs))
    done = {event.job: event.result[0] for event in events if isinstance(event, Done)}
    assert done == {"j0": 0, "j1": 1, "j2": 4, "j3": 9}
    assert {event.value for event in events if isinstance(event, Progressed)} == {
        f"squaring {i}" for i in range(4)
    }
    pids = {event.result[1] for event in events if isinstance(event, Done)}
    assert os.getpid() not in pids
    assert len(pids) <= 2


def test_no_jobs_are_no_events():
    assert list(LocalExecutor(2).run([])) == []


def test_an_error_arrives_whole_after_the_other_jobs_have_ended():
    jobs = [Job("bad", fail), Job("good", functools.partial(square, 2))]
    done = []
    with pytest.raises(DataError, match=r"no text\. Got 3\.\n  try: some text") as caught:
        done.extend(event for event in LocalExecutor(2).run(jobs) if isinstance(event, Done))
    assert caught.value.exit_code == 2
    assert [event.job for event in done] == ["good"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (die, r"the process of job died with exit code -9\.\n  try: .* without --fresh: it resumes"),
        (crash, r"job failed: ZeroDivisionError: by hand\."),
    ],
)
def test_a_broken_job_is_said(call, message):
    with pytest.raises(KleiberError, match=message):
        list(LocalExecutor(1).run([Job("job", call)]))


_SCRIPT = """
import functools, os, pathlib, sys, time
from kleiber.fleet import Job, LocalExecutor
from kleiber.errors import DataError, Interrupted, KleiberError

def wait(ends_with, report):
    try:
        pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
        if ends_with == "report":
            os.kill(os.getppid(), 9)
            while True:
                try:
                    report(3)
                except Exception as error:
                    pathlib.Path(sys.argv[1] + ".told").write_text(repr(error))
                    raise
        time.sleep(60)
    except KeyboardInterrupt:
        pathlib.Path(sys.argv[1] + ".told").touch()
        if ends_with == "Interrupted":
            raise Interrupted("stopped at step 3; a checkpoint was written.")
        if ends_with == "DataError":
            raise DataError("the text is gone.")
        if ends_with == "death":
            os.kill(os.getpid(), 9)
        if ends_with == "result":
            return
        raise

if __name__ == "__main__":
    jobs = [Job(end, functools.partial(wait, end)) for end in sys.argv[2:]]
    try:
        list(LocalExecutor(len(jobs)).run(jobs))
    except KleiberError as error:
        print(error.message)
        sys.exit(error.exit_code)
"""


def _start(tmp_path, *ends):
    script, mark = tmp_path / "wait.py", tmp_path / "pid"
    script.write_text(textwrap.dedent(_SCRIPT))
    process = subprocess.Popen(
        [sys.executable, str(script), str(mark), *ends], stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (mark.exists() and mark.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process, int(mark.read_text()), tmp_path / "pid.told"


@pytest.mark.parametrize(
    ("number", "end", "message", "code"),
    [
        (signal.SIGINT, "Interrupted", "stopped; every run wrote a checkpoint.", Interrupted.exit_code),
        (signal.SIGTERM, "KeyboardInterrupt", "stopped.", Interrupted.exit_code),
        (signal.SIGINT, "result", "stopped.", Interrupted.exit_code),
        (signal.SIGINT, "DataError", "the text is gone.", DataError.exit_code),
        (signal.SIGINT, "death", "the process of death died with exit code -9.", KleiberError.exit_code),
    ],
)
def test_an_interrupt_reaches_the_jobs_and_says_how_they_ended(tmp_path, number, end, message, code):
    process, _, told = _start(tmp_path, end)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert output == f"{message}\n"
    assert process.returncode == code
    assert told.exists()


def test_a_signal_after_the_last_job_is_not_lost():
    done = []

    def run():
        for event in LocalExecutor(1).run([Job("j", functools.partial(square, 3))]):
            if isinstance(event, Done):
                done.append(event.job)
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"^stopped\.\n  try: .* without --fresh"):
        run()
    assert done == ["j"]


def test_jobs_end_when_their_parent_is_killed(tmp_path):
    process, worker, _ = _start(tmp_path, "result")
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while _is_alive(worker):
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.1)


def test_a_job_whose_parent_is_killed_does_not_hear_of_it(tmp_path):
    process, worker, told = _start(tmp_path, "report")
    process.communicate()
    deadline = time.monotonic() + 10
    while _is_alive(worker):
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.1)
    assert not told.exists()


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
