"""Continuous batching over rows of one cache: each step a token of all texts that write, and a part of a prompt.

Legend: B texts of a step, T tokens of each.
"""

from __future__ import annotations

import itertools
import math
from collections import deque

import numpy as np

from kleiber.infer.batching.backend import Job, Written
from kleiber.infer.batching.drawing import drawn
from kleiber.infer.batching.known_rows import KnownRows
from kleiber.infer.batching.row_stepper import RowStepper

__all__ = ["Slots"]

_TOKENS_BESIDE = 64
"""Of prompts that are read a step beside texts that write: those wait no longer than this takes."""
_TOKENS_ALONE = 512
"""Of prompts that are read a step where no text writes."""


class Slots:
    """Texts are those of `generate`, whatever is written beside them; prompts are read in the order in which they came.

    Texts that write take the first rows of the cache, so that a step reads one piece of memory. What a prompt begins with and
    a row holds, of a text that is written or of one that is over, is not read again.

    Args:
        stepper: A model and its rows.
        num_slots: Texts that are written at once: its rows.
        rows_at_once: Those that are read together; None is all.
    """

    def __init__(self, stepper: RowStepper, num_slots: int, *, rows_at_once: int | None = None) -> None:
        self.engine, self.precision, self.notes = stepper.engine, stepper.precision, stepper.notes
        self.context = stepper.context
        self._stepper, self._num_slots = stepper, num_slots
        self._rows_at_once = rows_at_once or num_slots
        self._rows = KnownRows(stepper, num_slots)
        self._writing: list[Job] = []
        self._unread: deque[Job] = deque()
        self._reading: tuple[Job, int] | None = None

    @property
    def cache_frac(self) -> float:
        """Share of the cache that texts use which are written."""
        held = self._rows.num_held(len(self._writing))
        held += 0 if self._reading is None else len(self._rows.tokens(self._reading[1]))
        return held / (self._num_slots * self.context)

    def check(self, job: Job) -> None:
        """Nothing that is asked of a text is out of its reach."""

    def admit(self, job: Job) -> None:
        """Take a text in."""
        self._unread.append(job)

    def release(self, job: Job) -> None:
        """Forget a text; its row goes behind those that are written."""
        if self._reading is not None and self._reading[0] is job:
            self._reading = None
        elif job in self._writing:
            row, last = self._writing.index(job), len(self._writing) - 1
            self._rows.swap(row, last)
            self._writing[row] = self._writing[last]
            del self._writing[last]
        else:
            self._unread.remove(job)

    def step(self) -> Written:
        """Read a token of each text that wrote one, and on in prompts; return what was written.

        Raises:
            KleiberError: The model's output is not finite.
        """
        try:
            num_left = _TOKENS_BESIDE if self._writing else _TOKENS_ALONE
            written = self._write() if self._writing else []
            while num_left > 0 and (self._reading is not None or self._unread):
                num_read, more = self._read(num_left)
                written += more
                num_left -= num_read
        except Exception:
            self._rows.forget()  # what they hold may not be finite either
            raise
        return written

    def _read(self, most: int) -> tuple[int, Written]:
        """Read on in the oldest prompt that is not read; return how many tokens, and what was written where it is."""
        job, row = self._reading or self._begin(self._unread.popleft())
        self._reading = job, row
        held, tokens = self._rows.tokens(row), job.writing.tokens
        part = tokens[len(held) : len(held) + most]
        logits_1V = self._stepper.read(row, np.array([part]), [len(held)])
        held += part
        if len(held) < len(tokens):
            return len(part), []
        self._reading = None
        self._rows.swap(row, len(self._writing))
        self._writing.append(job)
        return len(part), drawn([job], logits_1V)

    def _begin(self, job: Job) -> tuple[Job, int]:
        return job, self._rows.begin(job.writing.tokens, len(self._writing))

    def _write(self) -> Written:
        """Read a token of each text that writes, as many at once as is fastest, and write the next."""
        num = len(self._writing)
        bounds = np.linspace(0, num, 1 + math.ceil(num / self._rows_at_once)).round().astype(int).tolist()
        written: Written = []
        for first, end in itertools.pairwise(bounds):
            held = [self._rows.tokens(row) for row in range(first, end)]
            jobs = self._writing[first:end]
            next_B = [job.writing.tokens[-1] for job in jobs]
            logits_BV = self._stepper.read(first, np.array(next_B)[:, None], [len(one) for one in held])
            for one, token in zip(held, next_B, strict=True):
                one.append(token)
            written += drawn(jobs, logits_BV)
        return written
