"""Decoding in ONNX Runtime, whose attention writes new keys and values into the cache's own memory.

Legend: B sequences, T tokens of each, K key/value heads, S tokens the cache holds room for, H features of a head, V vocabulary,
L new tokens whose logits are wanted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.infer.decoding.cached_forward import Heads
from kleiber.infer.decoding.decoder import Tokens
from kleiber.infer.decoding.step_graph import past_name, present_name
from kleiber.infer.sessions import session_of

__all__ = ["OnnxRuntimeStepper"]


class OnnxRuntimeStepper:
    """A graph of `buffer_graph` and its buffers.

    Args:
        model: Bytes of an `.onnx` file.
        heads: Sizes of the cache.
        precision: What it computes in.
        notes: What was lowered otherwise than asked.
        num_threads: Of each operation.
    """

    engine = "onnxruntime"

    def __init__(
        self, model: bytes, heads: Heads, *, precision: str, notes: tuple[str, ...], num_threads: int
    ) -> None:
        self.precision = precision
        self.notes = notes
        self._heads = heads
        self._session = session_of(model, num_threads)
        self._buffers: list[Any] = []
        self._bound: Any = None
        self._num_read = 0

    def start(self, batch: int) -> None:
        """Forget what was read; make room for `batch` sequences."""
        import onnxruntime  # noqa: PLC0415 - of an extra

        self._num_read = 0
        # The graph knows the room that it was exported with: that of the context.
        shape = (batch, self._heads.num_kv_heads, self._heads.context, self._heads.head_dim)
        if not self._buffers or tuple(self._buffers[0].shape()) != shape:
            zeros = [np.zeros(shape, np.float32) for _ in range(2 * self._heads.depth)]
            self._buffers = [onnxruntime.OrtValue.ortvalue_from_numpy(one) for one in zeros]
            # Bound once: a small model's token takes little longer than binding all of them does.
            self._bound = self._session.io_binding()
            for index, buffer in enumerate(self._buffers):
                self._bound.bind_ortvalue_input(past_name(index), buffer)
                self._bound.bind_ortvalue_output(present_name(index), buffer)

    def step(self, tokens_BT: Tokens, num_kept: int) -> npt.NDArray[np.float32]:
        """Read more tokens of each sequence; return the logits after each of the last `num_kept`, [B, L, V]."""
        B, T = tokens_BT.shape
        if (
            B > 1 and T > 1 and self._num_read
        ):  # the operation that attends takes no more of several sequences
            steps = [self._run(tokens_BT[:, at : at + 1], 1) for at in range(T)]
            return np.concatenate(steps[T - num_kept :], 1)
        return self._run(tokens_BT, num_kept)

    def rewind(self, length: int) -> None:
        """Forget all tokens after the first `length`: what the buffers hold of them is overwritten."""
        self._num_read = length

    def _run(self, tokens_BT: Tokens, num_kept: int) -> npt.NDArray[np.float32]:
        B, T = tokens_BT.shape
        self._num_read += T
        bound = self._bound
        bound.bind_cpu_input("tokens", np.ascontiguousarray(tokens_BT))
        bound.bind_cpu_input("kept", np.arange(T - num_kept, T))
        bound.bind_cpu_input("last", np.full(B, self._num_read - 1, np.int32))
        bound.bind_output("logits")  # anew: its memory is as large as the last answer was
        self._session.run_with_iobinding(bound)
        logits_BLV: npt.NDArray[np.float32] = bound.get_outputs()[-1].numpy()
        return logits_BLV
