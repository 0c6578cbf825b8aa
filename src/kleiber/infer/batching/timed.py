"""How long a backend takes for texts, one alone and as many as it writes at once: what `auto` compares."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np

from kleiber.errors import KleiberError
from kleiber.infer.batching.backend import Backend, Job
from kleiber.infer.batching.speaker import Speaker
from kleiber.infer.choice import ManyRequest
from kleiber.infer.generation.request import Request

__all__ = ["many_time"]


def many_time(backend: Backend, speaker: Speaker, asked: ManyRequest) -> Callable[[], float]:
    """Return what writes the texts of a request and returns its seconds.

    Each time their prompts are others: what a backend has read once it may not read again.

    Args:
        backend: Nobody else steps it meanwhile.
        speaker: Its texts do not end before they are as long as asked.
        asked: What is written.
    """
    seeds = itertools.count()
    request = Request(max_tokens=asked.num_new)

    def job() -> Job:
        rng = np.random.default_rng(next(seeds))
        tokens = rng.integers(0, speaker.tokenizer.vocab_size, asked.num_prompt)
        return speaker.job(tokens.tolist(), request)

    def work() -> float:
        seconds = 0.0
        for num in (1, asked.num_texts):
            jobs = [job() for _ in range(num)]
            start = time.perf_counter()
            _write(backend, jobs)
            seconds += time.perf_counter() - start
        return seconds

    return work


def _write(backend: Backend, jobs: list[Job]) -> None:
    for job in jobs:
        backend.admit(job)
    num_open = len(jobs)
    while num_open:
        for job, piece in backend.step():
            if isinstance(piece, KleiberError):
                raise piece
            if piece.finish is not None:
                backend.release(job)
                num_open -= 1
