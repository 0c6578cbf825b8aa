"""A tokenizer with its special tokens: what pads, begins and ends a text, whether it was trained here or by somebody else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from kleiber.data.passages import END_OF_TEXT
from kleiber.data.token_bytes import covered_num_bytes, token_num_bytes
from kleiber.data.tokenizer import EncodedTexts, encode_texts, encoded_parts, load_tokenizer, tokenizer_hash
from kleiber.errors import DataError
from kleiber.runs.files import write_text

__all__ = ["ROLES", "TextTokenizer", "saved_tokenizer"]

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""What transformers calls the special tokens in `tokenizer_config.json`."""

_TRAINED = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT)


@dataclass(frozen=True)
class TextTokenizer:
    """What reads texts.

    Example:
        >>> from kleiber.data.tokenizer import train_tokenizer
        >>> ours = TextTokenizer(train_tokenizer(["low lower " * 3], 259, source="text:low.txt"))
        >>> ours.vocab_size, ours.pad_id, ours.end_id, ours.prefix
        (259, 0, 0, ())
    """

    backend: Tokenizer
    """Neither cuts nor pads."""
    given: Mapping[str, str] | None = None
    """Special tokens by role of one that somebody else trained; None of one that was trained here."""
    name: str = "the tokenizer"
    """What the user typed, for errors."""

    @cached_property
    def special(self) -> dict[str, str]:
        """Special tokens by role; where none pads, the one that ends a text does."""
        known = dict(self._named)
        if "pad_token" not in known:
            known["pad_token"] = str(self.backend.id_to_token(self.end_id))
        return known

    @property
    def _named(self) -> Mapping[str, str]:
        return _TRAINED if self.given is None else self.given

    def _id(self, token: str) -> int:
        return self.backend.get_vocab()[token]

    @cached_property
    def vocab_size(self) -> int:
        """Rows that a table of embeddings must have: one more than the largest number."""
        return 1 + max(self.backend.get_vocab().values())

    @cached_property
    def pad_id(self) -> int:
        """The token that fills short texts."""
        return self._id(self.special["pad_token"])

    @cached_property
    def end_id(self) -> int:
        """The token that ends a text: the last that the tokenizer itself puts there, else its end of text.

        Raises:
            DataError: It has neither.
        """
        if self.suffix:
            return self.suffix[-1]
        end = self._named.get("eos_token")
        if end is None:
            raise DataError(
                f"data.tokenizer '{self.name}' has no token that ends a text.",
                hint='"eos_token": "</s>"   in its tokenizer_config.json',
            )
        return self._id(end)

    @property
    def prefix(self) -> tuple[int, ...]:
        """Tokens that it puts before a text."""
        return self._frame[0]

    @property
    def suffix(self) -> tuple[int, ...]:
        """Tokens that it puts after a text."""
        return self._frame[1]

    @cached_property
    def _frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return what the tokenizer puts around a text, by how it frames one that has a token."""
        words = ("a", "A", "0", *self.backend.get_vocab())
        word = next(word for word in words if self._num_tokens(word))
        encoding = self.backend.encode(word)
        first = encoding.special_tokens_mask.index(0)
        return tuple(encoding.ids[:first]), tuple(encoding.ids[first + self._num_tokens(word) :])

    def _num_tokens(self, text: str) -> int:
        return len(self.backend.encode(text, add_special_tokens=False).ids)

    @property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of its JSON."""
        return tokenizer_hash(self.backend)

    def key(self) -> dict[str, object] | None:
        """Return what prepared texts depend on, in JSON; None of one that is trained, which follows from the texts."""
        return None if self.given is None else {"hash": self.hash, "special": self.special}

    def encode(self, texts: Sequence[str], *, separator: int) -> EncodedTexts:
        """Return the tokens of the texts in one row, each text followed by a separator; nothing is put around them.

        A special token that a text spells is read as the text that it is.
        """
        return encode_texts(self.backend, texts, separator=separator, vocab_size=self.vocab_size)

    def encode_parts(
        self, texts: Iterable[str], *, separator: int
    ) -> Iterator[npt.NDArray[np.unsignedinteger]]:
        """Yield the tokens of `encode` a part at a time, so that memory never holds them all."""
        parts = encoded_parts(self.backend, texts, separator=separator, vocab_size=self.vocab_size)
        return (part.tokens for part in parts)

    def num_bytes(
        self, texts: Sequence[str], tokens: npt.NDArray[np.unsignedinteger]
    ) -> npt.NDArray[np.int32]:
        """Return how many bytes of text each of their tokens stands for, [num_tokens]: all of a text, by its end.

        Args:
            texts: In order.
            tokens: Of `encode`.
        """
        if self.given is None:
            own: npt.NDArray[np.int32] = token_num_bytes(self.backend)[tokens]
            return own
        return covered_num_bytes(self.backend, texts)

    def write(self, folder: Path, *, context: int | None = None) -> None:
        """Write the files that `AutoTokenizer.from_pretrained` reads, each whole or not at all."""
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **self.special,
            **({} if context is None else {"model_max_length": context}),
            "clean_up_tokenization_spaces": False,
        }
        # Tokenizer.save would raise a bare Exception on a full disk.
        write_text(folder / "tokenizer.json", self.backend.to_str(pretty=True))
        write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")

    def note(self) -> tuple[str, ...]:
        """Return what is said of one that was not trained here, a sentence."""
        if self.given is None:
            return ()
        pad = f"{self.special['pad_token']} (token {self.pad_id})"
        return (
            f"Texts are read by the tokenizer of {self.name}: {self.vocab_size:,} entries, padding is {pad}.",
        )


def saved_tokenizer(folder: Path) -> TextTokenizer:
    """Return the tokenizer that `TextTokenizer.write` wrote; a `tokenizer.json` alone is one that was trained here.

    Raises:
        DataError: There is none, or it does not parse.
    """
    config = folder / "tokenizer_config.json"
    backend = load_tokenizer(folder)
    if not config.is_file():
        return TextTokenizer(backend)
    try:
        raw = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"{config}, which names special tokens, is not valid JSON.") from None
    if not isinstance(raw, dict):
        raise DataError(f"{config} must hold a mapping of keys to values.", got=type(raw).__name__)
    return TextTokenizer(backend, {role: raw[role] for role in ROLES if role in raw}, str(folder))
