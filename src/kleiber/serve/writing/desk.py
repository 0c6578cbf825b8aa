"""Where requests for a model's texts are taken in: all of a request's texts, or none."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from kleiber.infer.batching import BatchedText, QueueFullError
from kleiber.infer.generation import Request
from kleiber.serve.errors import RefusedError
from kleiber.serve.metrics import CancelReason, Metrics
from kleiber.serve.settings import ServeSettings
from kleiber.serve.writing.mailbox import Mailbox
from kleiber.serve.writing.pace import Pace
from kleiber.serve.writing.prompt_reader import PromptReader
from kleiber.serve.writing.texts import Texts, WrittenText

__all__ = ["Desk", "Work"]


@dataclass(frozen=True)
class Work:
    """What a request comes to when it has been read."""

    prompts: list[list[int]]
    """Tokens of each."""
    request: Request
    num_samples: int = 1
    """Texts of each prompt."""
    is_max_tokens_asked: bool = True
    """Whether the client said how many tokens; then they must fit, else they are as many as do."""


class Desk:
    """One model's texts: who may wait, who is refused, and what was counted.

    All but the reading of prompts happens on the event loop.

    Args:
        name: Of the model.
        text: The model.
        folder: With its `config.json`.
        settings: Limits.
        metrics: Where it counts.
    """

    def __init__(
        self, name: str, text: BatchedText, folder: Path, settings: ServeSettings, metrics: Metrics
    ) -> None:
        self.name = name
        self._text, self._settings, self._metrics = text, settings, metrics
        self.reader = PromptReader(text.speaker, folder)
        # Prompts are read one after another: a tokenizer is not for several threads, and who came first is first.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kleiber-read")
        self._pace = Pace(settings.max_running)
        self._num_open = 0
        self._open: weakref.WeakSet[Texts] = weakref.WeakSet()
        self._is_stopping = False

    async def begin(self, read: Callable[[PromptReader], Work], num_texts: int) -> Texts:
        """Return the texts of a request, which have their places.

        Args:
            read: From the body to tokens; it is called in a thread.
            num_texts: That it comes to.

        Raises:
            RefusedError: There is no room for all of them (429), there never is, or the server stops (503).
            UsageError: What was asked cannot be done.
        """
        asked_at = time.perf_counter()
        self._reserve(num_texts)
        mailbox = Mailbox()
        submitted = self._thread.submit(self._submit, read)
        try:
            # Shielded: a future that is cancelled while its thread works would lose what the thread hands over.
            texts = await asyncio.shield(asyncio.wrap_future(submitted))
        except asyncio.CancelledError:
            if not submitted.cancel():  # it is being read
                submitted.add_done_callback(_cancel_all)
            self._num_open -= num_texts
            raise
        except QueueFullError:
            self._num_open -= num_texts
            raise self._full(num_texts) from None
        except BaseException:
            self._num_open -= num_texts
            raise
        found = Texts(
            texts,
            mailbox,
            self._settings,
            self._metrics,
            self.name,
            num_prompt_tokens=sum(text.num_prompt_tokens for text in texts if text.sample == 0),
            asked_at=asked_at,
            on_end=self._ended,
        )
        self._open.add(found)
        if self._is_stopping:  # since its prompts were read
            found.stop()
        return found

    def stop(self) -> None:
        """Take nothing more in, and end what is not over."""
        self._is_stopping = True
        for texts in list(self._open):
            texts.stop()

    def close(self) -> None:
        """Let its thread go."""
        self._thread.shutdown(cancel_futures=True)

    def _reserve(self, num_texts: int) -> None:
        settings = self._settings
        room = settings.max_running + settings.max_waiting
        if self._is_stopping:
            self._metrics.rejected(self.name, "closing")
            raise RefusedError("the server is stopping.", status=503, code="stopping")
        if num_texts > room:
            raise RefusedError(
                f"the request asks for {num_texts} texts, and the server takes at most {room} at once.",
                param="n",
                hint="fewer prompts or a smaller n",
            )
        if self._num_open + num_texts > room:
            raise self._full(num_texts)
        self._num_open += num_texts

    def _full(self, num_texts: int) -> RefusedError:
        self._metrics.rejected(self.name, "queue_full")
        room = self._settings.max_running + self._settings.max_waiting
        seconds = self._pace.wait_s(
            num_places=max(1, self._num_open + num_texts - room), max_tokens=self.reader.context
        )
        return RefusedError(
            f"the server is full: {self._num_open} texts of '{self.name}' are being written or wait.",
            status=429,
            code="queue_full",
            retry_after_s=seconds,
            hint=f"again in {seconds} s",
        )

    def _submit(self, read: Callable[[PromptReader], Work]) -> list[WrittenText]:
        work = self._within_limits(read(self.reader))
        texts: list[WrittenText] = []
        try:
            for tokens in work.prompts:
                for sample in range(work.num_samples):
                    handle = self._text.submit(tokens, work.request, sample=sample)
                    texts.append(WrittenText(handle, len(tokens), sample))
        except BaseException:
            for text in texts:
                text.handle.cancel()
            raise
        return texts

    def _within_limits(self, work: Work) -> Work:
        settings, context = self._settings, self.reader.context
        most = settings.max_output_tokens or context
        asked = work.request.max_tokens
        if work.is_max_tokens_asked and asked > most:
            raise RefusedError(f"a text here has at most {most} tokens.", param="max_tokens", got=asked)
        for tokens in work.prompts:
            if settings.max_prompt_tokens is not None and len(tokens) > settings.max_prompt_tokens:
                raise RefusedError(
                    f"the prompt is {len(tokens)} tokens long; the server reads at most {settings.max_prompt_tokens}.",
                    code="context_length_exceeded",
                )
            room = context + 1 - len(tokens)  # the last token need not be read
            if work.is_max_tokens_asked and asked > room:
                raise RefusedError(
                    f"a prompt of {len(tokens)} tokens and {asked} more do not fit: the context holds {context}.",
                    param="max_tokens",
                    code="context_length_exceeded",
                    hint=f'"max_tokens": {room}',
                )
        return replace(work, request=replace(work.request, max_tokens=min(asked, most)))

    def _ended(self, text: WrittenText, reason: CancelReason | None) -> None:
        self._num_open -= 1
        if reason is not None:
            self._metrics.cancelled(self.name, reason)
        if text.first_at is not None:
            time_s = text.last_at - text.first_at
            self._metrics.text_ended(self.name, num_tokens=text.num_tokens, time_s=time_s)
            self._pace.ended(num_tokens=text.num_tokens - 1, time_s=time_s)


def _cancel_all(submitted: Future[list[WrittenText]]) -> None:
    """Give up texts that were submitted for a client that had left by then."""
    if submitted.cancelled() or submitted.exception() is not None:
        return
    for text in submitted.result():
        text.handle.cancel()
