"""The texts of one request, as they are written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from kleiber.errors import KleiberError
from kleiber.infer.batching import TextHandle
from kleiber.infer.generation import Piece
from kleiber.serve.errors import RefusedError
from kleiber.serve.metrics import CancelReason, Metrics
from kleiber.serve.settings import ServeSettings
from kleiber.serve.writing.mailbox import Mailbox

__all__ = ["Texts", "WrittenText"]


@dataclass
class WrittenText:
    """How far a text is."""

    handle: TextHandle
    num_prompt_tokens: int
    sample: int
    """Of its prompt."""
    num_tokens: int = 0
    first_at: float | None = None
    """Of its first token, by `time.perf_counter`."""
    last_at: float = 0.0


class Texts:
    """What a request waits for; leaving it gives up what is not over.

    Args:
        texts: In the order of the answer's choices.
        mailbox: Hears of them under their numbers.
        settings: For how long it is waited.
        metrics: Where tokens are counted.
        model: That writes them.
        num_prompt_tokens: Of all prompts, each counted once.
        asked_at: When the request came, by `time.perf_counter`.
        on_end: Is told of each text once, when it is over or given up, and why where it was.
    """

    def __init__(
        self,
        texts: Sequence[WrittenText],
        mailbox: Mailbox,
        settings: ServeSettings,
        metrics: Metrics,
        model: str,
        *,
        num_prompt_tokens: int,
        asked_at: float,
        on_end: Callable[[WrittenText, CancelReason | None], None],
    ) -> None:
        self._texts, self._mailbox, self._settings = list(texts), mailbox, settings
        self._metrics, self._model = metrics, model
        self.num_prompt_tokens = num_prompt_tokens
        self._asked_at, self._on_end = asked_at, on_end
        self._open = set(range(len(texts)))
        self._is_stopped = False
        for index, text in enumerate(texts):
            mailbox.subscribe(text.handle, index)

    @property
    def num_texts(self) -> int:
        """Choices of the answer."""
        return len(self._texts)

    @property
    def num_tokens(self) -> int:
        """Written so far, of all texts."""
        return sum(text.num_tokens for text in self._texts)

    async def batches(self) -> AsyncIterator[list[tuple[int, Piece]]]:
        """Yield pieces with the numbers of their texts, those that came together at once, until all texts are over.

        Raises:
            RefusedError: No token came, or not all of them, within the time allowed; or the server stops.
            KleiberError: The engine failed.
        """
        while self._open:
            pieces = []
            for index, heard in await self._collected():
                if index not in self._open:
                    continue
                if isinstance(heard, KleiberError):
                    raise heard
                if heard is None:
                    raise RefusedError(
                        "the server is stopping; the text was not finished.", status=503, code="stopping"
                    )
                pieces.append((index, heard))
                self._note(index, heard)
            if pieces:
                self._metrics.tokens_written(self._model, len(pieces))
                yield pieces

    def stop(self) -> None:
        """End what is not over, since the server stops: whoever waits is told so."""
        self._is_stopped = True
        for index in self._open:
            self._texts[index].handle.cancel()

    def give_up(self, reason: CancelReason) -> None:
        """Cancel what is not over."""
        for index in self._open:
            self._texts[index].handle.cancel()
            self._on_end(self._texts[index], "closing" if self._is_stopped else reason)
        self._open.clear()

    def leave(self) -> None:
        """Cancel what is not over: whoever asked has left."""
        self.give_up("client_left")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give up what is not over: the engine failed one of the texts, or whoever asked has left."""
        self.give_up("failed" if isinstance(error, KleiberError) else "client_left")

    async def _collected(self) -> list[tuple[int, Piece | KleiberError | None]]:
        limits = self._settings
        left_s = self._asked_at + limits.request_timeout_s - time.perf_counter()
        try:
            async with asyncio.timeout(min(left_s, limits.idle_timeout_s)):
                return await self._mailbox.collect()
        except TimeoutError:
            self.give_up("timed_out")
            what = (
                f"no token came within {limits.idle_timeout_s:g} s"
                if limits.idle_timeout_s < left_s
                else f"the answer was not whole after {limits.request_timeout_s:g} s"
            )
            raise RefusedError(
                f"{what}; it is given up.", status=503, code="timeout", hint="fewer tokens, or later"
            ) from None

    def _note(self, index: int, piece: Piece) -> None:
        text, now = self._texts[index], time.perf_counter()
        if text.first_at is None:
            text.first_at = now
            self._metrics.text_began(
                self._model, num_prompt_tokens=text.num_prompt_tokens, time_to_first_s=now - self._asked_at
            )
        text.num_tokens, text.last_at = text.num_tokens + 1, now
        if piece.finish is not None:
            self._open.remove(index)
            self._on_end(text, None)
