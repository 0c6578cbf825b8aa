"""A recurrent model that reads a sequence in pieces: its state after them is that after the whole.

Legend: T steps of a piece, F features of a step, W width, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kleiber.models.rnn.module import RNN

__all__ = ["RecurrentReader", "RecurrentState"]


@dataclass(frozen=True)
class RecurrentState:
    """All that a recurrent model keeps of what it has read, however long that was."""

    hidden: Any = None
    """Of its cells; None before the first step."""
    last_W: Tensor | None = None
    """Output of the last step."""
    sum_W: Tensor | None = None
    """Of the outputs of all steps, fp64: the mean over hours of steps keeps its digits."""
    num_steps: int = 0


class RecurrentReader:
    """Reads steps and answers; states are values, so that what only may come can be read and forgotten.

    Args:
        module: Answers sequences; it does not model text.
    """

    def __init__(self, module: RNN) -> None:
        self._module = module

    @torch.inference_mode()
    def read(self, state: RecurrentState, inputs: npt.NDArray[Any]) -> RecurrentState:
        """Return the state after more steps: tokens [T], or rows of a series [T, F], normalized."""
        if not len(inputs):
            return state
        steps = torch.from_numpy(inputs)[None]
        is_text = self._module.spec.shape.inputs == "tokens"
        x_1TW = self._module.embedding(steps) if is_text else steps
        states_1TW, hidden = self._module.recurrence(x_1TW, state.hidden)
        sum_W = states_1TW[0].double().sum(0)
        return RecurrentState(
            hidden=hidden,
            last_W=states_1TW[0, -1],
            sum_W=sum_W if state.sum_W is None else state.sum_W + sum_W,
            num_steps=state.num_steps + len(inputs),
        )

    @torch.inference_mode()
    def outputs(self, state: RecurrentState) -> npt.NDArray[np.float32]:
        """Return what the model answers after the steps of a state, [1, C]."""
        if state.last_W is None or state.sum_W is None:
            raise AssertionError("an answer is given after a step")
        is_last = self._module.spec.pooling == "last"
        pooled_W = state.last_W if is_last else (state.sum_W / state.num_steps).float()
        answers_1C: npt.NDArray[np.float32] = self._module.head(pooled_W[None]).numpy()
        return answers_1C
