"""How a model's texts begin and end, and what they are written in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self, cast

from tokenizers import Tokenizer

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.errors import UsageError
from kleiber.infer.batching.backend import Job
from kleiber.infer.generation.prompts import Prompt, prompt_tokens
from kleiber.infer.generation.request import Request
from kleiber.infer.generation.writing import Writing

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
        """Return the tokens of a prompt, as `generate` reads it; several threads may ask at once.

        Raises:
            UsageError: It is empty, longer than the context, or holds a token that is none of the vocabulary.
        """
        return prompt_tokens(cast("TextModel", replace(self, tokenizer=self._reader)), prompt)

    def job(self, prompt: Prompt, request: Request, *, sample: int = 0) -> Job:
        """Return the text that goes on from a prompt, as far as the context holds it.

        Raises:
            UsageError: The prompt is as `tokens_of` says, several samples are asked at once, or the text cannot have its form.
        """
        if request.num_samples != 1:
            raise UsageError(
                "a request of a batch is one text.", got=request.num_samples, hint="submit a request a sample"
            )
        tokens = self.tokens_of(prompt)
        # The last token need not be read.
        room = self.context + 1 - len(tokens)
        fitting = replace(request, max_tokens=min(request.max_tokens, room))
        writing = Writing(
            tokens,
            replace(fitting, num_logprobs=None),
            index=0,
            sample=sample,
            tokenizer=self.tokenizer.backend,
            end_ids=self.end_ids,
        )
        return Job(writing, fitting, sample)

    @cached_property
    def _reader(self) -> TextTokenizer:
        """A tokenizer of its own, which spells special tokens out: no tokenizer may be changed while a thread reads with it."""
        backend = Tokenizer.from_str(self.tokenizer.backend.to_str())
        backend.encode_special_tokens = True
        return replace(self.tokenizer, backend=backend)
