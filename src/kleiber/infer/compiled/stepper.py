"""Decoding with a compiled step: single tokens by native code, all else by matrix products over the same cache.

Legend: B sequences, T tokens of each, L of them whose logits are wanted, P tokens read before, K key/value heads, H features of
a head, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from kleiber.infer.compiled.one_token import OneToken
from kleiber.infer.compiled.products import Hollow, multiplied
from kleiber.infer.compiled.program import Program, compiled_program, program_key
from kleiber.infer.decoding.cached_forward import cached_forward, cached_heads
from kleiber.infer.decoding.decoder import Tokens
from kleiber.infer.threads import threads
from kleiber.models.family import FamilyModule
from kleiber.models.gpt.cache import KVCache
from kleiber.models.stored import Forms

__all__ = ["CompiledStepper"]

_NO_INT8_CACHE = "compiled keeps keys and values as computed: it has no cache in 8 bits."
_EXAMPLE_PAST = 5


class CompiledStepper:
    """A language model and its cache.

    Args:
        module: fp32, of the family gpt or hf, in evaluation mode; left as it was.
        forms: How weights are stored; those in codes are multiplied as such, and their fp32 numbers are not kept.
        cache_bits: Of keys and values.
        num_threads: Of torch and of the compiled step.

    Raises:
        UsageError: The module does not go on from text.
        RecipeError: There is no C++ compiler, or torch does not compile the module.
    """

    engine = "compiled"

    def __init__(
        self, module: FamilyModule, forms: Forms, *, cache_bits: int | None, num_threads: int
    ) -> None:
        self.notes: tuple[str, ...] = () if cache_bits is None else (_NO_INT8_CACHE,)
        self._heads = cached_heads(module)
        self._num_threads = num_threads
        self._hollow = Hollow(module.eval(), forms, multiplied(module, lambda: self._example_of(module)))
        self.precision = self._hollow.precision
        self._cache = KVCache(self._heads, 1)
        # A context of a few tokens leaves a program nothing to be quick at.
        self._program = self._compiled(module) if self._heads.context > _EXAMPLE_PAST + 1 else None

    def start(self, batch: int) -> None:
        """Forget what was read; make room for `batch` sequences."""
        if batch != self._cache.keys.shape[1]:
            self._cache = KVCache(self._heads, batch)
        self._cache.length = 0

    def step(self, tokens_BT: Tokens, num_kept: int) -> npt.NDArray[np.float32]:
        """Read more tokens of each sequence; return the logits after each of the last `num_kept`, [B, L, V]."""
        with torch.inference_mode(), threads(self._num_threads):
            tokens = torch.from_numpy(np.ascontiguousarray(tokens_BT))
            if self._program is not None and tokens.numel() == 1 and self._cache.length:
                logits_BLV = self._one(tokens, self._program)
            else:
                T = tokens_BT.shape[1]
                with self._hollow.using(rows="many") as module:
                    logits_BLV = cached_forward(module, tokens, self._cache, torch.arange(T - num_kept, T))
            found: npt.NDArray[np.float32] = logits_BLV.numpy()
            return found

    def rewind(self, length: int) -> None:
        """Forget all tokens after the first `length`."""
        self._cache.length = length

    def _one(self, token_11: torch.Tensor, program: Program) -> torch.Tensor:
        """Return the logits after a token, [1, 1, V]."""
        cache, length = self._cache, self._cache.length
        cache.require_room(1)
        logits_11V, keys, values = program(
            token_11, cache.keys[:, :, :, :length], cache.values[:, :, :, :length]
        )
        cache.keys[:, :, :, length : length + 1] = keys
        cache.values[:, :, :, length : length + 1] = values
        cache.advance(1)
        found: torch.Tensor = logits_11V
        return found

    def _example_of(self, module: FamilyModule) -> torch.Tensor:
        return cached_forward(
            module, torch.zeros(1, 2, dtype=torch.long), KVCache(self._heads, 1, max_tokens=2)
        )

    def _compiled(self, module: FamilyModule) -> Program:
        keys, values = (one[:, :, :, :_EXAMPLE_PAST] for one in (self._cache.keys, self._cache.values))
        past = torch.export.Dim("past", min=1, max=self._heads.context - 1)
        return compiled_program(
            OneToken(self._hollow),
            (torch.zeros(1, 1, dtype=torch.long), keys, values),
            ({}, {3: past}, {3: past}),
            program_key("one token", module, self._hollow),
            num_threads=self._num_threads,
        )
