"""To and from the folder that transformers' `PegasusForConditionalGeneration` reads, or `MarianMTModel` of a post-norm model.

The two layouts name everything alike; Pegasus has a norm after the last block of either side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kleiber.errors import RunFolderError
from kleiber.models.config_file import read_config, read_weights, require_shapes, write_model
from kleiber.models.seq2seq.module import Seq2Seq
from kleiber.models.seq2seq.spec import Seq2SeqSpec
from kleiber.runs.data_shape import PAD_ID

__all__ = ["load", "save"]

_PRE_NORM, _POST_NORM = "PegasusForConditionalGeneration", "MarianMTModel"
_MODEL_TYPES = {_PRE_NORM: "pegasus", _POST_NORM: "marian"}
_CONFIG_KEYS = {
    "depth": ("encoder_layers",),
    "decoder_depth": ("decoder_layers",),
    "width": ("d_model",),
    "num_heads": ("encoder_attention_heads", "decoder_attention_heads"),
    "mlp_width": ("encoder_ffn_dim", "decoder_ffn_dim"),
    "activation": ("activation_function",),
    "dropout": ("dropout",),
}
"""Names of theirs that must agree where they are several."""
# What the layouts can express and our module does not compute, with the only value that it does.
_FIXED = {
    "scale_embedding": True,
    "tie_word_embeddings": True,
    "share_encoder_decoder_embeddings": True,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    "pad_token_id": PAD_ID,
    "decoder_start_token_id": PAD_ID,
    "eos_token_id": PAD_ID,
    "forced_eos_token_id": None,
}
# Where the config is silent transformers takes another value than ours.
_SILENT = {
    "scale_embedding": False, "decoder_start_token_id": None, "pad_token_id": None, "forced_eos_token_id": 0,
}  # fmt: skip
_BLOCK_NAMES = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn_out": ("self_attn.out_proj",),
    "attn_norm": ("self_attn_layer_norm",),
    "up": ("fc1",),
    "down": ("fc2",),
    "mlp_norm": ("final_layer_norm",),
}
_CROSS_NAMES = {
    "cross_q": ("encoder_attn.q_proj",),
    "cross_kv": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "cross_out": ("encoder_attn.out_proj",),
    "cross_norm": ("encoder_attn_layer_norm",),
}
_TABLE = "model.shared.weight"
_TIED_COPIES = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
_POSITIONS = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")
_LOGITS_BIAS = "final_logits_bias"


def save(module: Seq2Seq, spec: Seq2SeqSpec, folder: Path) -> None:
    """Write the weights of `module` and their config into `folder`.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    tensors = _to_hf(module.state_dict(), spec)
    if spec.is_pre_norm:  # computed where the file is silent, but not without a warning
        tensors |= {name: module.get_buffer("positions").clone() for name in _POSITIONS}
    write_model(folder, tensors, _config_of(spec))


def load(folder: Path) -> tuple[Seq2Seq, Seq2SeqSpec]:
    """Return the module and spec in `folder`; weights of any precision become fp32.

    Raises:
        RunFolderError: A file is missing or truncated, or the architecture is neither of the two.
    """
    spec = _spec_of(read_config(folder), str(folder / "config.json"))
    module = Seq2Seq(spec)
    module.load_state_dict(_from_hf(read_weights(folder), module, str(folder / "model.safetensors")))
    return module, spec


def _config_of(spec: Seq2SeqSpec) -> dict[str, Any]:
    architecture = _PRE_NORM if spec.is_pre_norm else _POST_NORM
    return {
        "architectures": [architecture],
        "model_type": _MODEL_TYPES[architecture],
        "is_encoder_decoder": True,
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": spec.max_positions,
        **{name: getattr(spec, ours) for ours, theirs in _CONFIG_KEYS.items() for name in theirs},
        **_FIXED,
        "bos_token_id": None,
        "dtype": "float32",
    }


def _spec_of(config: Mapping[str, Any], where: str) -> Seq2SeqSpec:
    architectures = config.get("architectures")
    if architectures not in ([_PRE_NORM], [_POST_NORM]):
        raise RunFolderError(
            f"{where}: the architecture must be {_PRE_NORM} or {_POST_NORM}.", got=architectures
        )
    known = _SILENT | dict(config)
    for key, value in _FIXED.items():
        if known.get(key, value) != value:
            raise RunFolderError(f"{where}: {key} must be {value}.", got=known[key])
    raw: dict[str, Any] = {"is_pre_norm": architectures == [_PRE_NORM]}
    for ours, (first, *others) in _CONFIG_KEYS.items():
        for other in others:
            if known.get(other) != known.get(first):
                raise RunFolderError(
                    f"{where}: {other} must be {first} {known.get(first)}.", got=known.get(other)
                )
        if first in known:
            raw[ours] = known[first]
    positions = known.get("max_position_embeddings")
    raw["shape"] = {
        "inputs": "pairs",
        "vocab_size": known.get("vocab_size"),
        "context": positions - 1 if isinstance(positions, int) else positions,
    }
    return Seq2SeqSpec.of(raw, where, RunFolderError)


def _to_hf(state: Mapping[str, Tensor], spec: Seq2SeqSpec) -> dict[str, Tensor]:
    """Return the weights under transformers' names, fused matrices taken apart; the tied table is stored once."""
    tensors = {_TABLE: state["embedding"]}
    for ours, theirs in _names(spec):
        rows = [len(state[ours]) // len(theirs)] * len(theirs)
        tensors |= dict(zip(theirs, torch.split(state[ours], rows), strict=True))
    return tensors


def _from_hf(tensors: Mapping[str, Tensor], module: Seq2Seq, where: str) -> dict[str, Tensor]:
    """Return the weights under our names [fp32], the inverse of `_to_hf`.

    Raises:
        RunFolderError: A tensor is missing, unknown, of another shape than the config says, or of a kind that we do not learn.
    """
    constants = {*_POSITIONS, _LOGITS_BIAS}
    found = {
        name: tensor.float() for name, tensor in tensors.items() if name not in {*constants, *_TIED_COPIES}
    }
    require_shapes(found, _to_hf(module.state_dict(), module.spec), where)
    _check_constants({name: tensors[name] for name in constants & tensors.keys()}, module, where)
    state = {"embedding": found[_TABLE]}
    return state | {ours: torch.cat([found[name] for name in theirs]) for ours, theirs in _names(module.spec)}


def _check_constants(found: Mapping[str, Tensor], module: Seq2Seq, where: str) -> None:
    """Raise if what transformers may write beside the weights is not what we compute."""
    positions = module.get_buffer("positions")
    for name, tensor in found.items():
        if name == _LOGITS_BIAS:
            if tensor.any():
                raise RunFolderError(f"{where}: {name} must be 0.", got=float(tensor.abs().max()))
        elif tensor.shape != positions.shape or not torch.allclose(tensor.float(), positions, atol=1e-2):
            raise RunFolderError(f"{where}: {name} must hold sinusoids.", got=tuple(tensor.shape))


def _names(spec: Seq2SeqSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each parameter but the table and what transformers calls it, in the order of its rows."""
    sides = {
        "encoder": (spec.depth, _BLOCK_NAMES),
        "decoder": (spec.decoder_depth, _BLOCK_NAMES | _CROSS_NAMES),
    }
    for side, (depth, names) in sides.items():
        layers = [f"model.{side}.layers.{index}" for index in range(depth)]
        for index, layer in enumerate(layers):
            for ours, theirs in names.items():
                for kind in ("weight", "bias"):
                    yield f"{side}.{index}.{ours}.{kind}", tuple(f"{layer}.{name}.{kind}" for name in theirs)
        if spec.is_pre_norm:
            for kind in ("weight", "bias"):
                yield f"{side}_norm.{kind}", (f"model.{side}.layer_norm.{kind}",)
