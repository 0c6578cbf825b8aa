"""Continuous batching in PyTorch: every text in a slot of one cache, each step a token of all that wait for one.

Legend: B texts of a step, T tokens of each, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch

from kleiber.infer.batching.backend import Job
from kleiber.infer.batching.slot_cache import SlotCache
from kleiber.infer.decoding.cached_forward import cached_forward, cached_heads
from kleiber.infer.generation.logprobs import logprobs
from kleiber.infer.generation.request import Piece
from kleiber.infer.generation.sampling import Logits, Sampling, draw
from kleiber.infer.generation.writing import allowed_next
from kleiber.infer.threads import threads
from kleiber.models.family import FamilyModule

__all__ = ["Slots"]

_TOKENS_A_STEP = 256
"""Of a prompt that are read at once: those who write wait no longer for a long one."""


class Slots:
    """The reference: texts are those of `generate`, whatever is written beside them.

    A step reads a token of every text that is past its prompt, together, and a part of the oldest prompt that is not read.

    Args:
        module: fp32, of the family gpt or hf.
        num_slots: Texts that are written at once.
        num_threads: Of torch, during a step.
        notes: What is done otherwise than asked, a sentence each.

    Raises:
        UsageError: The module does not go on from text.
    """

    engine = "torch"
    precision = "fp32"

    def __init__(
        self, module: FamilyModule, num_slots: int, num_threads: int, *, notes: tuple[str, ...] = ()
    ) -> None:
        heads = cached_heads(module)
        self.context = heads.context
        self.notes = notes
        self._module = module
        self._cache = SlotCache(heads, num_slots)
        self._num_threads = num_threads
        self._free = list(range(num_slots))[::-1]
        self._num_read: dict[int, int] = {}
        self._jobs: dict[int, Job] = {}

    @property
    def cache_frac(self) -> float:
        """Share of the cache that is in use."""
        num_slots = len(self._free) + len(self._jobs)
        return sum(self._num_read.values()) / (num_slots * self.context)

    def check(self, job: Job) -> None:
        """Nothing that is asked of a text is out of its reach."""

    def admit(self, job: Job) -> None:
        """Take a text in."""
        slot = self._free.pop()
        self._cache.forget(slot)
        self._jobs[slot], self._num_read[slot] = job, 0

    def release(self, job: Job) -> None:
        """Forget a text."""
        slot = next(slot for slot, one in self._jobs.items() if one is job)
        del self._jobs[slot], self._num_read[slot]
        self._free.append(slot)

    def step(self) -> list[tuple[Job, Piece]]:
        """Read a token of each text that wrote one, and on in one prompt; return what was written.

        Raises:
            KleiberError: The model's output is not finite.
        """
        num_unread = {
            slot: len(one.writing.tokens) - self._num_read[slot] for slot, one in self._jobs.items()
        }
        groups = [[slot for slot, num in num_unread.items() if num == 1]]
        groups += [[slot] for slot, num in num_unread.items() if num > 1][:1]
        written: list[tuple[Job, Piece]] = []
        for slots in groups:
            if slots:
                written += self._read(slots, min(_TOKENS_A_STEP, num_unread[slots[0]]))
        return written

    @torch.inference_mode()
    def _read(self, slots: list[int], num_tokens: int) -> list[tuple[Job, Piece]]:
        """Read the next tokens of these texts; of one that has read all, write on."""
        self._cache.choose(slots)
        rows = []
        for slot in slots:
            start = self._num_read[slot]
            rows.append(self._jobs[slot].writing.tokens[start : start + num_tokens])
            self._num_read[slot] += num_tokens
        last = torch.tensor([num_tokens - 1])
        with threads(self._num_threads):
            logits_BV = cached_forward(self._module, torch.tensor(rows), self._cache, last)[:, 0].numpy()
        ready = [
            row
            for row, slot in enumerate(slots)
            if self._num_read[slot] == len(self._jobs[slot].writing.tokens)
        ]
        return _drawn([self._jobs[slots[row]] for row in ready], logits_BV[ready])


def _drawn(jobs: list[Job], logits_BV: Logits) -> list[tuple[Job, Piece]]:
    """Write a token more of each text; those that are drawn alike are drawn together."""
    rows_of: dict[Sampling, list[int]] = {}
    for row, job in enumerate(jobs):
        rows_of.setdefault(job.request.sampling, []).append(row)
    written = []
    for sampling, rows in rows_of.items():
        writings = [jobs[row].writing for row in rows]
        uniform_B = np.array([one.rng.random() for one in writings])
        allowed_BV = allowed_next(writings, logits_BV.shape[1])
        tokens_B = draw(logits_BV[rows], sampling, [one.tokens for one in writings], uniform_B, allowed_BV)
        for row, token in zip(rows, tokens_B.tolist(), strict=True):
            num = jobs[row].request.num_logprobs
            said = None if num is None else logprobs(logits_BV[row], token, num)
            written.append((jobs[row], jobs[row].add(token, said)))
    return written
