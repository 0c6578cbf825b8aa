"""Rows of a cache in ONNX Runtime, whose attention knows how long each row is and writes into its memory.

Legend: B rows that are read, T new tokens of each, K key/value heads, S tokens a row holds, H features of a head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.infer.decoding.cached_forward import Heads
from kleiber.infer.decoding.decoder import Tokens
from kleiber.infer.decoding.open import StepModel
from kleiber.infer.decoding.step_graph import past_name, present_name
from kleiber.infer.sessions import session_of

__all__ = ["OnnxRuntimeRows"]

_NO_INT8_CACHE = "onnxruntime keeps keys and values as computed: on a CPU it has no cache in 8 bits."


class OnnxRuntimeRows:
    """A step graph and its rows: those that are read are a part of the same memory, and nothing is copied.

    Args:
        step: Of the engine onnxruntime.
        heads: Sizes of the cache; its context may be shorter than the model's.
        num_rows: Texts that it has room for.
        num_threads: Of each operation.
    """

    engine = "onnxruntime"

    def __init__(self, step: StepModel, heads: Heads, num_rows: int, num_threads: int) -> None:
        self.context, self.precision = heads.context, step.precision
        self.notes = (*step.notes, *((_NO_INT8_CACHE,) if step.cache_bits else ()))
        self._session = session_of(step.model, num_threads)
        shape = (num_rows, heads.num_kv_heads, heads.context, heads.head_dim)
        self._held = [np.zeros(shape, np.float32) for _ in range(2 * heads.depth)]
        self._bound: dict[tuple[int, int], Any] = {}

    def read(self, first: int, tokens_BT: Tokens, num_read_B: Sequence[int]) -> npt.NDArray[np.float32]:
        """Read new tokens of neighbouring rows; return the logits after the last token of each, [B, V]."""
        B, T = tokens_BT.shape
        bound = self._binding(first, B)
        bound.bind_cpu_input("tokens", np.ascontiguousarray(tokens_BT))
        bound.bind_cpu_input("kept", np.array([T - 1]))
        bound.bind_cpu_input("last", np.array(num_read_B, np.int32) + np.int32(T - 1))
        bound.bind_output("logits")  # anew: its memory is as large as the last answer was
        self._session.run_with_iobinding(bound)
        logits_B1V: npt.NDArray[np.float32] = bound.get_outputs()[-1].numpy()
        return logits_B1V[:, 0]

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Let a row hold the first `num_tokens` tokens of another."""
        for held_RKSH in self._held:
            held_RKSH[target, :, :num_tokens] = held_RKSH[source, :, :num_tokens]

    def swap(self, row: int, other: int, num_tokens: int) -> None:
        """Let two rows hold each the first `num_tokens` tokens of the other."""
        for held_RKSH in self._held:
            before_KTH = held_RKSH[row, :, :num_tokens].copy()
            held_RKSH[row, :, :num_tokens] = held_RKSH[other, :, :num_tokens]
            held_RKSH[other, :, :num_tokens] = before_KTH

    def clear(self) -> None:
        """Let no row hold anything, nor anything be left of what was not finite."""
        for held_RKSH in self._held:
            held_RKSH.fill(0)

    def _binding(self, first: int, num: int) -> Any:
        """Return what the session reads these rows through; made once, for a small model's token takes little longer."""
        bound = self._bound.get((first, num))
        if bound is None:
            bound = self._bound[first, num] = self._session.io_binding()
            for index, held_RKSH in enumerate(self._held):
                part = held_RKSH[first : first + num]
                where = ("cpu", 0, np.float32, list(part.shape), part.ctypes.data)
                bound.bind_input(past_name(index), *where)
                bound.bind_output(present_name(index), *where)
        return bound
