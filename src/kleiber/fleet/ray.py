"""Jobs on the machines of a Ray cluster, one task each."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kleiber.errors import KleiberError, MissingExtraError, UsageError
from kleiber.fleet.gate import interrupt_gate
from kleiber.fleet.job import Job, JobEvent, Progressed
from kleiber.fleet.outcome import Answer, Outcome, Stopped, answer_of, ending, outcome_of, passed_on
from kleiber.runs.files import RESUME_HINT

__all__ = ["RayExecutor"]

_PATIENCE_S = 0.5
"""Between two looks at what the jobs report."""
_PATIENCE_TO_JOIN_S = 10.0
_NUM_RETRIES = 2
"""Of a task whose machine went away: a run goes on from its last checkpoint."""
_PASSED_ON = "KLEIBER_"
"""Environment variables with this prefix reach the tasks."""


@dataclass(frozen=True)
class RayExecutor:
    """Keeps `num_workers` tasks of one core each busy until all jobs are done.

    Folders are shared by all machines of the cluster, at the same paths, as the data's cache is, and each has this version of
    Kleiber. What Ray pickles passes between processes of one command. Ctrl-C reaches this process, which has Ray
    interrupt each task, waits for their checkpoints and raises `Interrupted`. Tasks end with the process that sent them.
    """

    num_workers: int
    address: str = "auto"
    """Of the cluster: `auto` finds the one of this machine, HOST:PORT joins one, `local` starts one here."""

    def run(self, jobs: Sequence[Job]) -> Iterator[JobEvent]:
        """Yield progress and results as they come.

        Raises:
            KleiberError: What a job raised, or that its worker died again and again; after the other jobs have ended.
            UsageError: No cluster answers.
            MissingExtraError: Ray is not installed.
            Interrupted: SIGINT or SIGTERM; the jobs were told and have ended, none of them with an error.
        """
        ray = _ray()
        queue = list(reversed(jobs))
        failures: list[KleiberError] = []
        try:
            with interrupt_gate() as gate, _joined(ray, self.address, self.num_workers):
                inbox = ray.remote(num_cpus=0)(_Inbox).remote()
                running: dict[Any, Job] = {}
                try:
                    while queue or running:
                        while queue and len(running) < self.num_workers:
                            job = queue.pop()
                            running[_sent(ray, job, inbox)] = job
                        with gate.open():
                            ready, _ = ray.wait(list(running), timeout=_PATIENCE_S)
                        yield from _reported(ray, inbox)
                        answers = (_answer(ray, task, running.pop(task)) for task in ready)
                        yield from passed_on(answers, queue, failures)
                except KeyboardInterrupt:
                    failures.append(ending(_cancelled(ray, running)))
                except ray.exceptions.RayError as error:
                    said = f"the Ray cluster was lost: {_first_line(error)}"
                    failures.append(KleiberError(said, hint=RESUME_HINT))
        except KeyboardInterrupt:  # it came when no job was left that could be told
            failures.append(ending([]))
        if failures:
            raise failures[0]


class _Inbox:
    """An actor that holds what jobs report until it is taken."""

    def __init__(self) -> None:
        self._held: list[Progressed] = []

    def put(self, progressed: Progressed) -> None:
        self._held.append(progressed)

    def taken(self) -> list[Progressed]:
        held, self._held = self._held, []
        return held


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise MissingExtraError.of("ray", "ray", "A ladder over many machines") from None


@contextlib.contextmanager
def _joined(ray: Any, address: str, num_workers: int) -> Iterator[None]:
    """Join the cluster for the block; one that was joined before is used as it is."""
    if ray.is_initialized():
        yield
        return
    more = {"num_cpus": num_workers, "include_dashboard": False} if address == "local" else {}
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    _check_reachable(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            configure_logging=False,
            runtime_env={"env_vars": passed_on},
            **more,
        )
    except (ConnectionError, ValueError) as error:
        raise _no_cluster(address, error) from None
    except Exception as error:  # noqa: BLE001 - Ray has no class of its own for a node that does not start
        raise KleiberError(f"Ray did not start: {_first_line(error)}", hint=RESUME_HINT) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens: Ray itself tries for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection(
            (host.rpartition("/")[2].strip("[]"), int(port)), timeout=_PATIENCE_TO_JOIN_S
        ).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> UsageError:
    return UsageError(
        f"No Ray cluster answers at {address!r}: {_first_line(error)}",
        hint="ray start --head   and   kleiber ladder run ladder.yaml --ray auto",
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _sent(ray: Any, job: Job, inbox: Any) -> Any:
    task = ray.remote(num_cpus=1, max_retries=_NUM_RETRIES)(_do)
    return task.options(name=job.name).remote(job, inbox, Path.cwd())


def _reported(ray: Any, inbox: Any) -> list[Progressed]:
    """Return what jobs have reported since the last time; nothing where the inbox's machine went away: results come without it."""
    try:
        found: list[Progressed] = ray.get(inbox.taken.remote())
    except ray.exceptions.RayActorError:
        return []
    return found


def _do(job: Job, inbox: Any, folder: Path) -> Outcome:
    """Do a job in a worker of the cluster, in the folder of the process that sent it."""
    ray = _ray()
    last = None

    def report(value: Any) -> None:
        nonlocal last
        last = inbox.put.remote(Progressed(job.name, value))

    try:
        os.chdir(folder)
    except OSError as error:
        said = f"{job.name}: a machine of the cluster does not share the folder {folder}: {error.strerror}."
        return "failed", KleiberError(said)
    outcome = outcome_of(job, report)
    if last is not None:
        with contextlib.suppress(ray.exceptions.RayActorError):
            ray.get(last)  # what it reported is there before its result
    return outcome


def _answer(ray: Any, task: Any, job: Job) -> Answer:
    try:
        return answer_of(job, ray.get(task))
    except ray.exceptions.TaskCancelledError:
        return Stopped(f"{job.name} was stopped.")
    except ray.exceptions.RayError as error:
        return KleiberError(f"the worker of {job.name} died: {_first_line(error)}", hint=RESUME_HINT)


def _cancelled(ray: Any, running: dict[Any, Job]) -> list[Answer]:
    """Interrupt the tasks; return their last answers, when each has written its checkpoint."""
    for task in running:
        ray.cancel(task, force=False)
    return [_answer(ray, task, job) for task, job in running.items()]
