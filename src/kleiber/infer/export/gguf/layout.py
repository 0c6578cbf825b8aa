"""What GGUF calls the weights and sizes of a decoder, in the kinds `qwen3` and `llama`.

Legend: R rows, N heads, H features of a head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.errors import RecipeError
from kleiber.infer.export.gguf.filling import whole_blocks

__all__ = ["KINDS", "Layout", "layout_of", "name_of"]

KINDS = {"Qwen3ForCausalLM": "qwen3", "LlamaForCausalLM": "llama"}
"""The kind of GGUF that holds an architecture of transformers."""

_MLP_WIDTH = "feed_forward_length"
_SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    _MLP_WIDTH: "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "vocab_size": "vocab_size",
}
_TOP_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_BLOCK_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_BLOCK = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")
_FIXED = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "use_sliding_window": False,
    "rope_scaling": None,
}
"""What a config can say and the two kinds do not compute, with the only value that they do."""


@dataclass(frozen=True)
class Layout:
    """A decoder as GGUF describes it."""

    kind: str
    """`general.architecture`."""
    sizes: Mapping[str, int | float]
    """By key without the kind in front."""
    num_heads: int
    num_kv_heads: int

    @property
    def mlp_width(self) -> int:
        """Features between gate and down projection."""
        return int(self.sizes[_MLP_WIDTH])

    def in_blocks(self) -> Layout:
        """Return the layout with an MLP that blocks divide."""
        return replace(self, sizes={**self.sizes, _MLP_WIDTH: whole_blocks(self.mlp_width)})

    def shape(self, name: str, shape: Sequence[int]) -> tuple[int, int]:
        """Return rows and columns that a matrix has in the file: those of the MLP may be more than in the model.

        Args:
            name: As transformers has it.
            shape: Of the model's.
        """
        rows, columns = shape
        part = match[2] if (match := _BLOCK.fullmatch(name)) else ""
        if part in ("mlp.gate_proj", "mlp.up_proj"):
            return self.mlp_width, columns
        return rows, self.mlp_width if part == "mlp.down_proj" else columns

    def order(self, name: str, num_rows: int) -> npt.NDArray[np.intp] | None:
        """Return the order in which a weight's rows are written; None of one that stays as it is.

        llama.cpp turns features 2i and 2i + 1 of a `llama` together, transformers i and i + H/2: queries and keys change places.

        Args:
            name: As transformers has it.
            num_rows: Of the weight.

        Example:
            >>> Layout("llama", {}, num_heads=1, num_kv_heads=1).order("model.layers.0.self_attn.q_proj.weight", 4).tolist()
            [0, 2, 1, 3]
        """
        heads = {"self_attn.q_proj": self.num_heads, "self_attn.k_proj": self.num_kv_heads}
        match = _BLOCK.fullmatch(name)
        if self.kind != "llama" or match is None or match[2] not in heads:
            return None
        in_halves_NH = np.arange(num_rows).reshape(heads[match[2]], 2, -1)
        return in_halves_NH.swapaxes(1, 2).reshape(-1)


def layout_of(config: Mapping[str, Any], what: str) -> Layout:
    """Return how GGUF describes the decoder of a `config.json`.

    Args:
        config: Of transformers.
        what: The model, for messages.

    Raises:
        RecipeError: It is of another architecture, or computes what the kind does not.
    """
    architecture = str((config.get("architectures") or [""])[0])
    if architecture not in KINDS:
        raise RecipeError(
            f"{what} cannot be written as GGUF, which Kleiber writes of {' and '.join(KINDS)}.",
            got=architecture,
            hint="--format onnx   holds any model",
        )
    rope = config.get("rope_parameters") or {}
    asked = dict(config) | {"rope_type": rope.get("rope_type", "default")}
    for key, value in (_FIXED | {"rope_type": "default"}).items():
        if asked.get(key, value) not in (value, None):
            raise RecipeError(
                f"{what} cannot be written as GGUF of the kind {KINDS[architecture]}: {key} must be {value}.",
                got=asked[key],
                hint="--format onnx   holds any model",
            )
    num_heads = int(config["num_attention_heads"])
    known = {"num_key_value_heads": num_heads} | dict(config)
    head_dim = int(config.get("head_dim") or config["hidden_size"] // num_heads)
    return Layout(
        kind=KINDS[architecture],
        sizes={
            **{theirs: int(known[ours]) for theirs, ours in _SIZES.items()},
            "attention.key_length": head_dim,
            "attention.value_length": head_dim,
            "rope.dimension_count": head_dim,
            "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
            "rope.freq_base": float(config.get("rope_theta") or rope.get("rope_theta") or 10_000.0),
        },
        num_heads=num_heads,
        num_kv_heads=int(known["num_key_value_heads"]),
    )


def name_of(name: str) -> str | None:
    """Return what GGUF calls a weight of transformers; None of one that it has no place for.

    Example:
        >>> name_of("model.layers.3.mlp.up_proj.weight")
        'blk.3.ffn_up.weight'
    """
    match = _BLOCK.fullmatch(name)
    if match is None:
        return _TOP_NAMES.get(name)
    part = _BLOCK_NAMES.get(match[2])
    return None if part is None else f"blk.{match[1]}.{part}.weight"
