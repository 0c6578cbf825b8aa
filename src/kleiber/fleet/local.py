"""Jobs side by side on this machine's cores, one process each."""

from __future__ import annotations

import contextlib
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

from kleiber.errors import Interrupted, KleiberError
from kleiber.fleet.gate import InterruptGate, interrupt_gate
from kleiber.fleet.job import Done, Job, JobEvent, Progressed

__all__ = ["LocalExecutor"]


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: Job | None = None


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
            Interrupted: SIGINT or SIGTERM; the jobs were told and have ended.
        """
        queue = list(reversed(jobs))
        failure: BaseException | None = None
        with self._started(min(self.num_workers, len(jobs))), interrupt_gate() as gate:
            try:
                for worker in self._workers:
                    _feed(worker, queue)
                while any(worker.job for worker in self._workers):
                    for event in self._events(queue, gate):
                        if isinstance(event, BaseException):
                            failure = failure or event
                            queue.clear()
                        else:
                            yield event
            except KeyboardInterrupt:
                self._interrupt()
                raise Interrupted(
                    "stopped; every run wrote a checkpoint.", hint="run the same command again: it resumes"
                ) from None
        if failure is not None:
            raise failure

    def _events(self, queue: list[Job], gate: InterruptGate) -> Iterator[JobEvent | BaseException]:
        """Wait for messages; hand each and give a worker that is free its next job."""
        busy = {worker.pipe: worker for worker in self._workers if worker.job}
        with gate.open():
            ready = wait(list(busy))
        for pipe in ready:
            worker = busy[pipe]  # type: ignore[index] # wait() returns what it was given
            job = worker.job
            if job is None:
                continue
            try:
                kind, value = worker.pipe.recv()
            except EOFError:
                worker.job = None
                worker.process.join()
                yield KleiberError(
                    f"the process of {job.name} died with exit code {worker.process.exitcode}.",
                    hint="run the same command again: it resumes from the last checkpoint",
                )
                continue
            if kind == "progress":
                yield Progressed(job.name, value)
                continue
            yield Done(job.name, value) if kind == "done" else value
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

    def _interrupt(self) -> None:
        """Tell the workers to stop, and wait until each has written its checkpoint."""
        for worker in self._workers:
            if worker.job and worker.process.pid and worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGINT)
        while busy := {worker.pipe: worker for worker in self._workers if worker.job}:
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index] # wait() returns what it was given
                try:
                    kind, _ = worker.pipe.recv()
                except EOFError:
                    kind = "died"
                if kind != "progress":
                    worker.job = None


def _feed(worker: _Worker, queue: list[Job]) -> None:
    worker.job = queue.pop() if queue else None
    if worker.job:
        worker.pipe.send(worker.job)


def _work(pipe: Connection, parent: int) -> None:
    """Do the jobs that come through `pipe` until it closes."""
    os.setsid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        while True:
            pipe.send(_outcome(pipe.recv(), pipe))


def _outcome(job: Job, pipe: Connection) -> tuple[str, Any]:
    try:
        return "done", job.call(lambda value: pipe.send(("progress", value)))
    except KleiberError as error:
        return "failed", error
    except KeyboardInterrupt:
        return "failed", Interrupted(f"{job.name} was stopped.")
    except Exception as error:  # noqa: BLE001 - the other side decides; a traceback here would be lost
        return "failed", KleiberError(f"{job.name} failed: {type(error).__name__}: {error}.")


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: nobody would read its results."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
