"""Jobs on a Ray cluster of this machine."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fleet_jobs import fail

from kleiber.errors import Interrupted, KleiberError, MissingExtraError, UsageError
from kleiber.fleet import Job, RayExecutor

needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="ray is not installed")
_ENVIRONMENT = {
    **os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore",
}  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    script = Path(__file__).parent / "ray_scenes.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, env=_ENVIRONMENT, timeout=300)
    return json.loads((folder / "found.json").read_text())


@pytest.mark.slow
@needs_ray
def test_tasks_run_side_by_side_and_report_before_they_end(scenes):
    events, error = scenes["squares"]
    assert error is None
    done = {job: value for kind, job, value in events if kind == "done"}
    assert {job: value[0] for job, value in done.items()} == {"j0": 0, "j1": 1, "j2": 4, "j3": 9}
    assert scenes["pid"] not in {value[1] for value in done.values()}
    for i in range(4):
        assert events.index(["progress", f"j{i}", f"squaring {i}"]) < events.index(
            ["done", f"j{i}", done[f"j{i}"]]
        )
    assert scenes["is_left"]  # a cluster that was joined before is left as it was


@pytest.mark.slow
@needs_ray
def test_an_error_arrives_whole_after_the_other_tasks_have_ended(scenes):
    events, (kind, message) = scenes["error"]
    assert (kind, message) == ("DataError", "no text. Got 3.\n  try: some text")
    assert [job for kind, job, _ in events if kind == "done"] == ["good"]
    assert scenes["crash"][1] == ["KleiberError", "job failed: ZeroDivisionError: by hand."]


@pytest.mark.slow
@needs_ray
def test_a_worker_that_died_is_sent_its_job_again_and_then_said(scenes):
    assert scenes["once"] == [[["done", "job", "went on"]], None]
    kind, message = scenes["death"][1]
    assert kind == "KleiberError"
    assert re.search(r"^the worker of job died: .*\n  try: .* without --fresh: it resumes", message)


def test_a_node_that_does_not_start_is_said(monkeypatch):
    def fail_to_start(**_):
        raise Exception("The current node timed out during startup.\nMore of it.")  # noqa: TRY002 - as Ray does

    ray = SimpleNamespace(is_initialized=lambda: False, init=fail_to_start)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(
        KleiberError, match=r"^Ray did not start: The current node timed out during startup\.\n  try"
    ):
        list(RayExecutor(1, "local").run([Job("job", fail)]))


def test_no_cluster_and_no_ray_are_said(monkeypatch):
    def refuse(**_):
        raise ConnectionError("Could not find any running Ray instance.\nMore of it.")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=refuse))
    with pytest.raises(
        UsageError, match=r"No Ray cluster answers at 'auto': Could not find .*instance\.\n  try: ray start"
    ) as caught:
        list(RayExecutor(1).run([Job("job", fail)]))
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match=r"No Ray cluster answers at '127\.0\.0\.1:1': .*refused"):
        list(RayExecutor(1, "127.0.0.1:1").run([Job("job", fail)]))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kleiber\[ray\]'"):
        list(RayExecutor(1).run([Job("job", fail)]))


_SCRIPT = """
import json, os, pathlib, sys, time
from kleiber.errors import Interrupted, KleiberError
from kleiber.fleet import Job, RayExecutor
from kleiber.train.interrupt import interrupt_flag

def wait(report):
    with interrupt_flag() as flag:
        pathlib.Path("begun").write_text(json.dumps([os.getcwd(), os.environ.get("KLEIBER_CACHE")]))
        while not flag.is_set:
            time.sleep(0.05)
    pathlib.Path("told").touch()
    raise Interrupted("stopped at step 3; a checkpoint was written.")

try:
    list(RayExecutor(1, "local").run([Job("job", wait)]))
except KleiberError as error:
    print(error.message)
    sys.exit(error.exit_code)
"""


@pytest.mark.slow
@needs_ray
def test_a_lost_inbox_loses_no_result(scenes):
    events, error = scenes["lost_inbox"]
    assert error is None
    assert events[-1][:2] == ["done", "job"]


@pytest.mark.slow
@needs_ray
def test_an_interrupt_reaches_the_tasks_and_waits_for_their_checkpoints(tmp_path):
    (tmp_path / "script.py").write_text(textwrap.dedent(_SCRIPT))
    cache = str(tmp_path / "cache")
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        env={**_ENVIRONMENT, "KLEIBER_CACHE": cache},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)

    assert output.splitlines()[-1] == "stopped; every run wrote a checkpoint."
    assert process.returncode == Interrupted.exit_code
    assert (tmp_path / "told").exists()
    assert json.loads((tmp_path / "begun").read_text()) == [str(tmp_path), cache]
