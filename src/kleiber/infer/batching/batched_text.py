"""Many requests at once: texts join and leave a running batch, and each is handed on as it is written."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from kleiber.errors import KleiberError
from kleiber.infer.batching.backend import Backend, Job, Written
from kleiber.infer.batching.handle import TextHandle
from kleiber.infer.batching.speaker import Speaker
from kleiber.infer.choice import Choice
from kleiber.infer.generation.prompts import Prompt
from kleiber.infer.generation.request import Request

__all__ = ["BatchStats", "BatchedText", "QueueFullError"]


class QueueFullError(KleiberError):
    """As many requests wait as may."""


@dataclass(frozen=True)
class BatchStats:
    """What a batch does and has done."""

    num_running: int
    """Texts that are being written."""
    num_waiting: int
    """Requests that no text has begun for."""
    num_finished: int
    num_cancelled: int
    num_tokens: int
    """Written, of all texts."""
    cache_frac: float
    """Share of the cache that is in use."""


class BatchedText:
    """A model that writes for many at once; a thread of its own does, until it is closed.

    Args:
        backend: Writes the texts.
        speaker: Tokenizer of the model, and what its texts begin and end with.
        max_running: Texts that are written at once: what the backend was opened for.
        max_waiting: Requests that may wait for one of them to end.
        choice: How the engine was found, where `auto` was asked.
    """

    def __init__(
        self,
        backend: Backend,
        speaker: Speaker,
        *,
        max_running: int,
        max_waiting: int = 64,
        choice: Choice | None = None,
    ) -> None:
        self.engine, self.precision, self.notes = backend.engine, backend.precision, backend.notes
        self.context, self.speaker, self.choice = backend.context, speaker, choice
        self._backend = backend
        self._max_running, self._max_waiting = max_running, max_waiting
        self._waiting: deque[tuple[Job, TextHandle]] = deque()
        self._running: dict[Job, TextHandle] = {}
        self._num_finished = self._num_cancelled = self._num_tokens = 0
        self._cache_frac = 0.0
        self._is_closing = self._is_closed = False
        # Guards all of the above; the backend is the thread's alone.
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="kleiber-batch", daemon=True)
        self._thread.start()

    def submit(self, prompt: Prompt, request: Request, *, sample: int = 0) -> TextHandle:
        """Return a handle on the text that goes on from a prompt; it begins when there is room for it.

        A text that fills the context is over: unlike that of `generate` it does not start afresh, for others share the cache.

        Args:
            prompt: Text or tokens.
            request: Of one text; several samples of a prompt are submitted one by one.
            sample: Which of them: with the seed it says what is drawn.

        Raises:
            UsageError: The prompt is empty or longer than the context, several samples are asked at once, or the engine has not
                what is asked.
            QueueFullError: As many requests wait as may.
            KleiberError: It is closed.
        """
        job = self.speaker.job(prompt, request, sample=sample)
        self._backend.check(job)
        handle = TextHandle()
        with self._changed:
            if self._is_closing:
                raise KleiberError("the batch is closed: it takes no more requests.")
            if len(self._waiting) >= self._max_waiting:
                raise QueueFullError(
                    f"{self._max_waiting} requests wait already, beside {len(self._running)} that are being written.",
                    hint="try again later, or open it with a larger max_waiting",
                )
            self._waiting.append((job, handle))
            self._changed.notify_all()
        return handle

    def stats(self) -> BatchStats:
        """Return what it does and has done."""
        with self._changed:
            return BatchStats(
                num_running=len(self._running),
                num_waiting=len(self._waiting),
                num_finished=self._num_finished,
                num_cancelled=self._num_cancelled,
                num_tokens=self._num_tokens,
                cache_frac=self._cache_frac,
            )

    def close(self, *, drain_s: float = 0.0) -> None:
        """Take no more requests, cancel what is not over, and end.

        Args:
            drain_s: What was taken may so long be finished first [s].
        """
        with self._changed:
            self._is_closing = True
            self._changed.wait_for(lambda: not (self._running or self._waiting), timeout=drain_s)
            self._is_closed = True
            for handle in (*self._running.values(), *(handle for _, handle in self._waiting)):
                handle.cancel()
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Self:
        """Return itself; it is closed at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _serve(self) -> None:
        """Write until it is closed; a failure ends the texts that are being written, and the next ones are tried again."""
        while self._wait():
            self._drop_cancelled()
            self._admit()
            try:
                written = self._backend.step() if self._running else []
            except Exception as error:  # noqa: BLE001 - whatever a library raises, those who wait must hear of it
                self._fail(self._told(error))
            else:
                self._hand_on(written)

    def _told(self, error: Exception) -> KleiberError:
        """Return what those who wait are told."""
        if isinstance(error, KleiberError):
            return error
        return KleiberError(f"the engine {self.engine} failed: {str(error).strip() or type(error).__name__}")

    def _wait(self) -> bool:
        """Return when there is something to do; False when it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._running or self._waiting)
            return not self._is_closed

    def _drop_cancelled(self) -> None:
        with self._changed:
            for job in [job for job, handle in self._running.items() if handle.is_cancelled]:
                del self._running[job]
                self._backend.release(job)
                self._num_cancelled += 1
                self._cache_frac = self._backend.cache_frac
            left = [entry for entry in self._waiting if not entry[1].is_cancelled]
            self._num_cancelled += len(self._waiting) - len(left)
            self._waiting = deque(left)
            self._changed.notify_all()

    def _admit(self) -> None:
        with self._changed:
            while self._waiting and len(self._running) < self._max_running:
                job, handle = self._waiting.popleft()
                try:
                    self._backend.admit(job)
                except Exception as error:  # noqa: BLE001 - the others go on
                    handle.put(self._told(error))
                else:
                    self._running[job] = handle

    def _hand_on(self, written: Written) -> None:
        with self._changed:
            for job, piece in written:
                if job not in self._running:
                    continue
                self._running[job].put(piece)
                is_failed = isinstance(piece, KleiberError)
                self._num_tokens += not is_failed
                if isinstance(piece, KleiberError) or piece.finish is not None:
                    del self._running[job]
                    self._backend.release(job)
                    self._num_finished += not is_failed
            self._cache_frac = self._backend.cache_frac
            if not self._running:
                self._changed.notify_all()

    def _fail(self, error: KleiberError) -> None:
        with self._changed:
            failed: Mapping[Job, TextHandle] = self._running
            self._running = {}
            for job, handle in failed.items():
                handle.put(error)
                self._backend.release(job)
            self._changed.notify_all()
