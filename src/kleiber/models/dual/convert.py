"""To and from the folder that transformers' `CLIPModel` reads: config.json and model.safetensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kleiber.errors import RunFolderError
from kleiber.models.config_file import read_config, read_weights, require_shapes, write_model
from kleiber.models.dual.module import MAX_LOG_SCALE, Dual
from kleiber.models.dual.spec import DualSpec
from kleiber.models.dual.towers import NORM_EPS
from kleiber.runs.data_shape import PAD_ID

__all__ = ["load", "save"]

_ARCHITECTURE = "CLIPModel"
_VISION_KEYS = {
    "depth": "num_hidden_layers",
    "width": "hidden_size",
    "num_heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
    "patch_size": "patch_size",
    "activation": "hidden_act",
}
_TEXT_KEYS = {
    "text_depth": "num_hidden_layers",
    "text_width": "hidden_size",
    "text_num_heads": "num_attention_heads",
    "text_mlp_width": "intermediate_size",
    "activation": "hidden_act",
}
_SHARED_KEYS = {"embedding_width": "projection_dim", "dropout": "dropout"}
"""CLIP has no dropout of its own: transformers keeps the key and reads the model without."""
# What the layout can express and our module does not compute, with the only value that it does.
_FIXED_VISION = {"attention_dropout": 0.0, "layer_norm_eps": NORM_EPS}
_FIXED_TEXT = _FIXED_VISION | {"eos_token_id": PAD_ID}
_SILENT_EOS = 49_407
"""What transformers takes where the config is silent."""
_NAMES = {
    "log_scale": ("logit_scale",),
    "image_projection.weight": ("visual_projection.weight",),
    "text_projection.weight": ("text_projection.weight",),
    "images.class_token": ("vision_model.embeddings.class_embedding",),
    "images.patches.weight": ("vision_model.embeddings.patch_embedding.weight",),
    "images.positions": ("vision_model.embeddings.position_embedding.weight",),
    "images.first_norm.weight": ("vision_model.pre_layrnorm.weight",),
    "images.first_norm.bias": ("vision_model.pre_layrnorm.bias",),
    "images.last_norm.weight": ("vision_model.post_layernorm.weight",),
    "images.last_norm.bias": ("vision_model.post_layernorm.bias",),
    "texts.table": ("text_model.embeddings.token_embedding.weight",),
    "texts.positions": ("text_model.embeddings.position_embedding.weight",),
    "texts.last_norm.weight": ("text_model.final_layer_norm.weight",),
    "texts.last_norm.bias": ("text_model.final_layer_norm.bias",),
}
_BLOCK_NAMES = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn_out": ("self_attn.out_proj",),
    "attn_norm": ("layer_norm1",),
    "up": ("mlp.fc1",),
    "down": ("mlp.fc2",),
    "mlp_norm": ("layer_norm2",),
}


def save(module: Dual, spec: DualSpec, folder: Path) -> None:
    """Write the weights of `module` and their config into `folder`.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    write_model(folder, _to_hf(module.state_dict(), spec), _config_of(spec))


def load(folder: Path) -> tuple[Dual, DualSpec]:
    """Return the module and spec in `folder`; weights of any precision become fp32.

    Raises:
        RunFolderError: A file is missing or truncated, or the architecture is not `CLIPModel`.
    """
    spec = _spec_of(read_config(folder), str(folder / "config.json"))
    module = Dual(spec)
    found = {
        name: tensor.float()
        for name, tensor in read_weights(folder).items()
        if not name.endswith("position_ids")  # counted up; older versions of transformers store them
    }
    require_shapes(found, _to_hf(module.state_dict(), spec), str(folder / "model.safetensors"))
    module.load_state_dict(
        {
            ours: found[theirs[0]] if len(theirs) == 1 else torch.cat([found[name] for name in theirs])
            for ours, theirs in _names(spec)
        }
    )
    return module, spec


def _config_of(spec: DualSpec) -> dict[str, Any]:
    shared = {theirs: getattr(spec, ours) for ours, theirs in _SHARED_KEYS.items()}
    vision = {
        **{theirs: getattr(spec, ours) for ours, theirs in _VISION_KEYS.items()},
        **_FIXED_VISION,
        "num_channels": spec.shape.channels,
        "image_size": spec.side,
        "projection_dim": spec.embedding_width,
    }
    text = {
        **{theirs: getattr(spec, ours) for ours, theirs in _TEXT_KEYS.items()},
        **_FIXED_TEXT,
        "vocab_size": spec.shape.vocab_size,
        "max_position_embeddings": spec.max_tokens,
        "projection_dim": spec.embedding_width,
        "pad_token_id": PAD_ID,
        "bos_token_id": None,
    }
    return {
        "architectures": [_ARCHITECTURE],
        "model_type": "clip",
        **shared,
        "vision_config": vision,
        "text_config": text,
        "dtype": "float32",
    }


def _spec_of(config: Mapping[str, Any], where: str) -> DualSpec:
    if config.get("architectures") != [_ARCHITECTURE]:
        raise RunFolderError(
            f"{where}: the architecture must be {_ARCHITECTURE}.", got=config.get("architectures")
        )
    towers = [config.get(f"{name}_config") for name in ("vision", "text")]
    if not all(isinstance(tower, dict) for tower in towers):
        raise RunFolderError(f"{where}: vision_config and text_config must hold the sizes of the towers.")
    vision, text = (dict(tower or {}) for tower in towers)
    for tower, fixed in ((vision, _FIXED_VISION), ({"eos_token_id": _SILENT_EOS} | text, _FIXED_TEXT)):
        for key, value in fixed.items():
            if tower.get(key, value) != value:
                raise RunFolderError(f"{where}: {key} must be {value}.", got=tower[key])
    if vision.get("hidden_act") != text.get("hidden_act"):
        raise RunFolderError(f"{where}: hidden_act must be that of the images.", got=text.get("hidden_act"))
    positions = text.get("max_position_embeddings")
    shape = {
        "inputs": "captions",
        "vocab_size": text.get("vocab_size"),
        "context": positions - 1 if isinstance(positions, int) else positions,
        "channels": vision.get("num_channels"),
        "height": vision.get("image_size"),
        "width": vision.get("image_size"),
    }
    raw = {"shape": shape}
    for keys, source in ((_VISION_KEYS, vision), (_TEXT_KEYS, text), (_SHARED_KEYS, config)):
        raw |= {ours: source[theirs] for ours, theirs in keys.items() if theirs in source}
    return DualSpec.of(raw, where, RunFolderError)


def _to_hf(state: Mapping[str, Tensor], spec: DualSpec) -> dict[str, Tensor]:
    """Return the weights under transformers' names, fused matrices taken apart."""
    tensors: dict[str, Tensor] = {}
    for ours, theirs in _names(spec):
        parts = state[ours].chunk(len(theirs)) if len(theirs) > 1 else [state[ours]]
        tensors |= dict(zip(theirs, parts, strict=True))
    # Our module holds the scale down, theirs does not.
    tensors["logit_scale"] = tensors["logit_scale"].clamp(max=MAX_LOG_SCALE)
    return tensors


def _names(spec: DualSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each parameter and what transformers calls it, in the order of its rows."""
    yield from _NAMES.items()
    for ours, theirs, depth in (
        ("images", "vision_model", spec.depth),
        ("texts", "text_model", spec.text_depth),
    ):
        for index in range(depth):
            for part, names in _BLOCK_NAMES.items():
                for kind in ("weight", "bias"):
                    layers = tuple(f"{theirs}.encoder.layers.{index}.{name}.{kind}" for name in names)
                    yield f"{ours}.blocks.{index}.{part}.{kind}", layers
