"""To and from the folder that transformers' `Qwen3ForCausalLM` reads, or `Qwen3MoeForCausalLM` where there are experts.

A gpt with features beyond that layout goes into a folder of our own, which transformers does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kleiber.errors import RunFolderError
from kleiber.models.config_file import read_config, read_weights, require_shapes, write_model
from kleiber.models.gpt.module import GPT
from kleiber.models.gpt.spec import GPTSpec, require_qwen3
from kleiber.models.own_layout import load_own, save_own

__all__ = ["config_of", "from_hf", "load", "save", "spec_of", "to_hf"]

_DENSE, _MIXTURE = "Qwen3ForCausalLM", "Qwen3MoeForCausalLM"
_OWN = "KleiberGPT"
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
_MIXTURE_KEYS = {
    "num_experts": "num_experts",
    "experts_per_token": "num_experts_per_tok",
    "expert_width": "moe_intermediate_size",
    "router_aux_coef": "router_aux_loss_coef",
}
# What the layout can express and our module does not compute, with the only value that it does.
_FIXED = {"attention_bias": False, "use_sliding_window": False, "hidden_act": "silu"}
# Of a mixture too: every block has experts, and the weights of those that are chosen add up to 1.
_FIXED_MIXTURE = {"decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True}
_MIXTURE_DEFAULTS = {"norm_topk_prob": False}
"""What transformers takes where the config is silent, and we do not."""
_BLOCK_NAMES = {
    "attn_norm": ("input_layernorm",),
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "q_norm": ("self_attn.q_norm",),
    "k_norm": ("self_attn.k_norm",),
    "attn_out": ("self_attn.o_proj",),
    "mlp_norm": ("post_attention_layernorm",),
}
_MLP_NAMES = {"gate_up": ("mlp.gate_proj", "mlp.up_proj"), "mlp_down": ("mlp.down_proj",)}
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
    if spec.beyond_qwen3:
        save_own(module, spec, folder, _OWN)
    else:
        write_model(folder, to_hf(module.state_dict(), spec), config_of(spec))


def load(folder: Path) -> tuple[GPT, GPTSpec]:
    """Return the module and spec in `folder`; weights of any precision become fp32.

    Raises:
        RunFolderError: A file is missing or truncated, or the architecture is none of the three.
    """
    config = read_config(folder)
    if config.get("architectures") == [_OWN]:
        return load_own(folder, _OWN, GPTSpec, GPT)
    spec = spec_of(config, str(folder / "config.json"))
    module = GPT(spec)
    module.load_state_dict(from_hf(read_weights(folder), spec, str(folder / "model.safetensors")))
    return module, spec


def config_of(spec: GPTSpec) -> dict[str, Any]:
    """Return the `config.json` that makes transformers build this model.

    Raises:
        RecipeError: The model has features that no architecture of transformers has.
    """
    require_qwen3(spec)
    rope = {"rope_type": "default", "rope_theta": spec.rope_theta}
    keys = _CONFIG_KEYS | (_MIXTURE_KEYS if spec.is_mixture else {})
    return {
        "architectures": [_MIXTURE if spec.is_mixture else _DENSE],
        "model_type": "qwen3_moe" if spec.is_mixture else "qwen3",
        **{theirs: getattr(spec, ours) for ours, theirs in keys.items()},
        **_FIXED,
        **(_FIXED_MIXTURE if spec.is_mixture else {}),
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
    if architectures not in ([_DENSE], [_MIXTURE]):
        raise RunFolderError(f"{where}: the architecture must be {_DENSE} or {_MIXTURE}.", got=architectures)
    is_mixture = architectures == [_MIXTURE]
    keys, fixed = _CONFIG_KEYS, _FIXED
    if is_mixture:
        keys, fixed = keys | _MIXTURE_KEYS, fixed | _FIXED_MIXTURE
        config = _MIXTURE_DEFAULTS | _with_num_experts(config)
    for key, value in fixed.items():
        if config.get(key, value) != value:
            raise RunFolderError(f"{where}: {key} must be {value}.", got=config[key])
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or rope
    if scaling.get("rope_type", "default") != "default":
        raise RunFolderError(f"{where}: rope_type must be default.", got=scaling["rope_type"])
    for theirs in _MIXTURE_KEYS.values() if is_mixture else ():
        if theirs not in config:
            raise RunFolderError(f"{where}: a mixture of experts must say its {theirs}.", got="nothing")
    raw = {ours: config[theirs] for ours, theirs in keys.items() if theirs in config}
    theta = config.get("rope_theta", rope.get("rope_theta"))
    return GPTSpec.of(raw | ({} if theta is None else {"rope_theta": theta}), where, RunFolderError)


def to_hf(state: Mapping[str, Tensor], spec: GPTSpec) -> dict[str, Tensor]:
    """Return the weights under transformers' names, fused matrices taken apart; a tied head is stored once."""
    tensors = {_TOP_NAMES[name]: state[name] for name in _TOP_NAMES if name in state}
    for index in range(spec.depth):
        for ours, theirs in _block_names(spec).items():
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
        for ours, theirs in _block_names(spec).items():
            parts = [found[f"model.layers.{index}.{name}.weight"].float() for name in theirs]
            state[f"blocks.{index}.{ours}"] = torch.cat(parts)
    return state


def _with_num_experts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with its experts counted by the name that published models use; transformers 5 writes another."""
    known = dict(config)
    if "num_local_experts" in known:
        known.setdefault("num_experts", known["num_local_experts"])
    return known


def _block_names(spec: GPTSpec) -> dict[str, tuple[str, ...]]:
    """Return what each parameter of a block is called by transformers, in the order of its rows."""
    if not spec.is_mixture:
        return _BLOCK_NAMES | _MLP_NAMES
    experts = [f"mlp.experts.{number}" for number in range(spec.num_experts)]
    return _BLOCK_NAMES | {
        "experts.router": ("mlp.gate",),
        "experts.gate_up": tuple(
            f"{expert}.{name}" for expert in experts for name in ("gate_proj", "up_proj")
        ),
        "experts.down": tuple(f"{expert}.down_proj" for expert in experts),
    }


def _rows(spec: GPTSpec, name: str) -> list[int] | None:
    """Return the rows of each matrix that is fused into a parameter; None of one that is whole."""
    if name == "qkv":
        return [spec.attn_width, spec.kv_width, spec.kv_width]
    return {
        "gate_up": [spec.mlp_width] * 2,
        "experts.gate_up": [spec.expert_width] * (2 * spec.num_experts),
        "experts.down": [spec.width] * spec.num_experts,
    }.get(name)


def _is_tied_copy(name: str, spec: GPTSpec) -> bool:
    return spec.is_tied and name == _TOP_NAMES["head"]
