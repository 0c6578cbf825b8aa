"""Baselines that look up what training holds: the translation of the nearest source, the words that pixels call for.

Legend: N samples of training, B of a batch, S tokens of a source, T of a target, V vocabulary, P pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kleiber.data import Data
from kleiber.runs.data_shape import PAD_ID
from kleiber.study.baseline.estimators import epoch, token_grams

__all__ = ["NearestTarget", "PixelsToWords"]

_RIDGE = 100.0
"""Added to the diagonal of the pixels' products; pixels are standardized."""


class NearestTarget(nn.Module):
    """Gives a source the target of the training source that is most like it: cosine of TF-IDF of tokens and pairs of tokens.

    Args:
        data: Of pairs.
    """

    def __init__(self, data: Data) -> None:
        super().__init__()
        from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415 - an extra

        batches = list(epoch(data))
        self.vocab_size = data.meta.shape.vocab_size or 1
        self.targets_NT = np.concatenate([batch.arrays["target"] for batch in batches])
        self.vectorizer = TfidfVectorizer(analyzer=token_grams(data), dtype=np.float32)
        self.sources = self.vectorizer.fit_transform(
            row for batch in batches for row in batch.arrays["source"]
        )

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Return no opinion on any token, [B, T, V]: a look-up gives whole targets."""
        return torch.zeros(len(source_BS), target_BT.shape[1], self.vocab_size)

    def generate(self, source_BS: Tensor, *, beam_size: int) -> Tensor:
        """Return the nearest source's target, [B, T], padded at the end."""
        del beam_size
        likeness = self.vectorizer.transform(source_BS.numpy()) @ self.sources.T
        nearest_B = np.asarray(likeness.argmax(axis=1)).ravel()
        # As a module writes them: without the token that begins a target.
        return torch.from_numpy(self.targets_NT[nearest_B, 1:])


class PixelsToWords(nn.Module):
    """Embeds a caption as the tokens that it holds, and an image as those that its pixels call for by ridge regression.

    Args:
        data: Of images with captions.
    """

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.vocab_size = data.meta.shape.vocab_size or 1
        num_pixels = data.meta.shape.num_inputs - (data.meta.shape.context or 0)
        squares_PP = np.zeros((num_pixels + 1, num_pixels + 1))
        products_PV = np.zeros((num_pixels + 1, self.vocab_size))
        for batch in epoch(data):
            pixels_BP = _with_one(batch.arrays["images"])
            squares_PP += pixels_BP.T @ pixels_BP
            products_PV += pixels_BP.T @ self._words(batch.arrays["tokens"])
        squares_PP += _RIDGE * np.eye(num_pixels + 1)
        self.weights_PV = np.linalg.solve(squares_PP, products_PV).astype(np.float32)

    def forward(self, images_BCHW: Tensor, tokens_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings of images and of captions [B, V], of unit length, and the scale of their products."""
        seen_BV = torch.from_numpy(_with_one(images_BCHW.numpy()) @ self.weights_PV)
        said_BV = torch.from_numpy(self._words(tokens_BT.numpy()))
        return nn.functional.normalize(seen_BV), nn.functional.normalize(said_BV), torch.tensor(10.0)

    def _words(self, tokens_BT: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return which tokens each caption holds, [B, V]."""
        words_BV = np.zeros((len(tokens_BT), self.vocab_size), np.float32)
        words_BV[np.arange(len(tokens_BT))[:, None], tokens_BT] = 1
        words_BV[:, PAD_ID] = 0
        return words_BV


def _with_one(images_BCHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the pixels of each image and a 1 for the constant, [B, P + 1]."""
    rows = images_BCHW.reshape(len(images_BCHW), -1)
    return np.concatenate([rows, np.ones((len(rows), 1), rows.dtype)], axis=1)
