"""What OpenAI's API answers with: texts of choices, tokens counted."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from kleiber import __version__
from kleiber.infer.generation import Piece
from kleiber.serve.opened import Opened
from kleiber.serve.writing.spelling import token_bytes

__all__ = ["Head", "chat_logprobs", "completion_logprobs", "finish_reason", "usage"]

_REASONS = {"stop": "stop", "end": "stop", "length": "length"}
_LEAST_LOGPROB = -9999.0
"""JSON has no minus infinity; OpenAI's API says this."""


@dataclass(frozen=True)
class Head:
    """What all chunks of an answer share."""

    kind: str
    """`text_completion`, `chat.completion` or `chat.completion.chunk`."""
    model: Opened
    prefix: str
    """Of the number."""
    number: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    @cached_property
    def fingerprint(self) -> str:
        """What changes when the same request may get another answer: version, model, engine or precision."""
        what = f"{__version__} {self.model.name} {self.model.engine} {self.model.precision}"
        return f"fp_{hashlib.sha256(what.encode()).hexdigest()[:10]}"

    def document(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Return an answer, or a chunk of one."""
        return {
            "id": f"{self.prefix}-{self.number}",
            "object": self.kind,
            "created": self.created,
            "model": self.model.name,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
            **more,
        }


def usage(num_prompt_tokens: int, num_tokens: int) -> dict[str, Any]:
    """Return the count of tokens.

    Example:
        >>> usage(5, 2)
        {'prompt_tokens': 5, 'completion_tokens': 2, 'total_tokens': 7}
    """
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_tokens,
        "total_tokens": num_prompt_tokens + num_tokens,
    }


def finish_reason(pieces: Sequence[Piece]) -> str | None:
    """Return why a text is over, in OpenAI's words; None while it is not."""
    finish = pieces[-1].finish if pieces else None
    return None if finish is None else _REASONS[finish]


def completion_logprobs(tokenizer: Tokenizer, pieces: Sequence[Piece], offset: int) -> dict[str, Any]:
    """Return the logarithmic probabilities of a completion's tokens.

    Args:
        tokenizer: Of the model.
        pieces: With them.
        offset: Characters of the text before the first piece.
    """
    spelt = _speller(tokenizer)
    offsets = []
    for piece in pieces:
        offsets.append(offset)
        offset += len(piece.text)
    return {
        "tokens": [spelt(piece.token) for piece in pieces],
        "token_logprobs": [_finite(piece.logprob) for piece in pieces],
        "top_logprobs": [
            {spelt(token): _finite(value) for token, value in piece.likeliest} for piece in pieces
        ],
        "text_offset": offsets,
    }


def chat_logprobs(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> dict[str, Any]:
    """Return the logarithmic probabilities of an answer's tokens.

    Args:
        tokenizer: Of the model.
        pieces: With them.
    """

    def told(token: int, logprob: float | None) -> dict[str, Any]:
        raw = token_bytes(tokenizer, token)
        return {"token": raw.decode(errors="replace"), "logprob": _finite(logprob), "bytes": list(raw)}

    content = [
        told(piece.token, piece.logprob)
        | {"top_logprobs": [told(token, value) for token, value in piece.likeliest]}
        for piece in pieces
    ]
    return {"content": content, "refusal": None}


def _speller(tokenizer: Tokenizer) -> Callable[[int], str]:
    def spelt(token: int) -> str:
        raw = token_bytes(tokenizer, token)
        try:
            return raw.decode()
        except UnicodeDecodeError:  # a part of a character, as OpenAI's API spells it
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    return spelt


def _finite(logprob: float | None) -> float:
    return max(_LEAST_LOGPROB, _LEAST_LOGPROB if logprob is None else logprob)
