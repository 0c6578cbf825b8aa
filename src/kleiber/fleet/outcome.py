"""How a job ends, and what its executor raises: the same wherever it ran."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

from kleiber.errors import Interrupted, KleiberError
from kleiber.fleet.job import Done, Job, JobEvent, Progressed
from kleiber.runs.files import RESUME_HINT

__all__ = ["Answer", "Outcome", "Stopped", "answer_of", "ending", "outcome_of", "passed_on"]


class Stopped(Interrupted):
    """A job was interrupted where it does not write a checkpoint."""


Answer: TypeAlias = JobEvent | KleiberError
Outcome: TypeAlias = tuple[Literal["done", "failed"], Any]
"""A job's result, or what it raised."""


def outcome_of(job: Job, report: Callable[[Any], None]) -> Outcome:
    """Do a job where it was sent; return how it ended."""
    try:
        return "done", job.call(report)
    except KleiberError as error:
        return "failed", error
    except KeyboardInterrupt:
        return "failed", Stopped(f"{job.name} was stopped.")
    except Exception as error:  # noqa: BLE001 - the other side decides; a traceback here would be lost
        return "failed", KleiberError(f"{job.name} failed: {type(error).__name__}: {error}.")


def answer_of(job: Job, outcome: Outcome) -> Done | KleiberError:
    """Return what an executor makes of an outcome."""
    kind, value = outcome
    if kind == "done":
        return Done(job.name, value)
    error: KleiberError = value
    return error


def passed_on(
    answers: Iterable[Answer], queue: list[Job], failures: list[KleiberError]
) -> Iterator[JobEvent]:
    """Yield events; a failure is kept for the end and empties the queue."""
    for answer in answers:
        if isinstance(answer, KleiberError):
            failures.append(answer)
            queue.clear()
        else:
            yield answer


def ending(answers: Sequence[Answer]) -> KleiberError:
    """Return what to raise after an interrupt that was answered so."""
    ends = [answer for answer in answers if not isinstance(answer, Progressed)]
    for answer in ends:
        if isinstance(answer, KleiberError) and not isinstance(answer, Interrupted):
            return answer
    is_safe = all(isinstance(answer, Interrupted) and not isinstance(answer, Stopped) for answer in ends)
    wrote = "; every run wrote a checkpoint" if ends and is_safe else ""
    return Interrupted(f"stopped{wrote}.", hint=RESUME_HINT)
