"""What ends a run before its last step: a time, a loss that is reached, validations that find nothing better."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kleiber.runs.document import Document
from kleiber.runs.recipe import StopRecipe
from kleiber.units import format_loss, format_seconds

__all__ = ["Guard", "GuardState"]


class GuardState(Document):
    """What a guard remembers from one validation to the next; part of every checkpoint."""

    best_loss: float | None = None
    """Lowest validation loss so far."""
    best_step: int = 0
    num_worse: int = 0
    """Validations since without a lower one."""
    stopped_by: str | None = None
    """Why the run has ended, in a sentence."""


@dataclass
class Guard:
    """Watches one run.

    Example:
        >>> guard = Guard(StopRecipe(patience=2), GuardState())
        >>> [guard.is_better(loss, step) for step, loss in enumerate([3.0, 2.0, 2.5, 2.0])]
        [True, True, False, False]
        >>> guard.state.stopped_by
        'no lower validation loss than 2.0000 of step 1 in 2 validations'
    """

    recipe: StopRecipe
    state: GuardState

    def is_better(self, loss: float, step: int) -> bool:
        """Take note of a validation; return whether it is the best so far."""
        state, best = self.state, self.state.best_loss
        if best is None or loss < best:
            self.state = state.model_copy(update={"best_loss": loss, "best_step": step, "num_worse": 0})
        else:
            self.state = state.model_copy(update={"num_worse": state.num_worse + 1})
        if self.recipe.loss is not None and loss <= self.recipe.loss:
            self._stop(f"the validation loss of {format_loss(loss)} reached {self.recipe.loss:g}")
        if self.recipe.patience is not None and self.state.num_worse >= self.recipe.patience:
            self._stop(
                f"no lower validation loss than {format_loss(self.state.best_loss or math.nan)} of step "
                f"{self.state.best_step} in {self.state.num_worse} validations"
            )
        return self.state.num_worse == 0

    def check_time(self, elapsed_s: float) -> None:
        """Take note of the wall clock of the whole run [s]."""
        if self.recipe.seconds is not None and elapsed_s >= self.recipe.seconds:
            self._stop(f"the time of {format_seconds(self.recipe.seconds)} is over")

    def _stop(self, reason: str) -> None:
        if self.state.stopped_by is None:
            self.state = self.state.model_copy(update={"stopped_by": reason})
