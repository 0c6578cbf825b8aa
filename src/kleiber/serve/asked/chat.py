"""The body of `/v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from kleiber.runs import Document
from kleiber.serve.asked.sampling import Asked
from kleiber.serve.errors import RefusedError

__all__ = ["ChatBody", "Message", "Part"]

_NO_TOOLS = "tools are not supported: the model answers with text alone."
_TEXT_ALONE = "the model reads and writes text alone."


class Part(Document):
    """A part of a message."""

    model_config = ConfigDict(extra="allow")

    type: str
    """`text`; others are refused."""
    text: str | None = None


_Content = Annotated[
    Annotated[str, Tag("a text")]
    | Annotated[list[Part], Field(fail_fast=True, max_length=1000), Tag("several texts")],
    Discriminator(lambda value: "several texts" if isinstance(value, list) else "a text"),
]


class Message(Document):
    """What somebody said; what OpenAI's API answers may be given back as it is."""

    model_config = ConfigDict(strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: _Content | None = None
    name: str | None = None
    """Told to the model where its chat template does."""
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: Any = None
    tool_calls: list[Any] | None = None
    function_call: Any = None

    def text(self, place: str) -> str:
        """Return what was said.

        Args:
            place: Of the message in the body, for errors.

        Raises:
            RefusedError: There is none, or something other than text.
        """
        if self.tool_calls or self.function_call:
            raise RefusedError(_NO_TOOLS, param=place, code="unsupported_parameter")
        if self.audio is not None:
            raise RefusedError(_TEXT_ALONE, param=place, code="unsupported_parameter")
        if isinstance(self.content, str):
            return self.content
        if self.content is None:
            raise RefusedError(f"{place} has no content.", param=place)
        for part in self.content:
            if part.type != "text" or part.text is None:
                raise RefusedError(
                    _TEXT_ALONE, param=place, got=part.type, hint='{"type": "text", "text": "..."}'
                )
        return "".join(part.text or "" for part in self.content)


class ChatBody(Asked):
    """A conversation that the model goes on with."""

    unsupported: ClassVar[Any] = {
        **Asked.unsupported,
        **dict.fromkeys(("tools", "functions"), (([],), _NO_TOOLS)),
        **dict.fromkeys(("tool_choice", "function_call"), (("none", "auto"), _NO_TOOLS)),
        "modalities": ((["text"],), _TEXT_ALONE),
        "audio": ((), _TEXT_ALONE),
        "prediction": ((), "prediction is not supported."),
        "web_search_options": ((), "web_search_options is not supported: the model looks nothing up."),
        "reasoning_effort": (("none",), "reasoning_effort is not supported: the model answers at once."),
        "verbosity": (("medium",), "verbosity is not supported; max_completion_tokens is."),
    }

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096, fail_fast=True)]
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """Of each answer; what the context has room for where nothing is said."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The older name of `max_completion_tokens`."""
    logprobs: bool | None = None
    """Whether each token's logarithmic probability is told."""
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    """Likeliest tokens beside each, with theirs."""
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    modalities: list[str] | None = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    reasoning_effort: str | None = None
    verbosity: str | None = None

    def refuse_unsupported(self) -> None:
        """Refuse what is asked and not done.

        Raises:
            RefusedError: Naming the field.
        """
        super().refuse_unsupported()
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise RefusedError(
                "max_tokens is the older name of max_completion_tokens; give one of both.", param="max_tokens"
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise RefusedError(
                "top_logprobs has no effect without logprobs.", param="top_logprobs", hint='"logprobs": true'
            )

    @property
    def num_logprobs(self) -> int | None:
        """Likeliest tokens that are told beside each; None where nothing is."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def said(self) -> list[dict[str, str]]:
        """Return the messages as a chat template reads them.

        Raises:
            RefusedError: One is no text.
        """
        told = []
        for index, message in enumerate(self.messages):
            one = {"role": message.role, "content": message.text(f"messages.{index}")}
            told.append(one if message.name is None else one | {"name": message.name})
        return told
