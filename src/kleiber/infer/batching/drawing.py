"""The next token of several texts, each as its request says.

Legend: B texts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kleiber.errors import KleiberError
from kleiber.infer.batching.backend import Job, Written
from kleiber.infer.generation.constraint import Allowed
from kleiber.infer.generation.logprobs import logprobs
from kleiber.infer.generation.sampling import Logits, Sampling, draw

__all__ = ["drawn"]


def drawn(jobs: Sequence[Job], logits_BV: Logits) -> Written:
    """Write a token more of each text; those that are drawn alike are drawn together.

    Raises:
        KleiberError: The logits are not finite.
    """
    rows_of: dict[Sampling, list[int]] = {}
    allowed: dict[int, Allowed | None] = {}
    written: Written = []
    for row, job in enumerate(jobs):
        try:
            allowed[row] = job.writing.allowed(logits_BV.shape[1])
        except KleiberError as error:  # the others go on
            written.append((job, error))
        else:
            rows_of.setdefault(job.request.sampling, []).append(row)
    for sampling, rows in rows_of.items():
        texts = [jobs[row] for row in rows]
        of_them_BV = logits_BV if len(rows) == len(logits_BV) else logits_BV[rows]
        written += _drawn_alike(texts, of_them_BV, sampling, [allowed[row] for row in rows])
    return written


def _drawn_alike(
    jobs: Sequence[Job], logits_BV: Logits, sampling: Sampling, allowed: Sequence[Allowed | None]
) -> Written:
    is_free = all(one is None for one in allowed)
    every_V = None if is_free else np.ones(logits_BV.shape[1], np.bool_)
    allowed_BV = None if is_free else np.array([every_V if one is None else one for one in allowed])
    uniform_B = np.array([job.writing.rng.random() for job in jobs])
    tokens_B = draw(logits_BV, sampling, [job.writing.tokens for job in jobs], uniform_B, allowed_BV)
    written: Written = []
    for job, token, logits_V in zip(jobs, tokens_B.tolist(), logits_BV, strict=True):
        num = job.request.num_logprobs
        said = None if num is None else logprobs(logits_V, token, num)
        written.append((job, job.add(token, said)))
    return written
