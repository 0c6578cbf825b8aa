"""Rows of a cache in eager PyTorch, fp32: the reference.

Legend: B rows that are read, T new tokens of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from kleiber.infer.batching.row_cache import RowCache
from kleiber.infer.decoding.cached_forward import Heads, cached_forward
from kleiber.infer.decoding.decoder import Tokens
from kleiber.infer.threads import threads
from kleiber.models.family import FamilyModule

__all__ = ["TorchRows"]


class TorchRows:
    """A module of ours or of transformers over a cache of rows.

    Args:
        module: fp32, of the family gpt or hf.
        heads: Sizes of the cache.
        num_rows: Texts that it has room for.
        num_threads: Of torch, during a step.
        notes: What is done otherwise than asked, a sentence each.
    """

    engine = "torch"
    precision = "fp32"

    def __init__(
        self,
        module: FamilyModule,
        heads: Heads,
        num_rows: int,
        num_threads: int,
        *,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.context, self.notes = heads.context, notes
        self._module, self._num_threads = module, num_threads
        self._cache = RowCache(heads, num_rows)

    @torch.inference_mode()
    def read(self, first: int, tokens_BT: Tokens, num_read_B: Sequence[int]) -> npt.NDArray[np.float32]:
        """Read new tokens of neighbouring rows; return the logits after the last token of each, [B, V]."""
        self._cache.choose(first, num_read_B)
        tokens = torch.from_numpy(np.ascontiguousarray(tokens_BT))
        last = torch.tensor([tokens_BT.shape[1] - 1])
        with threads(self._num_threads):
            logits_BV: npt.NDArray[np.float32] = cached_forward(self._module, tokens, self._cache, last)[
                :, 0
            ].numpy()
        return logits_BV

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Let a row hold the first `num_tokens` tokens of another."""
        self._cache.copy(source, target, num_tokens)

    def swap(self, row: int, other: int, num_tokens: int) -> None:
        """Let two rows hold each the first `num_tokens` tokens of the other."""
        self._cache.swap(row, other, num_tokens)

    def clear(self) -> None:
        """Let no row hold anything, nor anything be left of what was not finite."""
        self._cache.clear()
