"""To and from the folder that transformers' `Qwen3ForCausalLM` reads: config.json and model.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kleiber.errors import RunFolderError
from kleiber.models.config_file import read_config, read_weights, require_shapes, write_model
from kleiber.models.gpt.module import GPT
from kleiber.models.gpt.spec import GPTSpec

__all__ = ["config_of", "from_hf", "load", "save", "spec_of", "to_hf"]

_ARCHITECTURE = "Qwen3ForCausalLM"
_CONFIG_KEYS = {
    "depth": "num_hidden_layers",
    "width": "hidden_size",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "mlp_width": "intermediate_size",
    "vocab_size": "vocab_size",
    "context": "max_position_embeddings",
    "is_tied": "tie_word_embeddings",
    "norm_eps": "rms_norm_eps",
}
# What the layout can express and our module does not compute, with the only value that it does.
_FIXED = {"attention_bias": False, "use_sliding_window": False, "hidden_act": "silu"}
_BLOCK_NAMES = {
    "attn_norm": ("input_layernorm",),
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "q_norm": ("self_attn.q_norm",),
    "k_norm": ("self_attn.k_norm",),
    "attn_out": ("self_attn.o_proj",),
    "mlp_norm": ("post_attention_layernorm",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp_down": ("mlp.down_proj",),
}
_TOP_NAMES = {
    "embedding": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "head": "lm_head.weight",
}


def save(module: GPT, spec: GPTSpec, folder: Path) -> None:
    """Write the weights of `module` and their config into `folder`.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    write_model(folder, to_hf(module.state_dict(), spec), config_of(spec))


def load(folder: Path) -> tuple[GPT, GPTSpec]:
    """Return the module and spec in `folder`; weights of any precision become fp32.

    Raises:
        RunFolderError: A file is missing or truncated, or the architecture is not `Qwen3ForCausalLM`.
    """
    spec = spec_of(read_config(folder), str(folder / "config.json"))
    module = GPT(spec)
    module.load_state_dict(from_hf(read_weights(folder), spec, str(folder / "model.safetensors")))
    return module, spec


def config_of(spec: GPTSpec) -> dict[str, Any]:
    """Return the `config.json` that makes transformers build this model."""
    rope = {"rope_type": "default", "rope_theta": spec.rope_theta}
    return {
        "architectures": [_ARCHITECTURE],
        "model_type": "qwen3",
        **{theirs: getattr(spec, ours) for ours, theirs in _CONFIG_KEYS.items()},
        **_FIXED,
        "attention_dropout": 0.0,
        # Readers before transformers 5 know the first key, later ones the second.
        "rope_theta": spec.rope_theta,
        "rope_parameters": rope,
        "dtype": "float32",
    }


def spec_of(config: Mapping[str, Any], where: str) -> GPTSpec:
    """Return the spec of a `config.json`.

    Raises:
        RunFolderError: Another architecture, a missing size, or a feature that the family does not have.
    """
    architectures = config.get("architectures")
    if architectures != [_ARCHITECTURE]:
        raise RunFolderError(f"{where}: the architecture must be {_ARCHITECTURE}.", got=architectures)
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise RunFolderError(f"{where}: {key} must be {value}.", got=config[key])
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or rope
    if scaling.get("rope_type", "default") != "default":
        raise RunFolderError(f"{where}: rope_type must be default.", got=scaling["rope_type"])
    raw = {ours: config[theirs] for ours, theirs in _CONFIG_KEYS.items() if theirs in config}
    theta = config.get("rope_theta", rope.get("rope_theta"))
    return GPTSpec.of(raw | ({} if theta is None else {"rope_theta": theta}), where, RunFolderError)


def to_hf(state: Mapping[str, Tensor], spec: GPTSpec) -> dict[str, Tensor]:
    """Return the weights under transformers' names, fused matrices taken apart; a tied head is stored once."""
    tensors = {_TOP_NAMES[name]: state[name] for name in _TOP_NAMES if name in state}
    for index in range(spec.depth):
        for ours, theirs in _BLOCK_NAMES.items():
            weight = state[f"blocks.{index}.{ours}"]
            parts = torch.split(weight, _rows(spec, ours) or weight.shape[0])
            tensors |= {
                f"model.layers.{index}.{name}.weight": part for name, part in zip(theirs, parts, strict=True)
            }
    return tensors


def from_hf(tensors: Mapping[str, Tensor], spec: GPTSpec, where: str) -> dict[str, Tensor]:
    """Return the weights under our names [fp32], the inverse of `to_hf`.

    Raises:
        RunFolderError: A tensor is missing, unknown, or of another shape than the config says.
    """
    expected = to_hf(GPT(spec, device="meta").state_dict(), spec)
    found = {
        name: tensor for name, tensor in tensors.items() if name in expected or not _is_tied_copy(name, spec)
    }
    require_shapes(found, expected, where)
    state = {ours: found[theirs].float() for ours, theirs in _TOP_NAMES.items() if theirs in found}
    for index in range(spec.depth):
        for ours, theirs in _BLOCK_NAMES.items():
            parts = [found[f"model.layers.{index}.{name}.weight"].float() for name in theirs]
            state[f"blocks.{index}.{ours}"] = torch.cat(parts)
    return state


def _rows(spec: GPTSpec, name: str) -> list[int] | None:
    if name == "qkv":
        return [spec.attn_width, spec.kv_width, spec.kv_width]
    return [spec.mlp_width, spec.mlp_width] if name == "gate_up" else None


def _is_tied_copy(name: str, spec: GPTSpec) -> bool:
    return spec.is_tied and name == _TOP_NAMES["head"]
