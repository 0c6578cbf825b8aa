"""The process that runs real steps: `python -m kleiber.study.step_process`, a job on stdin, an answer on stdout.

Order matters. The allocator is pinned before torch takes memory; everything is imported and the libraries have made
their buffers before the process's size is taken; only then the model is built.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch

from kleiber.cost.trace.training_step import build_optimizer, prepare_, run_step
from kleiber.errors import KleiberError
from kleiber.models.subject import Subject
from kleiber.study.measured_step import MeasuredStep, StepJob, out_of_memory
from kleiber.study.warm_up import warm_up
from kleiber.train.allocator import keep_freed_memory, return_freed_memory
from kleiber.train.measure import MemoryMeter
from kleiber.train.muon import Muon

__all__ = ["do", "main", "run_steps"]

_ALLOCATORS = {"return": return_freed_memory, "keep": keep_freed_memory}


def do(job: StepJob) -> MeasuredStep:
    """Return what the steps of `job` took; call it once in a fresh process.

    Raises:
        KleiberError: The subject cannot be opened, or its step fails.
    """
    _ALLOCATORS[job.regime]()
    torch.set_num_threads(job.num_threads)
    subject = job.subject.open()
    warm_up()
    with contextlib.suppress(Exception), torch.device("meta"):
        # What the model imports when it is built belongs to the imports. What fails here fails again below.
        subject.build()
    try:
        return run_steps(subject, job)
    except Exception as error:  # noqa: BLE001 - whatever the model's code raises
        raise _in_words(error, job.subject.text) from None


def _in_words(error: Exception, text: str) -> KleiberError:
    # The user's file may have met it too, and then it comes wrapped.
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return out_of_memory(text)
    if isinstance(error, KleiberError):
        return error
    said = str(error).strip().partition("\n")[0] or "no message"
    return KleiberError(f"a step of {text} failed with {type(error).__name__}: {said}")


def run_steps(subject: Subject, job: StepJob) -> MeasuredStep:
    """Build the model, run its steps and return what they took."""
    gc.collect()
    meter = MemoryMeter()
    torch.manual_seed(0)
    module, inputs = subject.build(), subject.inputs(job.usage.batch_size // job.usage.accumulation)
    prepare_(module, job.usage)
    is_trained = job.usage.mode == "train"
    optimizer = build_optimizer(job.usage.optimizer, module, muon=Muon) if is_trained else None
    if not is_trained:
        meter.forget_peak()  # that of casting the weights: who serves a model loads it in its precision
    times_s = []
    for _ in range(job.num_steps):
        start = time.perf_counter()
        run_step(module, inputs, subject.loss, optimizer, job.usage)
        times_s.append(time.perf_counter() - start)
    held_bytes = meter.held_bytes()  # before the peak, which what follows may raise by a page
    return MeasuredStep(
        peak_memory_bytes=meter.peak_bytes(),
        held_memory_bytes=held_bytes,
        step_times_s=tuple(times_s),
        num_params=sum(param.numel() for param in module.parameters()),
        num_threads=job.num_threads,
        regime=job.regime,
    )


def main() -> None:
    """Answer the one job on stdin by one line on stdout; whatever else is printed goes to stderr."""
    text = sys.stdin.readline()
    _end_with_parent()
    with _only_answers_on_stdout() as stdout:
        try:
            answer = {"measured": do(StepJob.model_validate_json(text)).model_dump(mode="json")}
        except KleiberError as error:
            answer = {"failed": _report(error)}
        print(json.dumps(answer, default=str), file=stdout, flush=True)


def _report(error: KleiberError) -> dict[str, object]:
    return {"type": type(error).__name__, "message": error.message, "got": error.got, "hint": error.hint}


@contextlib.contextmanager
def _only_answers_on_stdout() -> Iterator[IO[str]]:
    """Give the block the real stdout and everybody else, C libraries included, stderr."""
    with os.fdopen(os.dup(1), "w") as stdout:
        os.dup2(2, 1)
        yield stdout


def _end_with_parent() -> None:
    """End this process when its parent does; let the system, short of memory, take this process and no other."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    threading.Thread(target=_wait_for_end_of_input, daemon=True).start()


def _wait_for_end_of_input() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock would be held while the interpreter ends
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
