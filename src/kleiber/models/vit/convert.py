"""To and from the folder that transformers' `ViTForImageClassification` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kleiber.errors import RunFolderError
from kleiber.models.bert_config import BLOCK_KEYS, label_keys, num_labels, require_layout
from kleiber.models.bert_names import block_names, join, split
from kleiber.models.config_file import read_config, read_weights, require_shapes, write_model
from kleiber.models.vit.module import ViT
from kleiber.models.vit.spec import ViTSpec

__all__ = ["config_of", "load", "save", "spec_of"]

_ARCHITECTURE = "ViTForImageClassification"
_FIXED = {"qkv_bias": True}
_TOP_NAMES = {
    "class_token": ("vit.embeddings.cls_token",),
    "positions": ("vit.embeddings.position_embeddings",),
    "patches.weight": ("vit.embeddings.patch_embeddings.projection.weight",),
    "patches.bias": ("vit.embeddings.patch_embeddings.projection.bias",),
    "final_norm.weight": ("vit.layernorm.weight",),
    "final_norm.bias": ("vit.layernorm.bias",),
    "head.weight": ("classifier.weight",),
    "head.bias": ("classifier.bias",),
}


def save(module: ViT, spec: ViTSpec, folder: Path) -> None:
    """Write the weights of `module` and their config into `folder`.

    transformers takes images that the patch divides: where ours are filled up, so must theirs be, with zeros.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    write_model(folder, split(module.state_dict(), _names(spec)), config_of(spec))


def load(folder: Path) -> tuple[ViT, ViTSpec]:
    """Return the module and spec in `folder`; weights of any precision become fp32.

    Raises:
        RunFolderError: A file is missing or truncated, the architecture is not `ViTForImageClassification`, or it has a
            feature that the family does not have.
    """
    spec = spec_of(read_config(folder), str(folder / "config.json"))
    with torch.device("meta"):
        module = ViT(spec)
    found, names = read_weights(folder), _names(spec)
    require_shapes(found, split(module.state_dict(), names), str(folder / "model.safetensors"))
    module.load_state_dict(join(found, names), assign=True)
    return module, spec


def config_of(spec: ViTSpec) -> dict[str, Any]:
    """Return the `config.json` that makes transformers build this model."""
    height, width = (sides * spec.patch_size for sides in spec.grid)
    return {
        "architectures": [_ARCHITECTURE],
        "model_type": "vit",
        **{theirs: getattr(spec, ours) for ours, theirs in BLOCK_KEYS.items()},
        "num_channels": spec.shape.channels,
        "image_size": height if height == width else [height, width],
        "patch_size": spec.patch_size,
        **_FIXED,
        **label_keys(spec.num_outputs),
        "kleiber": {"init": spec.init, "image_size": [spec.shape.height, spec.shape.width]},
        "dtype": "float32",
    }


def spec_of(config: Mapping[str, Any], where: str) -> ViTSpec:
    """Return the spec of a `config.json`.

    Raises:
        RunFolderError: Another architecture, a missing size, or a feature that the family does not have.
    """
    require_layout(config, _ARCHITECTURE, _FIXED, where)
    raw = {ours: config[theirs] for ours, theirs in BLOCK_KEYS.items() if theirs in config}
    ours = {"image_size": config.get("image_size", 224), **config.get("kleiber", {})}
    size = ours.pop("image_size")
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    shape = {
        "inputs": "images",
        "channels": config.get("num_channels", 3),
        "height": height,
        "width": width,
        "num_outputs": num_labels(config),
    }
    patch = {"patch_size": config.get("patch_size", 16)}
    return ViTSpec.of(raw | patch | {"shape": shape} | ours, where, RunFolderError)


def _names(spec: ViTSpec) -> dict[str, tuple[str, ...]]:
    blocks = block_names(
        spec.depth,
        "vit.encoder.layer",
        attention="attention",
        attn_norm="layernorm_before",
        mlp_norm="layernorm_after",
    )
    return _TOP_NAMES | blocks
