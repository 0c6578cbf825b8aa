"""Jobs side by side on this machine's cores, one process each."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from kleiber.errors import KleiberError
from kleiber.fleet.gate import InterruptGate, interrupt_gate
from kleiber.fleet.job import Job, JobEvent, Progressed
from kleiber.fleet.outcome import Answer, Stopped, answer_of, ending, outcome_of, passed_on
from kleiber.runs.files import RESUME_HINT

__all__ = ["LocalExecutor"]


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: Job | None = None
    is_told: bool = False
    """It was sent SIGINT."""
    has_died: bool = False


@dataclass
class LocalExecutor:
    """Keeps `num_workers` processes busy until all jobs are done.

    Workers stand outside the terminal's process group: Ctrl-C reaches this process, which passes it to each
    worker once, waits for their checkpoints and raises `Interrupted`. A worker whose parent is gone ends.
    """

    num_workers: int
    _workers: list[_Worker] = field(default_factory=list)

    def run(self, jobs: Sequence[Job]) -> Iterator[JobEvent]:
        """Yield progress and results as they come.

        Raises:
            KleiberError: What a job raised, or that its process died; after the other jobs have ended.
            Interrupted: SIGINT or SIGTERM; the jobs were told and have ended, none of them with an error.
        """
        queue = list(reversed(jobs))
        failures: list[KleiberError] = []
        try:
            with interrupt_gate() as gate, self._started(min(self.num_workers, len(jobs))):
                try:
                    for worker in self._workers:
                        _feed(worker, queue)
                    while self._busy():
                        yield from passed_on(self._answers(queue, gate), queue, failures)
                except KeyboardInterrupt:
                    failures.append(ending(self._interrupt()))
        except KeyboardInterrupt:  # it came when no job was left that could be told
            failures.append(ending([]))
        if failures:
            raise failures[0]

    def _busy(self) -> dict[Any, _Worker]:
        return {worker.pipe: worker for worker in self._workers if worker.job}

    def _answers(self, queue: list[Job], gate: InterruptGate) -> Iterator[Answer]:
        """Wait for messages; hand each and give a worker that is free its next job."""
        busy = self._busy()
        with gate.open():
            ready = wait(list(busy))
        for worker in (busy[pipe] for pipe in ready):
            answer = _receive(worker)
            yield answer
            if worker.job is None and not worker.has_died:
                _feed(worker, queue)

    @contextlib.contextmanager
    def _started(self, num_workers: int) -> Iterator[None]:
        context = multiprocessing.get_context("spawn")
        for _ in range(num_workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, os.getpid()), daemon=True)
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours))
        try:
            yield
        finally:
            for worker in self._workers:
                worker.pipe.close()
            for worker in self._workers:
                worker.process.join(timeout=10)
                if worker.process.is_alive():
                    worker.process.kill()
            self._workers.clear()

    def _interrupt(self) -> list[Answer]:
        """Tell the workers to stop; return their last answers, when each has written its checkpoint."""
        for worker in self._busy().values():
            if worker.process.pid and worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGINT)
                worker.is_told = True
        answers: list[Answer] = []
        while busy := self._busy():
            answers += [_receive(busy[pipe]) for pipe in wait(list(busy))]
        return answers


def _feed(worker: _Worker, queue: list[Job]) -> None:
    worker.job = queue.pop() if queue else None
    if worker.job:
        with contextlib.suppress(BrokenPipeError):  # it has died: `_receive` says so
            worker.pipe.send(worker.job)


def _receive(worker: _Worker) -> Answer:
    """Return what a worker says of its job, which it no longer has unless that was progress."""
    job = worker.job
    if job is None:
        raise ValueError("a worker without a job has nothing to say")
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.job, worker.has_died = None, True
        worker.process.join()
        return _death(job, worker)
    if kind == "progress":
        return Progressed(job.name, value)
    worker.job = None
    return answer_of(job, (kind, value))


def _death(job: Job, worker: _Worker) -> KleiberError:
    code = worker.process.exitcode or 0
    if worker.is_told and (code >= 0 or code == -signal.SIGINT):  # the signal came before the job had begun
        return Stopped(f"{job.name} was stopped.")
    return KleiberError(f"the process of {job.name} died with exit code {code}.", hint=RESUME_HINT)


def _work(pipe: Connection, parent: int) -> None:
    """Do the jobs that come through `pipe` until it closes."""
    os.setsid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        while True:
            pipe.send(outcome_of(pipe.recv(), functools.partial(_report, pipe)))


def _report(pipe: Connection, value: Any) -> None:
    try:
        pipe.send(("progress", value))
    except ConnectionError:
        # The parent is gone. That is no failure of the job, which should not hear of it.
        os._exit(1)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: nobody would read its results."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
