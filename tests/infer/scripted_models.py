"""Language models that are tables: what comes next depends on the last two tokens, and what was asked of them is kept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.infer.decoding import Decoder

CONTEXT = 16


class TableStepper:
    """Logits by the last two tokens; before the first token stands token 0.

    Attributes:
        steps: Tokens of each step, as they came.
    """

    engine, precision, notes = "table", "fp64", ()

    def __init__(self, logits_VVV: np.ndarray) -> None:
        self.logits_VVV = logits_VVV
        self.held_BT = np.zeros((0, 0), np.int64)
        self.steps: list[list[list[int]]] = []

    def start(self, batch: int) -> None:
        self.held_BT = np.zeros((batch, 0), np.int64)

    def step(self, tokens_BT: np.ndarray, num_kept: int) -> np.ndarray:
        self.steps.append(tokens_BT.tolist())
        self.held_BT = np.concatenate((self.held_BT, tokens_BT), 1)
        padded = np.pad(self.held_BT, ((0, 0), (1, 0)))
        return self.logits_VVV[padded[:, :-1], padded[:, 1:]][:, -num_kept:]

    def rewind(self, length: int) -> None:
        self.held_BT = self.held_BT[:, :length]

    @property
    def num_read(self) -> int:
        return sum(len(step[0]) for step in self.steps)


def random_table(vocab_size: int, seed: int = 0, sharpness: float = 2.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(vocab_size,) * 3) * sharpness).astype(np.float32)


def scripted_table(script: Sequence[int], vocab_size: int) -> np.ndarray:
    """Each token of a script without repeats follows the one before it, and the first follows anything else."""
    table = np.zeros((vocab_size,) * 3, np.float32)
    table[..., script[0]] = 9.0
    for before, after in itertools.pairwise(script):
        table[:, before] = 0.0
        table[:, before, after] = 9.0
    return table


def words_tokenizer(vocab_size: int) -> TextTokenizer:
    """Token n is the letter n of the alphabet."""
    backend = Tokenizer(models.BPE({chr(97 + token): token for token in range(vocab_size)}, []))
    backend.decoder = decoders.Fuse()
    return TextTokenizer(backend)


def table_model(
    logits_VVV: np.ndarray,
    *,
    context: int = CONTEXT,
    tokenizer: TextTokenizer | None = None,
    end_ids: frozenset[int] = frozenset(),
    start_ids: tuple[int, ...] = (),
) -> Any:
    return SimpleNamespace(
        decoder=Decoder(TableStepper(logits_VVV), context),
        tokenizer=tokenizer or words_tokenizer(len(logits_VVV)),
        end_ids=end_ids,
        start_ids=start_ids,
        folder=Path("table"),
    )


def stepper_of(model: Any) -> TableStepper:
    stepper: TableStepper = model.decoder._stepper
    return stepper
