"""Whether an exported model says what the original says: the same outputs on the same real inputs, the same text after them.

Legend: B sequences, T tokens of each, V vocabulary, N samples, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kleiber.errors import GateError
from kleiber.infer.decoding.decoder import Stepper, Tokens
from kleiber.runs.export_receipt import Agreement, GreedyText

__all__ = [
    "Outputs",
    "Predict",
    "greedy_agreement",
    "greedy_text",
    "largest",
    "largest_difference",
    "require_agreement",
    "same_answers",
    "whole_logits",
]

Outputs: TypeAlias = tuple[npt.NDArray[Any], ...]
Predict: TypeAlias = Callable[[Sequence[npt.NDArray[Any]]], Outputs]
"""From inputs in the order of a module's arguments to all its outputs."""

_WRITTEN_TOKENS = 24
"""Of each text that is written after a prompt."""


def largest(outputs: Outputs) -> float:
    """Return the largest absolute number of all outputs.

    Example:
        >>> largest((np.array([1.0, -3.0]), np.array([2.0])))
        3.0
    """
    return max(float(np.abs(one).max()) for one in outputs)


def largest_difference(outputs: Outputs, others: Outputs) -> float:
    """Return the largest absolute difference of any output; infinity where one is not a number or has another shape.

    Example:
        >>> largest_difference((np.array([1.0, 2.0]),), (np.array([1.5, 2.0]),))
        0.5
        >>> largest_difference((np.array([1.0]),), (np.array([np.nan]),))
        inf
    """
    if [one.shape for one in outputs] != [one.shape for one in others]:
        return float("inf")
    differences = [
        float(np.abs(one.astype(np.float64) - other).max())
        for one, other in zip(outputs, others, strict=True)
    ]
    return max(one if np.isfinite(one) else float("inf") for one in differences)


def same_answers(outputs_NK: npt.NDArray[Any], others_NK: npt.NDArray[Any]) -> tuple[int, int]:
    """Return of how many rows of scores the largest stands at the same place, and of how many rows there are.

    Example:
        >>> same_answers(np.array([[0, 1], [1, 0]]), np.array([[0, 2], [0, 1]]))
        (1, 2)
    """
    ours, theirs = outputs_NK.argmax(-1), others_NK.argmax(-1)
    return int((ours == theirs).sum()), ours.size


def whole_logits(stepper: Stepper, tokens_BT: Tokens) -> npt.NDArray[np.float32]:
    """Return the logits after each token, [B, T, V], read in two parts: the second over the cache of the first."""
    B, T = tokens_BT.shape
    stepper.start(B)
    first = max(1, T // 2)
    parts = [stepper.step(tokens_BT[:, :first], first).copy()]
    if first < T:
        parts.append(stepper.step(tokens_BT[:, first:], T - first).copy())
    return np.concatenate(parts, 1)


def greedy_text(stepper: Stepper, prompt_BT: Tokens, num_tokens: int) -> Tokens:
    """Return the likeliest tokens after each prompt, each with those before it read, [B, num_tokens]."""
    stepper.start(len(prompt_BT))
    written = [stepper.step(prompt_BT, 1)[:, -1].argmax(-1)]
    while len(written) < num_tokens:
        written.append(stepper.step(written[-1][:, None], 1)[:, -1].argmax(-1))
    return np.stack(written, 1)


def greedy_agreement(stepper: Stepper, reference: Stepper, tokens_BT: Tokens) -> GreedyText:
    """Return how much of the text is the same that two models write after the first halves of the same texts."""
    B, T = tokens_BT.shape
    num_read = max(1, T // 2)
    num_written = min(_WRITTEN_TOKENS, T - num_read + 1)
    ours, theirs = (
        greedy_text(one, np.ascontiguousarray(tokens_BT[:, :num_read]), num_written)
        for one in (stepper, reference)
    )
    # Once two texts part, what follows is of different texts.
    is_same = np.logical_and.accumulate(ours == theirs, 1)
    return GreedyText(
        num_prompts=B, prompt_tokens=num_read, num_tokens=B * num_written, num_same=int(is_same.sum())
    )


def require_agreement(agreement: Agreement, what: str) -> None:
    """Refuse what does not agree.

    Args:
        agreement: As measured.
        what: The export, for the message.

    Raises:
        GateError: It differs by more than it may.
    """
    if not agreement.is_met:
        raise GateError(
            f"{what} does not agree with the original: of outputs up to {agreement.largest_output:.4g} it differs by "
            f"{agreement.largest_difference:.4g}, and may by {agreement.tolerance_frac:.2g} of them; nothing was written.",
            hint=f"--tolerance {_above(agreement.difference_frac)}   takes it as it is"
            if np.isfinite(agreement.difference_frac)
            else "--precision fp32",
        )


def _above(value: float) -> str:
    """Return a short number that is not below `value`.

    Example:
        >>> _above(0.0123)
        '0.02'
    """
    power = float(10 ** np.floor(np.log10(value)))
    return f"{np.ceil(value / power) * power:.1g}"
