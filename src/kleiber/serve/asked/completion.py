"""The body of `/v1/completions`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag

from kleiber.serve.asked.sampling import Asked, tag_of
from kleiber.serve.errors import RefusedError

__all__ = ["CompletionBody", "Prompts", "one_by_one"]

_Tokens = Annotated[list[int], Field(fail_fast=True)]
Prompts = Annotated[
    Annotated[str, Tag("a text")]
    | Annotated[list[str], Field(fail_fast=True), Tag("several texts")]
    | Annotated[_Tokens, Tag("tokens")]
    | Annotated[list[_Tokens], Field(fail_fast=True), Tag("lists of tokens")],
    Discriminator(tag_of),
]
"""A text, its tokens, or a list of either."""
_MAX_LOGPROBS = 20


class CompletionBody(Asked):
    """A prompt that is gone on from, or several."""

    unsupported: ClassVar[Any] = {
        **Asked.unsupported,
        "suffix": (("",), "suffix is not supported: the models here go on from text, and fill no gap."),
        "best_of": ((1,), "best_of is not supported: ask for n texts with logprobs and choose."),
    }

    prompt: Prompts
    """A text, its tokens, or a list of either."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Of each text; 16 where nothing is said, as in OpenAI's API."""
    logprobs: int | None = Field(default=None, ge=0, le=_MAX_LOGPROBS)
    """Of each token, how many likeliest are told with their logarithmic probabilities."""
    echo: bool | None = None
    """Whether each text begins with its prompt."""
    suffix: str | None = None
    best_of: int | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """Prompts, one by one."""
        return one_by_one(self.prompt)

    def refuse_unsupported(self) -> None:
        """Refuse what is asked and not done.

        Raises:
            RefusedError: Naming the field.
        """
        super().refuse_unsupported()
        if not self.prompt:
            raise RefusedError(
                "the prompt is empty: the model needs something to go on from.",
                param="prompt",
                hint='"prompt": "def "',
            )
        if self.echo and self.logprobs is not None:
            raise RefusedError(
                "echo with logprobs is not supported: how probable a prompt was is not told.", param="echo"
            )


def one_by_one(given: Any) -> list[str | list[int]]:
    """Return texts, or their tokens, one by one.

    Example:
        >>> one_by_one("a"), one_by_one([1, 2]), one_by_one([[1], [2]])
        (['a'], [[1, 2]], [[1], [2]])
    """
    return [given] if tag_of(given) in ("a text", "tokens") else list(given)
