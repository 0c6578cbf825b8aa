"""Whether a tokenizer is of the model that stands beside it."""

from __future__ import annotations

from pathlib import Path

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.errors import DataError

__all__ = ["require_known_tokens"]


def require_known_tokens(tokenizer: TextTokenizer, num_known: int | None, folder: Path) -> None:
    """Refuse a tokenizer that gives tokens which the model has no row for: an engine would read beside its table.

    Args:
        tokenizer: That stands beside a model.
        num_known: Rows of the model's table; None where there is none.
        folder: Of the model.

    Raises:
        DataError: It has more tokens.
    """
    if num_known is not None and tokenizer.vocab_size > num_known:
        raise DataError(
            f"{folder} holds a tokenizer of {tokenizer.vocab_size:,} tokens and a model that knows {num_known:,}: "
            "they are not of one another.",
            hint="the tokenizer.json that the model was trained with",
        )
