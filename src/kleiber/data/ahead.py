"""Batches that worker processes prepare ahead: the same ones, in the same order, sooner."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import numpy.typing as npt

from kleiber.data.batches import Batch
from kleiber.errors import KleiberError

__all__ = ["Prepare", "prepared_ahead"]

Prepare = Callable[[npt.NDArray[np.intp], int], Batch]
"""From the samples of a batch and the cursor after it to the batch; it can be pickled, and is a pure function."""

_BATCHES_A_WORKER = 2
"""In work or waiting: one to hand over while the next is prepared."""

_held: dict[str, Prepare] = {}
"""In a worker: what it prepares with, sent once and not with every batch."""


def prepared_ahead(
    prepare: Prepare, plan: Iterator[tuple[npt.NDArray[np.intp], int]], num_workers: int
) -> Iterator[Batch]:
    """Yield the batches of a plan in its order.

    The workers end when the iterator is closed or dropped, and when this process ends, however it does.

    Args:
        prepare: Makes a batch.
        plan: Samples of each batch and the cursor after it; may be endless.
        num_workers: Processes, 1 or more.

    Raises:
        KleiberError: A worker was ended from outside.
    """
    # Spawned, not forked: a fork of a process with torch's threads may wait for ever on a lock that none of them holds.
    pool = ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn"), _begin, (prepare,))
    pending: deque[Future[Batch]] = deque()
    try:
        for indices, after in plan:
            pending.append(pool.submit(_prepare_one, indices, after))
            if len(pending) > num_workers * _BATCHES_A_WORKER:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise KleiberError(
            "a worker process that prepared batches was ended from outside, perhaps for lack of memory.",
            hint="--set data.num_workers=0",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(prepare: Prepare) -> None:
    _held["prepare"] = prepare
    os.environ["OMP_NUM_THREADS"] = (
        "1"  # before torch is imported, if it ever is: the cores are the trainer's
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's, which ends its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _prepare_one(indices: npt.NDArray[np.intp], after: int) -> Batch:
    return _held["prepare"](indices, after)
