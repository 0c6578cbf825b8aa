"""The engine `auto`: whichever is the fastest here for this model and this work, measured once and remembered.

Legend: B sequences, T tokens.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import numpy as np
from pydantic import Field

from kleiber.errors import KleiberError, UsageError
from kleiber.infer.decoding import Decoder
from kleiber.infer.machine import cpu_flags
from kleiber.infer.measure.turns import in_turns
from kleiber.infer.predictor import InEngine
from kleiber.runs import Document, now
from kleiber.runs.cache import default_cache
from kleiber.units import format_seconds

__all__ = [
    "Choice",
    "ComparedOn",
    "EngineTime",
    "ManyRequest",
    "SampleRequest",
    "TextRequest",
    "chosen",
    "request_time",
]

E = TypeVar("E", bound=InEngine)

_PACKAGES = ("torch", "onnxruntime", "openvino", "llama-cpp-python", "kleiber")
_ROUNDS = 5


class TextRequest(Document):
    """What engines that write are compared on."""

    kind: Literal["text"] = "text"
    num_prompt: int = Field(default=128, ge=1)
    """Tokens that are read first."""
    num_new: int = Field(default=64, ge=0)
    """Tokens that are written after them."""
    batch: int = Field(default=1, ge=1)

    @property
    def says(self) -> str:
        """What is done, in words."""
        return f"{self.num_prompt} tokens read and {self.num_new} written"

    def fitted(self, context: int) -> TextRequest:
        """Return the request as far as a context holds it."""
        num_prompt = min(self.num_prompt, max(1, context // 2))
        return self.model_copy(
            update={"num_prompt": num_prompt, "num_new": min(self.num_new, context - num_prompt)}
        )


class SampleRequest(Document):
    """What engines that answer whole inputs are compared on."""

    kind: Literal["samples"] = "samples"
    batch: int = Field(default=1, ge=1)

    @property
    def says(self) -> str:
        """What is done, in words."""
        return f"a batch of {self.batch}"


class ManyRequest(Document):
    """What engines that write for many are compared on."""

    kind: Literal["many"] = "many"
    num_prompt: int = Field(default=32, ge=1)
    """Tokens that are read first, of each text."""
    num_new: int = Field(default=32, ge=1)
    """Tokens that are written after them."""
    num_texts: int = Field(ge=1)
    """Those that are written at once; one alone is written before them."""

    @property
    def says(self) -> str:
        """What is done, in words."""
        return f"one text alone and {self.num_texts} at once, {self.num_prompt} tokens read and {self.num_new} written of each,"

    def fitted(self, context: int) -> ManyRequest:
        """Return the request as far as a context holds it."""
        num_prompt = min(self.num_prompt, max(1, context // 2))
        return self.model_copy(
            update={"num_prompt": num_prompt, "num_new": max(1, min(self.num_new, context - num_prompt))}
        )


ComparedOn: TypeAlias = TextRequest | SampleRequest | ManyRequest
"""What engines are compared on."""


class EngineTime(Document):
    """One engine on the request."""

    engine: str
    precision: str
    """What it computes in."""
    seconds: float
    """Of the request: the ratio that it had to the fastest of its turns, times what the fastest of all took at last."""


class Choice(Document):
    """Which engine was chosen, and by how much."""

    engine: str
    request: ComparedOn = Field(discriminator="kind")
    num_threads: int
    times: tuple[EngineTime, ...]
    """The fastest first."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """Engines that were not measured, with the reason."""
    measured_at: str

    def says(self) -> str:
        """Return a sentence.

        Example:
            >>> times = tuple(EngineTime(engine=name, precision="fp32", seconds=s) for name, s in (("b", 0.1), ("a", 0.25)))
            >>> Choice(engine="b", request=TextRequest(), num_threads=2, times=times, measured_at="2026-01-01").says()
            'b: 128 tokens read and 64 written in 100 ms, 2.50 times as fast as a, the next of 2 engines measured here.'
        """
        best, work = self.times[0], self.request.says
        if len(self.times) == 1:
            return f"{self.engine}: {work} in {format_seconds(best.seconds)}; no other engine here runs the model."
        second = self.times[1]
        return (
            f"{self.engine}: {work} in {format_seconds(best.seconds)}, {second.seconds / best.seconds:.2f} times as fast as "
            f"{second.engine}, the next of {len(self.times)} engines measured here."
        )


@dataclass(frozen=True)
class _Opened(Generic[E]):
    model: E
    engine: str
    work: Callable[[], float]


def chosen(
    openers: Mapping[str, Callable[[], E]],
    timed: Callable[[E], Callable[[], float]],
    request: ComparedOn,
    identity: Mapping[str, Any],
    *,
    num_threads: int,
    on_progress: Callable[[str], None] | None = None,
) -> tuple[E, Choice]:
    """Return the model behind the fastest engine, and how that was found; what was measured before is only opened.

    Two are open at a time: each new one takes turns with the fastest so far, and the slower one is closed.

    Args:
        openers: By the name of the engine; one that raises is left out, with the reason.
        timed: From an opened model to what does the request and returns its seconds.
        request: What they are compared on.
        identity: What speed follows from, in JSON: sizes and precision of the model, not its numbers.
        num_threads: Of each engine.
        on_progress: Is told which engine is measured.

    Raises:
        UsageError: No engine runs the model.
    """
    path = default_cache() / "engines" / f"{_digest(identity, request, num_threads)}.json"
    if path.is_file():
        known = Choice.read(path)
        if known.engine in openers:
            return openers[known.engine](), known
    best: _Opened[E] | None = None
    times: dict[str, EngineTime] = {}
    left_out: dict[str, str] = {}
    for engine, opener in openers.items():
        if on_progress is not None:
            on_progress(f"measuring the engine {engine}, once for models of these sizes on this machine")
        try:
            model = opener()
            challenger = _Opened(model, engine, timed(model))
            challenger.work()  # what is made at the first call; what an engine cannot do it says here
        except KleiberError as error:
            left_out[engine] = error.message
            continue
        best = _faster(best, challenger, times)
    if best is None:
        raise UsageError("no engine runs this model here.", got=left_out, hint="--engine torch")
    choice = Choice(
        engine=best.engine,
        request=request,
        num_threads=num_threads,
        times=tuple(sorted(times.values(), key=lambda one: one.seconds)),
        left_out=left_out,
        measured_at=now(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    choice.write(path)
    return best.model, choice


def request_time(decoder: Decoder, request: TextRequest) -> Callable[[], float]:
    """Return what does a request and returns its seconds."""
    tokens_BT = np.zeros((request.batch, request.num_prompt), np.int64)
    token_B = tokens_BT[:, 0].copy()

    def work() -> float:
        start = time.perf_counter()
        decoder.prefill(tokens_BT)
        for _ in range(request.num_new):
            decoder.decode(token_B)
        return time.perf_counter() - start

    return work


def _faster(best: _Opened[E] | None, challenger: _Opened[E], times: dict[str, EngineTime]) -> _Opened[E]:
    pair = [one for one in (best, challenger) if one is not None]
    taken = in_turns({one.engine: one.work for one in pair}, _ROUNDS)
    medians_s = {engine: float(np.median(times_s)) for engine, times_s in taken.items()}
    if best is not None:  # the machine may be slower now than in the turns before
        drift = medians_s[best.engine] / times[best.engine].seconds
        for engine, one in times.items():
            times[engine] = one.model_copy(update={"seconds": one.seconds * drift})
    times[challenger.engine] = EngineTime(
        engine=challenger.engine,
        precision=challenger.model.precision,
        seconds=medians_s[challenger.engine],
    )
    return min(pair, key=lambda one: times[one.engine].seconds)


def _digest(identity: Mapping[str, Any], request: ComparedOn, num_threads: int) -> str:
    measured_on = {
        "model": identity,
        "request": request.model_dump(),
        "threads": num_threads,
        "cpu": cpu_flags(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }
    return hashlib.sha256(json.dumps(measured_on, sort_keys=True).encode()).hexdigest()[:24]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
