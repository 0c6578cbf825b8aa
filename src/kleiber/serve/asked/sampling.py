"""What every request for text may say."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from kleiber.infer.generation import Request, Sampling
from kleiber.runs import Document
from kleiber.serve.asked.constraints import Shape, constraint_of
from kleiber.serve.errors import RefusedError

__all__ = ["Asked", "StreamOptions", "tag_of"]

_MAX_SEED = 2**63
_MAX_STOPS = 4


def tag_of(value: Any) -> str:
    """Return which form of a field is meant, so that an error tells of that form alone.

    Example:
        >>> tag_of("a"), tag_of(["a"]), tag_of([1, 2]), tag_of([[1], [2]]), tag_of(5)
        ('a text', 'several texts', 'tokens', 'lists of tokens', 'a text')
    """
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(value, list):
        return {int: "tokens", list: "lists of tokens"}.get(type(first), "several texts")
    return "a text"


_Stops = Annotated[
    Annotated[str, Tag("a text")]
    | Annotated[list[str], Field(max_length=_MAX_STOPS, fail_fast=True), Tag("several texts")],
    Discriminator(lambda value: "several texts" if isinstance(value, list) else "a text"),
]
"""A text or some."""


class StreamOptions(Document):
    """How a stream is told."""

    include_usage: bool | None = None
    """Whether a last chunk counts the tokens."""
    continuous_usage_stats: bool | None = None
    """Beyond OpenAI's: whether every chunk counts the tokens so far."""
    include_obfuscation: bool | None = None
    """Not used: no chunk is padded."""


class Asked(Document):
    """Fields of every request for text; those that OpenAI's API does not have are so marked."""

    model_config = ConfigDict(strict=True)

    unsupported: ClassVar[Mapping[str, tuple[tuple[Any, ...], str]]] = {
        "frequency_penalty": ((0,), "frequency_penalty is not supported; repetition_penalty is."),
        "presence_penalty": ((0,), "presence_penalty is not supported; repetition_penalty is."),
        "logit_bias": (({},), "logit_bias is not supported."),
    }
    """Field: values that ask for nothing, and the sentence that refuses others."""

    model: str | None = None
    """Which of the models served; without it the first that writes text."""
    n: int | None = Field(default=None, ge=1)
    """Texts of each prompt."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """1 where nothing is said; 0 takes the likeliest token."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Of the likeliest tokens those that first add up to it may be drawn."""
    top_k: int | None = Field(default=None, ge=0)
    """Beyond OpenAI's: only so many likeliest tokens may be drawn; 0 is all."""
    min_p: float | None = Field(default=None, ge=0, le=1)
    """Beyond OpenAI's: only tokens so probable, as a part of the likeliest, may be drawn."""
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=100)
    """Beyond OpenAI's: above 1 tokens that have occurred come less."""
    seed: int | None = Field(default=None, ge=-_MAX_SEED, lt=_MAX_SEED)
    """The same seed gives the same texts; without it they differ each time."""
    stop: _Stops | None = None
    """A text ends before the first of them; at most four."""
    stream: bool | None = None
    """Whether the text comes as it is written."""
    stream_options: StreamOptions | None = None
    response_format: Shape | None = None
    """What the text must be: any text, a JSON object, or JSON of a schema."""
    guided_json: dict[str, Any] | None = None
    """Beyond OpenAI's: a JSON schema that the text must follow."""
    guided_regex: str | None = None
    """Beyond OpenAI's: a regular expression that the whole text must match."""
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    """Not used, as are the next."""
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: Literal["auto", "default"] | None = None
    prompt_cache_key: str | None = None

    def refuse_unsupported(self) -> None:
        """Refuse what is asked and not done, and what has no effect.

        Raises:
            RefusedError: Naming the field.
        """
        for name, (neutral, sentence) in self.unsupported.items():
            value = getattr(self, name)
            if value is not None and value not in neutral:
                raise RefusedError(sentence, param=name, code="unsupported_parameter")
        if self.stream_options is not None and not self.stream:
            raise RefusedError(
                "stream_options has no effect without stream.", param="stream_options", hint='"stream": true'
            )

    @property
    def num_samples(self) -> int:
        """Texts of each prompt."""
        return self.n or 1

    def request(
        self, *, max_tokens: int, num_logprobs: int | None, more_stops: tuple[str, ...] = ()
    ) -> Request:
        """Return what is asked of the model for each text.

        Args:
            max_tokens: Of each.
            num_logprobs: Likeliest tokens told beside each.
            more_stops: That end a text beside those that were asked for.

        Raises:
            RefusedError: An empty stop string, or two forms at once.
        """
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if not all(stops):
            raise RefusedError("a stop string must have a character.", param="stop", got=self.stop)
        drawn = {
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
        }
        given: dict[str, Any] = {name: value for name, value in drawn.items() if value is not None}
        return Request(
            max_tokens=max_tokens,
            sampling=Sampling(**given),
            seed=secrets.randbits(32) if self.seed is None else self.seed % _MAX_SEED,
            stop=(*stops, *more_stops),
            num_logprobs=num_logprobs,
            constraint=constraint_of(self.response_format, self.guided_json, self.guided_regex),
        )
