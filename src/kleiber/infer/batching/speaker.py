"""How a model's texts begin and end, and what they are written in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.infer.generation.prompts import Prompt, prompt_tokens

if TYPE_CHECKING:
    from kleiber.infer.text_model import TextModel

__all__ = ["Speaker"]


@dataclass(frozen=True)
class Speaker:
    """A language model's tokenizer, the tokens that begin and end its texts, and how long they may be: all but its decoder."""

    tokenizer: TextTokenizer
    start_ids: tuple[int, ...]
    end_ids: frozenset[int]
    context: int

    @property
    def decoder(self) -> Self:
        """What is asked of a decoder where a prompt is read: its context."""
        return self

    def tokens_of(self, prompt: Prompt) -> list[int]:
        """Return the tokens of a prompt, as `generate` reads it.

        Raises:
            UsageError: It is empty, longer than the context, or holds a token that is none of the vocabulary.
        """
        return prompt_tokens(cast("TextModel", self), prompt)
