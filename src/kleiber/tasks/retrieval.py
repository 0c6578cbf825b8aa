"""Finding texts by images and images by texts among a whole split.

Legend: N images, each with a caption; C distinct captions, T tokens, E embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

__all__ = ["Retrieval"]

Floats = npt.NDArray[np.floating[Any]]
Numbers = npt.NDArray[np.intp]

_CHUNK = 1024
"""Queries at a time: all at once would need a square of the split."""


@dataclass(frozen=True)
class Retrieval:
    """Embeddings of images and of distinct captions."""

    images: Floats
    """[N, E]"""
    texts: Floats
    """[C, E]"""
    captions: npt.NDArray[np.int64]
    """Token ids of each distinct caption, [C, T]."""
    caption_of: Numbers
    """Which caption belongs to each image, [N]."""
    scale: float
    """Of the products of embeddings, as the loss has it."""

    @classmethod
    def of(
        cls, images_NE: Floats, texts_NE: Floats, tokens_NT: npt.NDArray[np.int64], *, scale: float
    ) -> Self:
        """Return what pairs of image and text make; captions of the same tokens are one."""
        captions_CT, first_C, caption_N = np.unique(tokens_NT, axis=0, return_index=True, return_inverse=True)
        return cls(images_NE, texts_NE[first_C], captions_CT, caption_N.reshape(-1), scale)

    def text_ranks(self) -> Numbers:
        """Return the rank of each image's own caption among all captions, [N]; 0 is the first, ties count half."""
        ranks = []
        for start, scores_BC in self._scores(self.images, self.texts):
            own_B = self.caption_of[start : start + len(scores_BC)]
            ranks.append(_ranks(scores_BC, scores_BC[np.arange(len(own_B)), own_B]))
        return np.concatenate(ranks)

    def image_ranks(self) -> Numbers:
        """Return the rank of the best of each caption's own images among all images, [C]."""
        ranks = []
        for start, scores_BN in self._scores(self.texts, self.images):
            captions_B = np.arange(start, start + len(scores_BN))
            own_BN = self.caption_of == captions_B[:, None]
            ranks.append(_ranks(scores_BN, np.where(own_BN, scores_BN, -np.inf).max(1)))
        return np.concatenate(ranks)

    def best_texts(self) -> tuple[Numbers, npt.NDArray[np.float64]]:
        """Return the caption that fits each image best, and its probability among all captions, [N] each."""
        found, confidence = [], []
        for _, scores_BC in self._scores(self.images, self.texts):
            best_B = scores_BC.argmax(1)
            exponents_BC = self.scale * (scores_BC - scores_BC.max(1, keepdims=True))
            found.append(best_B)
            confidence.append(1 / np.exp(exponents_BC.astype(np.float64)).sum(1))
        return np.concatenate(found), np.concatenate(confidence)

    @staticmethod
    def _scores(queries: Floats, answers: Floats) -> Iterator[tuple[int, Floats]]:
        for start in range(0, len(queries), _CHUNK):
            yield start, queries[start : start + _CHUNK] @ answers.T


def _ranks(scores_BA: Floats, own_B: Floats) -> Numbers:
    """Return how many answers score above the own one, and half of the others that score the same."""
    above_B = (scores_BA > own_B[:, None]).sum(1)
    others_B = (scores_BA == own_B[:, None]).sum(1) - 1
    ranks_B: Numbers = above_B + others_B // 2
    return ranks_B
