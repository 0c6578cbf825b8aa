"""Exported language models as they are read back: each goes on from text through its own cache.

Legend: B sequences, T tokens of each, P tokens read before, L of them whose logits are wanted, K key/value heads, H features of a
head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kleiber.infer.decoding.cached_forward import Heads
from kleiber.infer.decoding.decoder import Tokens
from kleiber.infer.export.text_graph import INPUT_IDS, MASK, POSITIONS, past_names, present_names
from kleiber.infer.sessions import openvino_core, session_of

__all__ = ["ORDER", "OnnxText", "OpenVinoText", "TransformersText"]

ORDER = "beam_idx"
"""The input of an OpenVINO model that says how sequences are reordered before a step, [B]."""


class OnnxText:
    """A graph of `text_graph` in ONNX Runtime, its keys and values handed from step to step.

    Args:
        path: Of the `.onnx` file.
        heads: Sizes of the cache.
        num_threads: Of each operation.
    """

    engine, precision = "onnxruntime", ""
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, heads: Heads, num_threads: int) -> None:
        self._heads = heads
        self._session = session_of(path.read_bytes(), num_threads)
        self._past: list[npt.NDArray[np.float32]] = []

    def start(self, batch: int) -> None:
        """Forget what was read."""
        empty = np.zeros((batch, self._heads.num_kv_heads, 0, self._heads.head_dim), np.float32)
        self._past = [empty] * (2 * self._heads.depth)

    def step(self, tokens_BT: Tokens, num_kept: int) -> npt.NDArray[np.float32]:
        """Read more tokens of each sequence; return the logits after each of the last `num_kept`, [B, L, V]."""
        fed = _fed(tokens_BT, self._past[0].shape[2])
        past = dict(zip(past_names(self._heads.depth), self._past, strict=True))
        logits_BTV, *self._past = self._session.run(
            ["logits", *present_names(self._heads.depth)], {**fed, **past}
        )
        kept: npt.NDArray[np.float32] = logits_BTV[:, -num_kept:]
        return kept

    def rewind(self, length: int) -> None:
        """Forget all tokens after the first `length`."""
        self._past = [one[:, :, :length] for one in self._past]


class OpenVinoText:
    """A stateful model of `text_graph` in OpenVINO.

    Args:
        path: Of the `.xml` file.
        num_threads: Of each operation.
    """

    engine, precision = "openvino", ""
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, num_threads: int) -> None:
        settings = {
            "INFERENCE_NUM_THREADS": num_threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "KV_CACHE_PRECISION": "f32",
        }
        core = openvino_core()
        self._request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
        self._length = 0

    def start(self, batch: int) -> None:  # noqa: ARG002 - its states grow as they need
        """Forget what was read."""
        self._request.reset_state()
        self._length = 0

    def step(self, tokens_BT: Tokens, num_kept: int) -> npt.NDArray[np.float32]:
        """Read more tokens of each sequence; return the logits after each of the last `num_kept`, [B, L, V]."""
        order_B = np.arange(len(tokens_BT), dtype=np.int32)
        results = self._request.infer({**_fed(tokens_BT, self._length), ORDER: order_B})
        self._length += tokens_BT.shape[1]
        logits_BLV: npt.NDArray[np.float32] = results["logits"][:, -num_kept:].copy()
        return logits_BLV

    def rewind(self, length: int) -> None:
        """Forget all tokens after the first `length`."""
        import openvino  # noqa: PLC0415 - of an extra

        for state in self._request.query_state():
            state.state = openvino.Tensor(np.ascontiguousarray(state.state.data[:, :, :length]))
        self._length = length


class TransformersText:
    """A language model of transformers with its own cache.

    Args:
        model: Of an `AutoModelForCausalLM`.
    """

    engine, precision = "transformers", ""
    notes: tuple[str, ...] = ()

    def __init__(self, model: Any) -> None:
        self._model = model.eval()
        self._past: Any = None

    def start(self, batch: int) -> None:  # noqa: ARG002 - its cache grows as it needs
        """Forget what was read."""
        self._past = None

    @torch.no_grad()
    def step(self, tokens_BT: Tokens, num_kept: int) -> npt.NDArray[np.float32]:
        """Read more tokens of each sequence; return the logits after each of the last `num_kept`, [B, L, V]."""
        said = self._model(
            input_ids=torch.from_numpy(tokens_BT),
            past_key_values=self._past,
            use_cache=True,
            logits_to_keep=num_kept,
        )
        self._past = said.past_key_values
        logits_BLV: npt.NDArray[np.float32] = said.logits.float().numpy()
        return logits_BLV

    def rewind(self, length: int) -> None:
        """Forget all tokens after the first `length`."""
        self._past.crop(length)


def _fed(tokens_BT: Tokens, num_before: int) -> Mapping[str, Tokens]:
    """Return tokens, mask and positions of sequences without padding."""
    B, T = tokens_BT.shape
    return {
        INPUT_IDS: np.ascontiguousarray(tokens_BT),
        MASK: np.ones((B, num_before + T), np.int64),
        POSITIONS: np.tile(np.arange(num_before, num_before + T), (B, 1)),
    }
