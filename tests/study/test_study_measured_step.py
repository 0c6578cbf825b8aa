"""Steps measured in fresh processes: what they hold, and how every way to fail is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from kleiber.cost.usage import Usage
from kleiber.errors import KleiberError, RecipeError
from kleiber.models.subject import Inputs, Subject
from kleiber.study.measured_step import MeasuredStep, StepJob, SubjectArguments, measure
from kleiber.study.step_process import do, run_steps

MIB = 2**20

MODELS = """
import os, signal, time
import torch
from torch import nn

class Square(nn.Module):
    def __init__(self, width=4096):
        super().__init__()
        print("a line that is no answer")
        os.write(1, b"and one past Python")
        self.linear = nn.Linear(width, width, bias=False)
    def forward(self, x):
        return self.linear(x)

class Picky(nn.Module):
    def __init__(self):
        super().__init__()
        raise ValueError("seven is not prime")

class Endless(Square):
    def __init__(self):
        time.sleep(600)
"""


@pytest.fixture
def models(tmp_path):
    path = tmp_path / "models.py"
    path.write_text(MODELS)
    return path


def brought(models, name, shape="1x4096", **options):
    return SubjectArguments(f"{models}:{name}", inputs=(shape,), loss="mean", **options)


def test_a_linear_layer_takes_what_it_holds(models):
    """64 MiB of weights and as many of gradients, and nothing else of any size."""
    measured = measure(
        brought(models, "Square"), Usage(batch_size=1, optimizer="sgd"), num_steps=3, num_threads=1
    )
    assert measured.peak_memory_bytes == pytest.approx(128 * MIB, rel=0.015)
    assert measured.held_memory_bytes == pytest.approx(64 * MIB, rel=0.03)
    assert measured.peak_memory_bytes >= 128 * MIB
    assert (measured.num_params, measured.num_threads, measured.regime) == (4096**2, 1, "return")
    assert len(measured.step_times_s) == 3
    assert MeasuredStep.model_validate_json(measured.model_dump_json()) == measured


def test_a_model_is_served_in_its_precision_and_without_gradients(models):
    """64 MiB of fp32 weights become 32 MiB; casting them is not part of serving."""
    usage = Usage(mode="infer", batch_size=1, precision="bf16")
    measured = measure(brought(models, "Square", mode="infer"), usage, num_steps=1, num_threads=1)
    assert 32 * MIB <= measured.held_memory_bytes <= measured.peak_memory_bytes < 36 * MIB


def test_what_opening_raises_comes_back_as_it_was(models):
    with pytest.raises(RecipeError, match=r"has no class or function 'Sqare'\. Did you mean 'Square'"):
        measure(brought(models, "Sqare"), Usage(), num_threads=1)


def test_a_killed_process_ran_out_of_memory(tmp_path):
    path = tmp_path / "doomed.py"
    path.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(KleiberError, match=r"a step of .*:Net needs more memory than this machine has free"):
        measure(brought(path, "Net"), Usage(), num_threads=1)


def test_a_process_that_ends_itself(tmp_path):
    path = tmp_path / "gone.py"
    path.write_text("import os, sys\nprint('so it goes', file=sys.stderr, flush=True)\nos._exit(3)")
    with pytest.raises(
        KleiberError, match=r"the process that measured .*:Net died with exit code 3: so it goes$"
    ):
        measure(brought(path, "Net"), Usage(), num_threads=1)


@pytest.fixture
def started(monkeypatch):
    """Collect the processes that are started."""
    processes = []

    class Noted(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return processes


def test_a_process_that_takes_too_long_is_ended(models, started):
    with pytest.raises(KleiberError, match=r"measuring .*:Endless took longer than 0.2 s and was stopped"):
        measure(brought(models, "Endless"), Usage(), num_threads=1, timeout_s=0.2)
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_an_interrupt_ends_the_process(models, started):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            measure(brought(models, "Endless"), Usage(), num_threads=1)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_a_process_without_its_parent_ends(models):
    job = StepJob(
        subject=brought(models, "Endless"), usage=Usage(), num_steps=1, regime="return", num_threads=1
    )
    process = subprocess.Popen([sys.executable, "-m", "kleiber.study.step_process"], stdin=subprocess.PIPE)
    process.communicate(
        job.model_dump_json().encode() + b"\n", timeout=60
    )  # closes the pipe, as a death would
    assert process.returncode == 1


def job_of(usage, num_steps=2):
    return StepJob(
        subject=SubjectArguments("here"), usage=usage, num_steps=num_steps, regime="keep", num_threads=1
    )


def subject_of(build, size=(2048,), dtype=torch.float32):
    def inputs(batch_size):
        return Inputs((torch.ones(batch_size, *size, dtype=dtype),))

    return Subject("here", build, inputs, lambda output: output.float().mean(), "mean", 1)


def test_a_micro_batch_is_its_share_of_the_batch():
    seen = []

    class Note(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            seen.append(len(x))
            return self.scale * x

    run_steps(
        subject_of(Note, (4,)), job_of(Usage(batch_size=12, accumulation=3, optimizer="sgd"), num_steps=1)
    )
    assert seen == [4, 4, 4]


class Opened:
    """Arguments whose subject is at hand."""

    text = "here"

    def __init__(self, build):
        self._build = build

    def open(self):
        return subject_of(self._build)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "needs more memory than this machine",
        ),
        (MemoryError(), "needs more memory than this machine"),
        (RuntimeError("mat1 and mat2\nmore"), "a step of here failed with RuntimeError: mat1 and mat2$"),
        (ValueError(), "a step of here failed with ValueError: no message$"),
        (RecipeError("as it was."), r"^as it was\.$"),
    ],
)
def test_what_a_step_raises_is_one_sentence(error, message, monkeypatch):
    def build():
        raise error

    # Neither the allocator nor the threads of this process, which runs other tests, are touched.
    monkeypatch.setattr("kleiber.study.step_process.warm_up", lambda: None)
    monkeypatch.setattr("kleiber.study.step_process._ALLOCATORS", {"keep": lambda: True})
    job = job_of(Usage(batch_size=1)).model_copy(
        update={"subject": Opened(build), "num_threads": torch.get_num_threads()}
    )
    with pytest.raises(KleiberError, match=message):
        do(job)


def test_the_first_step_is_left_out_of_the_time():
    measured = MeasuredStep(
        peak_memory_bytes=1,
        held_memory_bytes=1,
        step_times_s=(9.0, 1.0, 3.0),
        num_params=1,
        num_threads=1,
        regime="keep",
    )
    assert measured.step_time_s == 2.0
    assert measured.model_copy(update={"step_times_s": (9.0,)}).step_time_s == 9.0


def test_measuring_does_not_import_torch_here():
    code = "import sys, kleiber.study.measured_step; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "False"


def test_a_job_is_json(models):
    job = StepJob(subject=brought(models, "Square"), usage=Usage(), num_steps=1, regime="keep", num_threads=2)
    assert StepJob.model_validate_json(job.model_dump_json()) == job
    assert json.loads(job.model_dump_json())["subject"]["inputs"] == ["1x4096"]
