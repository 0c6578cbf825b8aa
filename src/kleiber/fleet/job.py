"""What an executor takes and what it says back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

__all__ = ["Done", "Executor", "Job", "JobEvent", "Progressed"]


@dataclass(frozen=True)
class Job:
    """Work for another process: everything in it can be pickled.

    Such pickles pass between processes of one command, never through a file.
    """

    name: str
    call: Callable[[Callable[[Any], None]], Any]
    """Given a function that reports progress, does the work and returns its result."""


@dataclass(frozen=True)
class Progressed:
    """A job reported progress."""

    job: str
    value: Any


@dataclass(frozen=True)
class Done:
    """A job returned."""

    job: str
    result: Any


JobEvent: TypeAlias = Progressed | Done


class Executor(Protocol):
    """Runs jobs, several at a time."""

    def run(self, jobs: Sequence[Job]) -> Iterator[JobEvent]:
        """Yield progress and results as they come; raise what a job raised, after the others have ended."""
        ...
