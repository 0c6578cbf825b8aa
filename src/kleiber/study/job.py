"""How long a job is: tokens, samples or epochs become steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kleiber.errors import UsageError

__all__ = ["MAX_STEPS", "Job"]

MAX_STEPS = 10**9
"""Of a run."""


@dataclass(frozen=True)
class Job:
    """The length of a training run, or of a stream of requests; one of the first three, or none.

    Raises:
        UsageError: Both tokens and samples, or epochs of neither.
    """

    steps: int | None = None
    tokens: float | None = None
    samples: float | None = None
    epochs: float = 1.0
    """Passes over the samples or tokens."""

    def __post_init__(self) -> None:
        if self.tokens is not None and self.samples is not None:
            raise UsageError(
                "--samples and --tokens both say how long the job is; give one.",
                got=f"{self.samples:g} and {self.tokens:g}",
                hint=f"--tokens {self.tokens:g}",
            )
        if self.epochs != 1 and self.tokens is None and self.samples is None:
            raise UsageError(
                "--epochs are passes over data; --tokens or --samples says how much there is.",
                got=f"{self.epochs:g}",
                hint=f"--epochs {self.epochs:g} --samples 50000",
            )

    def num_steps(self, batch_size: int, tokens_per_sample: int | None) -> int | None:
        """Return the steps that the job takes; None when its length was not said.

        Args:
            batch_size: Samples a step.
            tokens_per_sample: None where samples are counted.

        Raises:
            UsageError: Tokens of a model that does not count them, or more steps than a run has.

        Example:
            >>> Job(tokens=1e6).num_steps(4, 1000), Job(samples=100, epochs=3).num_steps(8, None), Job().num_steps(8, 1)
            (250, 38, None)
        """
        if self.steps is not None:
            return self.steps
        if self.tokens is not None and tokens_per_sample is None:
            raise UsageError(
                "--tokens is for text; this model takes samples.",
                got=f"{self.tokens:g}",
                hint="--samples 50000",
            )
        if self.tokens is not None and tokens_per_sample is not None:
            units, per_step, option = self.tokens * self.epochs, batch_size * tokens_per_sample, "--tokens"
        elif self.samples is not None:
            units, per_step, option = self.samples * self.epochs, batch_size, "--samples"
        else:
            return None
        num_steps = math.ceil(units / per_step)
        if num_steps > MAX_STEPS:
            raise UsageError(
                f"{option} {units:g} takes {num_steps:.3g} steps of {per_step}, and a run has at most {MAX_STEPS:g}.",
                hint=f"{option} {MAX_STEPS * per_step / 1000 / self.epochs:g}",
            )
        return num_steps
