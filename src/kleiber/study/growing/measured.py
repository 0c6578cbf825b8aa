"""What is measured of each size beside its runs: one document a measurement, so that a study goes on where it was cut off."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from kleiber.cost import Probe
from kleiber.runs import Document, Estimate, ParametrizationRecipe

__all__ = ["Gradient", "Overfit", "RateFound", "Stepped", "Tuned", "measured_path", "read_measured"]

D = TypeVar("D", bound=Document)


class Stepped(Document):
    """Some steps of a size in a fresh process, as many side by side as the study trains."""

    member: str
    probe: Probe
    peak_flops_per_s: float
    """Of this machine with as many threads."""


class Tuned(Document):
    """Which multiple of the recipe's rates learns most in a short run of one size."""

    member: str
    num_steps: int
    """Of each short run."""
    factors: tuple[float, ...]
    losses: tuple[float | None, ...]
    """At the end of each; None where it diverged."""
    best: float
    is_at_edge: bool
    """Whether the search was stopped at its last factor."""

    def factor(self, num_steps: int) -> float:
        """Return the factor for runs of so many steps, whose best rate falls with the horizon as a recipe's does."""
        return self.best * ParametrizationRecipe(base_tokens=self.num_steps).rate_scale(num_steps)


class RateFound(Document):
    """How high the rates of a size may be."""

    member: str
    num_steps: int
    """Of each short run."""
    matrix_lr: float
    """Of the hidden matrices, that factors multiply; the other rates go with it."""
    factors: tuple[float, ...]
    """That were tried, in order."""
    losses: tuple[float | None, ...]
    """At the end of each; None where it diverged."""
    stable: float | None
    """Largest factor that learnt; None where even the usual one did not."""
    unstable: float | None
    """Smallest factor above it that did not; None where all did."""


class Overfit(Document):
    """A size that sees the same few samples again and again."""

    member: str
    num_units: int
    """Tokens or samples that are repeated."""
    epochs: tuple[float, ...]
    train_losses: tuple[float, ...]
    """On the very samples, after so many epochs."""
    val_losses: tuple[float, ...]
    """On held-out ones."""


class Gradient(Document):
    """What a gradient of a trained size says, and what it and the weights weigh."""

    member: str
    batch_size: int
    """Sequences or samples of a micro-batch."""
    num_batches: int
    noise_scale: Estimate | None
    """tr(S)/|G|^2 [tokens or samples]; None where the batches do not tell |G|^2 from zero."""
    stored_bytes: int
    """Of the weights' file."""
    planned_stored_bytes: int
    packed_bytes: int
    """Weights in 8 bits, one scale a row, deflated."""
    gradient_bytes: int
    """fp32."""
    packed_gradient_bytes: int
    """In 8 bits, one scale a row, deflated."""


def measured_path(folder: Path, kind: type[Document], member: str) -> Path:
    """Return where a measurement of a size stands."""
    return folder / "measured" / f"{kind.__name__.lower()}-{member}.json"


def read_measured(folder: Path, kind: type[D], member: str) -> D | None:
    """Return a measurement of a size; None where it has not been taken."""
    path = measured_path(folder, kind, member)
    return kind.read(path) if path.is_file() else None
