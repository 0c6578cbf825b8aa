"""Decoding in OpenVINO, which keeps keys and values as a state of the compiled model.

Legend: B sequences, T tokens of each, K key/value heads, H features of a head, V vocabulary,
L new tokens whose logits are wanted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.infer.decoding.cached_forward import Heads
from kleiber.infer.decoding.decoder import Tokens
from kleiber.infer.decoding.openvino_states import keep_states
from kleiber.infer.decoding.step_graph import past_name, present_name
from kleiber.infer.sessions import openvino_core

__all__ = ["OpenVinoStepper"]

_ORDER = "order"
_NO_INT8_CACHE = (
    "openvino keeps keys and values as computed: it does not see attention over a cache in this model."
)


class OpenVinoStepper:
    """A graph of `growing_graph`, compiled with its keys and values as states.

    Args:
        model: Bytes of an `.onnx` file.
        heads: Sizes of the cache.
        precision: What it computes in.
        notes: What was lowered otherwise than asked.
        num_threads: Of each operation.
        cache_bits: Of keys and values; None keeps them as computed.
    """

    engine = "openvino"

    def __init__(
        self,
        model: bytes,
        heads: Heads,
        *,
        precision: str,
        notes: tuple[str, ...],
        num_threads: int,
        cache_bits: int | None,
    ) -> None:
        graph = openvino_core().read_model(model)
        pairs = {past_name(index): present_name(index) for index in range(2 * heads.depth)}
        keep_states(graph, heads, pairs, tokens="tokens", order=_ORDER)
        compiled = _compiled(graph, num_threads, cache_bits)
        is_in_bits = cache_bits is not None and _attends_over_states(compiled)
        self.precision = f"{precision}, int{cache_bits} cache" if is_in_bits else precision
        self.notes = notes if is_in_bits or cache_bits is None else (*notes, _NO_INT8_CACHE)
        self._request = compiled.create_infer_request()

    def start(self, batch: int) -> None:  # noqa: ARG002 - its states grow as they need
        """Forget what was read."""
        self._request.reset_state()

    def step(self, tokens_BT: Tokens, num_kept: int) -> npt.NDArray[np.float32]:
        """Read more tokens of each sequence; return the logits after each of the last `num_kept`, [B, L, V]."""
        B, T = tokens_BT.shape
        order_B = np.arange(B, dtype=np.int32)
        results = self._request.infer(
            {"tokens": np.ascontiguousarray(tokens_BT), "kept": np.arange(T - num_kept, T), _ORDER: order_B}
        )
        logits_BLV: npt.NDArray[np.float32] = results["logits"]
        return logits_BLV

    def rewind(self, length: int) -> None:
        """Forget all tokens after the first `length`."""
        import openvino  # noqa: PLC0415 - of an extra

        for state in self._request.query_state():
            kept_BKPH = np.ascontiguousarray(state.state.data[:, :, :length])
            state.state = openvino.Tensor(kept_BKPH)


def _compiled(graph: Any, num_threads: int, cache_bits: int | None) -> Any:
    settings = {
        "INFERENCE_NUM_THREADS": num_threads,
        "NUM_STREAMS": 1,
        # Left to itself OpenVINO takes bf16 where the CPU can, and 8 bits for the cache.
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32" if cache_bits is None else "u8",
    }
    return openvino_core().compile_model(graph, "CPU", settings)


def _attends_over_states(compiled: Any) -> bool:
    """Return whether the CPU's own attention over a cache runs: only that stores keys and values in other bits."""

    def kind(node: Any) -> str:
        found: str = node.get_rt_info()["layerType"].astype(str)
        return found

    return any(
        kind(given.get_source_output().get_node()) == "MemoryInput"
        for node in compiled.get_runtime_model().get_ops()
        if kind(node) == "ScaledDotProductAttention"
        for given in node.inputs()
    )
