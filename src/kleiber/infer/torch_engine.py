"""The reference engine: our own module, in eager PyTorch, with a preallocated cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from kleiber.data.tokenizer import load_tokenizer
from kleiber.errors import UsageError
from kleiber.models import load
from kleiber.models.gpt.cache import KVCache
from kleiber.models.gpt.module import GPT
from kleiber.runs import RunFolder

__all__ = ["TorchEngine"]

_PRECISIONS = ("fp32",)


class TorchEngine:
    """A model of ours, one sequence at a time."""

    def __init__(self, module: GPT, tokenizer: Tokenizer) -> None:
        self.module = module.eval().requires_grad_(requires_grad=False)
        self.tokenizer = tokenizer
        # Only the end of a document is the special token, in training as here: typed text never is.
        self.tokenizer.encode_special_tokens = True
        self._cache = KVCache(module.spec, batch=1)

    @classmethod
    def load(cls, folder: Path, precision: str = "fp32") -> Self:
        """Return the engine of a run folder, or of a folder in the Hugging Face layout.

        Args:
            folder: Holds `model/`, or the model itself.
            precision: Of weights and cache: `fp32`.

        Raises:
            RunFolderError: There is no model, or it does not load.
            DataError: There is no tokenizer beside it.
            UsageError: An unknown precision.
        """
        if precision not in _PRECISIONS:
            raise UsageError(f"precision must be one of {', '.join(_PRECISIONS)}.", got=precision)
        model_path = RunFolder(folder).find_model()
        module, spec = load(model_path)
        if not isinstance(module, GPT):
            raise UsageError(
                f"{folder} holds a model of the family {spec.family}, which does not generate text.",
                hint="a run of the family gpt, such as runs/demo/target",
            )
        return cls(module, load_tokenizer(model_path))

    @property
    def context(self) -> int:
        """Tokens it can hold."""
        return self._cache.max_tokens

    def prefill(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """Start a new sequence with `tokens`; return the logits of the next token, [vocabulary].

        Raises:
            UsageError: No tokens, or more than `context`.
        """
        if not tokens:
            raise UsageError("the prompt is empty: the model needs at least one token to go on from.")
        self._cache.length = 0
        return self._read(tokens)

    def decode(self, token: int) -> npt.NDArray[np.float32]:
        """Read one more token; return the logits of the next, [vocabulary].

        Raises:
            UsageError: `context` tokens have been read, or none.
        """
        if not self._cache.length:
            raise UsageError("nothing to go on from: prefill comes before decode.")
        return self._read([token])

    @torch.inference_mode()
    def _read(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        logits_BTV = self.module(torch.tensor([tokens]), self._cache)
        logits: npt.NDArray[np.float32] = logits_BTV[0, -1].numpy()
        return logits
