"""Captions for images that have classes: "a photo of a frog"."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.data import Samples
from kleiber.data.source import Part, Source
from kleiber.data.tokenizer import tokenizer_hash, train_tokenizer
from kleiber.runs.data_shape import PAD_ID
from kleiber.runs.document import hash_of
from kleiber.runs.files import write_folder, write_text

__all__ = ["CaptionedImages", "caption", "with_captions"]

_VOCAB_SIZE = 257
"""Bytes and the end of text: so few captions have no pairs of letters worth an entry."""


@dataclass(frozen=True)
class CaptionedImages:
    """Images with the caption of their class."""

    images: Samples
    labels: npt.NDArray[np.int64]
    """[N]"""
    captions: npt.NDArray[np.int64]
    """Token ids of each class [classes, T], padded at the end."""

    def __len__(self) -> int:
        """Return N."""
        return len(self.images)

    def gather(self, indices: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
        """Return images [B, C, H, W] and tokens [B, T]."""
        return {**self.images.gather(indices), "tokens": self.captions[self.labels[indices]]}


def caption(name: str) -> str:
    """Return what is said of an image of a class; the article goes by its first letter.

    Source:
        Radford et al. 2021, arXiv:2103.00020, section 3.1.4.

    Example:
        >>> caption("polar_bear")
        'a photo of a polar bear.'
    """
    words = name.replace("_", " ")
    article = "an" if words[:1].lower() in {"a", "e", "i", "o", "u"} else "a"
    return f"a photo of {article} {words}."


def with_captions(source: Source, cache: Path, *, name: str) -> Source:
    """Return images that have classes with a caption each, by a tokenizer of bytes.

    Args:
        source: Whose samples are images.
        cache: Where the tokenizer is kept.
        name: What the user typed, for errors.
    """
    texts = [caption(each) for each in source.classes]
    tokenizer = train_tokenizer(texts, _VOCAB_SIZE, source=name)
    folder = cache / "tokenizers" / hash_of({"bytes": _VOCAB_SIZE, "tokenizer": tokenizer_hash(tokenizer)})
    if not folder.is_dir():
        write_folder(
            folder, lambda target: write_text(target / "tokenizer.json", tokenizer.to_str(pretty=True))
        )
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    context = max(map(len, encoded))
    captions = np.full((len(encoded), context), PAD_ID, np.int64)
    for row, ids in enumerate(encoded):
        captions[row, : len(ids)] = ids
    say = partial(_captioned, captions=captions)
    return replace(
        source,
        shape=source.shape.model_copy(
            update={"inputs": "captions", "vocab_size": _VOCAB_SIZE, "context": context, "num_outputs": None}
        ),
        train=say(source.train),
        val=None if source.val is None else say(source.val),
        test=None if source.test is None else say(source.test),
        tokenizer_path=folder / "tokenizer.json",
        tokenizer_hash=tokenizer_hash(tokenizer),
        notes=(
            *source.notes,
            f"Captions are made of the names of classes: '{texts[0]}'; their tokens are bytes.",
        ),
    )


def _captioned(part: Part, *, captions: npt.NDArray[np.int64]) -> Part:
    assert part.labels is not None  # noqa: S101 - asked by the caller
    return replace(part, samples=CaptionedImages(part.samples, part.labels, captions))
