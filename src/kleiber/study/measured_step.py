"""Real steps of a model in a process of their own: the memory and time that a prediction is compared with."""

from __future__ import annotations

import dataclasses
import json
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import Field

from kleiber import errors
from kleiber.cost.usage import Usage
from kleiber.errors import KleiberError
from kleiber.models import Spec
from kleiber.runs import Document, TaskName, num_cores

if TYPE_CHECKING:
    from kleiber.models.subject import Subject

__all__ = ["MeasuredStep", "Regime", "StepJob", "SubjectArguments", "measure"]

Regime: TypeAlias = Literal["return", "keep"]
"""What the allocator does with freed blocks: hand them back, which makes the peak exact, or keep them, as in training."""


@dataclass(frozen=True)
class SubjectArguments:
    """What opens a subject: a subject itself cannot go to another process."""

    text: str
    inputs: tuple[str, ...] = ()
    init: str | None = None
    batch_size: int | None = None
    context: int | None = None
    vocab_size: int | None = None
    mode: Literal["train", "infer"] = "train"
    loss: str | None = None
    spec: Spec | None = None
    """Of a built-in family: it says all but the batch, the task and the mode."""
    task: TaskName | None = None

    def open(self) -> Subject:
        """Return the subject."""
        if self.spec is not None:
            from kleiber.models.foreign.family import subject_of  # noqa: PLC0415 - torch takes a second to import

            return subject_of(self.spec, self.text, batch_size=self.batch_size, task=self.task)
        from kleiber.models.foreign import open_subject  # noqa: PLC0415 - the same

        left_out = {"text", "spec", "task"}
        options = {key: value for key, value in dataclasses.asdict(self).items() if key not in left_out}
        return open_subject(self.text, **options)


class StepJob(Document):
    """What the process that measures is told."""

    subject: SubjectArguments
    usage: Usage
    num_steps: int = Field(ge=1)
    regime: Regime
    num_threads: int = Field(ge=1)


class MeasuredStep(Document):
    """What real steps took."""

    peak_memory_bytes: int
    """Most that the process held above its size after imports and warm-up."""
    held_memory_bytes: int
    """The same after the last step: weights and optimizer state."""
    step_times_s: tuple[float, ...]
    """Of each step; the first one also makes the optimizer's state."""
    num_params: int
    """Shared ones once."""
    num_threads: int
    regime: Regime

    @property
    def step_time_s(self) -> float:
        """The median time of a step, the first left out where there are others [s]."""
        return statistics.median(self.step_times_s[1:] or self.step_times_s)


def measure(
    subject: SubjectArguments,
    usage: Usage,
    *,
    num_steps: int = 4,
    regime: Regime = "return",
    num_threads: int | None = None,
    timeout_s: float = 600.0,
) -> MeasuredStep:
    """Run real steps of `subject` in a fresh process and return what they took.

    Args:
        subject: Which model; opened in that process, which runs the user's file if it is one.
        usage: How it is used; a micro-batch is `usage.batch_size / usage.accumulation` samples.
        num_steps: Steps, at least 1. The peak of memory is the same from the second on.
        regime: What the allocator does with what is freed.
        num_threads: Of torch; None takes all cores of this process.
        timeout_s: After which the process is ended.

    Raises:
        KleiberError: The process ran out of memory or time, or died; or what opening the subject raises.
    """
    job = StepJob(
        subject=subject,
        usage=usage,
        num_steps=num_steps,
        regime=regime,
        num_threads=num_threads or num_cores(),
    )
    with tempfile.TemporaryFile() as answers, tempfile.TemporaryFile() as complaints:
        code = _run(job, answers, complaints, timeout_s)
        said = _text_of(answers).splitlines()
        answer: dict[str, Any] = json.loads(said[-1]) if code == 0 and said else {}
        if "measured" in answer:
            return MeasuredStep.model_validate(answer["measured"])
        raise _failure(answer) if answer else _death(subject.text, code, _text_of(complaints))


def _run(job: StepJob, answers: IO[bytes], complaints: IO[bytes], timeout_s: float) -> int:
    """Return the exit code of the process that does `job`; whatever happens here, it does not outlive this call."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kleiber.study.step_process"],
        stdin=subprocess.PIPE,
        stdout=answers,
        stderr=complaints,
        text=True,
    )
    try:
        if process.stdin is not None:
            # It stays open: the process ends itself when the pipe does, as it would with this process.
            print(job.model_dump_json(), file=process.stdin, flush=True)
        return process.wait(timeout_s)
    except BrokenPipeError:  # it died at once; its exit code says more
        return process.wait()
    except subprocess.TimeoutExpired:
        raise KleiberError(
            f"measuring {job.subject.text} took longer than {timeout_s:g} s and was stopped.",
            hint="a smaller batch or a shorter context",
        ) from None
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _failure(answer: dict[str, Any]) -> KleiberError:
    """Return the error that the process reported, of its type."""
    failed = answer["failed"]
    error_type = getattr(errors, failed["type"])
    error: KleiberError = error_type(failed["message"], got=failed["got"], hint=failed["hint"])
    return error


def _death(text: str, code: int, complaints: str) -> KleiberError:
    if code == -signal.SIGKILL:
        return out_of_memory(text)
    last = ([line for line in complaints.splitlines() if line.strip()] or ["it said nothing"])[-1]
    return KleiberError(f"the process that measured {text} died with exit code {code}: {last.strip()}")


def out_of_memory(text: str) -> KleiberError:
    """Return the one sentence that says that a step did not fit."""
    return KleiberError(
        f"a step of {text} needs more memory than this machine has free; it was stopped.",
        hint="a smaller batch, a shorter context, or plan it without measuring",
    )


def _text_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors="replace")
