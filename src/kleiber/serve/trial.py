"""One streamed reply over HTTP, as a client would get it: the proof that a model is ready to be served."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kleiber.errors import KleiberError
from kleiber.serve.listening import listen
from kleiber.serve.opened import open_served
from kleiber.serve.run import Server
from kleiber.serve.settings import ServeSettings

__all__ = ["Reply", "streamed_reply"]

_DEADLINE_S = 120


@dataclass(frozen=True)
class Reply:
    """What came back, and when."""

    text: str
    num_tokens: int
    first_token_s: float
    """From the request to the first token."""
    tokens_per_s: float
    """Of those after the first."""


def streamed_reply(
    folder: Path, prompt: str, *, max_tokens: int = 80, on_text: Callable[[str], None] | None = None
) -> Reply:
    """Serve a language model on a free port of this machine, ask it for one text, and stop.

    Args:
        folder: Of a run, or in the Hugging Face layout.
        prompt: That it goes on from.
        max_tokens: Most tokens of the text.
        on_text: Is called with each part of it as it comes.

    Raises:
        KleiberError: The model cannot be served, or the server answered with an error.
    """
    settings = ServeSettings(port=0, engine="torch", max_running=1)
    with _running(folder, settings) as (port, name):
        body = {
            "model": name,
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0.7,
            "seed": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return _read(_events(port, body), on_text or (lambda _: None))


@contextmanager
def _running(folder: Path, settings: ServeSettings) -> Iterator[tuple[int, str]]:
    """Yield the port of a server over one model, and the model's name."""
    with listen(settings) as listener:
        models = open_served([folder], settings)
        ready = threading.Event()
        server = Server(models, settings, on_ready=ready.set)
        thread = threading.Thread(target=server.run, args=([listener],), name="kleiber-serve", daemon=True)
        thread.start()
        try:
            if not ready.wait(_DEADLINE_S):
                raise KleiberError(f"the server of {folder} did not start.")
            yield listener.getsockname()[1], next(iter(models))
        finally:
            server.should_exit = True
            thread.join(_DEADLINE_S)


def _events(port: int, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what the server says, event by event."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_DEADLINE_S)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            said = json.loads(answer.read())
            raise KleiberError(f"the server answered with {answer.status}: {said['error']['message']}")
        for line in answer:
            if line.startswith(b"data: {"):
                event: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
                if "error" in event:
                    raise KleiberError(f"the server gave up: {event['error']['message']}")
                yield event
    finally:
        connection.close()


def _read(events: Iterator[dict[str, Any]], on_text: Callable[[str], None]) -> Reply:
    start = time.perf_counter()
    parts: list[str] = []
    first = last = start
    num_tokens = 0
    for event in events:
        if usage := event.get("usage"):
            num_tokens = usage["completion_tokens"]
        for choice in event["choices"]:
            last = time.perf_counter()
            first = first if parts else last
            parts.append(choice["text"])
            on_text(choice["text"])
    rate = (num_tokens - 1) / (last - first) if last > first else float("nan")
    return Reply("".join(parts), num_tokens, first - start, rate)
