"""Decoding with a compiled step: single tokens and drafts by native code, all else by matrix products over the same cache.

Legend: B sequences, T tokens of each, L of them whose logits are wanted, P tokens read before, K key/value heads, H features of
a head, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it

from kleiber.infer.compiled.few_tokens import FewTokens
from kleiber.infer.compiled.products import Hollow, multiplied
from kleiber.infer.compiled.program import Program, compiled_program, program_key
from kleiber.infer.decoding.cached_forward import cached_forward, cached_heads
from kleiber.infer.decoding.decoder import Tokens
from kleiber.infer.threads import threads
from kleiber.models.family import FamilyModule
from kleiber.models.gpt.cache import KVCache
from kleiber.models.stored import Forms

__all__ = ["NUM_DRAFTED", "CompiledStepper"]

_NO_INT8_CACHE = "compiled keeps keys and values as computed: it has no cache in 8 bits."
_EXAMPLE_PAST = 5
NUM_DRAFTED = 9
"""Tokens that a program reads at once: the last that was written, and eight that were drafted after it."""


class CompiledStepper:
    """A language model and its cache.

    Args:
        module: fp32, of the family gpt or hf, in evaluation mode; left as it was.
        forms: How weights are stored; those in codes are multiplied as such, and their fp32 numbers are not kept.
        cache_bits: Of keys and values.
        num_threads: Of torch and of the compiled step.
        reads_drafts: Whether a few tokens at once have a program too; else they are matrix products.

    Raises:
        UsageError: The module does not go on from text.
        RecipeError: There is no C++ compiler, or torch does not compile the module.
    """

    engine = "compiled"

    def __init__(
        self,
        module: FamilyModule,
        forms: Forms,
        *,
        cache_bits: int | None,
        num_threads: int,
        reads_drafts: bool = False,
    ) -> None:
        self.notes: tuple[str, ...] = () if cache_bits is None else (_NO_INT8_CACHE,)
        self._heads = cached_heads(module)
        self._num_threads = num_threads
        self._hollow = Hollow(module.eval(), forms, multiplied(module, lambda: self._example_of(module)))
        self.precision = self._hollow.precision
        self._cache = KVCache(self._heads, 1)
        sizes: tuple[int, ...] = (1, NUM_DRAFTED) if reads_drafts else (1,)
        if self._heads.context <= _EXAMPLE_PAST + 1:
            sizes = ()  # a context of a few tokens leaves no program anything to be quick at
        self._programs = {num_tokens: self._compiled(module, num_tokens) for num_tokens in sizes}

    def start(self, batch: int) -> None:
        """Forget what was read; make room for `batch` sequences."""
        if batch != self._cache.keys.shape[1]:
            self._cache = KVCache(self._heads, batch)
        self._cache.length = 0

    def step(self, tokens_BT: Tokens, num_kept: int) -> npt.NDArray[np.float32]:
        """Read more tokens of each sequence; return the logits after each of the last `num_kept`, [B, L, V]."""
        with torch.inference_mode(), threads(self._num_threads):
            tokens = torch.from_numpy(np.ascontiguousarray(tokens_BT))
            (B, T), length = tokens_BT.shape, self._cache.length
            size = next((size for size in self._programs if size >= T), None)
            if B == 1 and length and size is not None and length + size <= self._cache.max_tokens:
                logits_BLV = self._few(tokens, size)[:, -num_kept:]
            else:
                with self._hollow.using(rows="many") as module:
                    logits_BLV = cached_forward(module, tokens, self._cache, torch.arange(T - num_kept, T))
            found: npt.NDArray[np.float32] = logits_BLV.numpy()
            return found

    def rewind(self, length: int) -> None:
        """Forget all tokens after the first `length`."""
        self._cache.length = length

    def _few(self, tokens_1T: torch.Tensor, size: int) -> torch.Tensor:
        """Return logits [1, T, V] by the program of so many tokens; what it reads beyond the last is forgotten."""
        cache, length, T = self._cache, self._cache.length, tokens_1T.shape[1]
        logits, keys, values = self._programs[size](
            F.pad(tokens_1T, (0, size - T)), cache.keys[:, :, :, :length], cache.values[:, :, :, :length]
        )
        cache.keys[:, :, :, length : length + T] = keys[:, :, :, :T]
        cache.values[:, :, :, length : length + T] = values[:, :, :, :T]
        cache.advance(T)
        found: torch.Tensor = logits[:, :T]
        return found

    def _example_of(self, module: FamilyModule) -> torch.Tensor:
        return cached_forward(
            module, torch.zeros(1, 2, dtype=torch.long), KVCache(self._heads, 1, max_tokens=2)
        )

    def _compiled(self, module: FamilyModule, num_tokens: int) -> Program:
        keys, values = (one[:, :, :, :_EXAMPLE_PAST] for one in (self._cache.keys, self._cache.values))
        past = torch.export.Dim("past", min=1, max=self._heads.context - 1)
        return compiled_program(
            FewTokens(self._hollow),
            (torch.zeros(1, num_tokens, dtype=torch.long), keys, values),
            ({}, {3: past}, {3: past}),
            program_key(f"{num_tokens} tokens", module, self._hollow),
            num_threads=self._num_threads,
        )
