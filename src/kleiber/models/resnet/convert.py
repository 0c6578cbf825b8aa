"""To and from a folder of transformers' `ResNetForImageClassification` where it has the network, else of our own layout.

Transformers has the networks for ImageNet: the larger stem, projections as shortcuts, batch normalization, ReLU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kleiber.errors import RunFolderError
from kleiber.models.config_file import (
    read_architecture,
    read_config,
    read_weights,
    require_shapes,
    write_model,
)
from kleiber.models.own_layout import load_own, save_own
from kleiber.models.resnet.module import ResNet
from kleiber.models.resnet.spec import BOTTLENECK_GROWTH, ResNetSpec

__all__ = ["config_of", "is_theirs", "load", "save", "spec_of", "to_hf", "to_name"]

_ARCHITECTURE = "ResNetForImageClassification"
_OWN_ARCHITECTURE = "KleiberResNet"
_THEIRS = {"stem": "imagenet", "shortcut": "projection", "norm": "batch", "activation": "relu"}
"""What transformers computes; its `hidden_act` does not reach inside a block."""
_FIXED = {"downsample_in_first_stage": False, "downsample_in_bottleneck": False, "hidden_act": "relu"}
"""What the layout can express and our module does not compute, with the only value that it does."""
_OURS_ALONE = ("init", "dropout")
"""Fields that the layout does not hold."""
_SIDE = 224
"""Of the images of a folder that does not say it [pixels]: ImageNet's."""
_NAMES = (
    (r"^stem\.", "resnet.embedder.embedder."),
    (r"^stages\.(\d+)\.(\d+)\.", r"resnet.encoder.stages.\1.layers.\2."),
    (r"\.conv\.", ".convolution."),
    (r"\.norm\.", ".normalization."),
    (r"^head\.", "classifier.1."),
)
"""Our part of a weight's name, and theirs."""


def save(module: ResNet, spec: ResNetSpec, folder: Path) -> None:
    """Write the weights of `module` and their config into `folder`.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    if is_theirs(spec):
        write_model(folder, to_hf(module.state_dict()), config_of(spec))
    else:
        save_own(module, spec, folder, _OWN_ARCHITECTURE)


def load(folder: Path) -> tuple[ResNet, ResNetSpec]:
    """Return the module and spec in `folder`; weights of any precision become fp32.

    Raises:
        RunFolderError: A file is missing or truncated, the architecture is another, or a tensor does not fit the config.
    """
    if read_architecture(folder) == _OWN_ARCHITECTURE:
        return load_own(folder, _OWN_ARCHITECTURE, ResNetSpec, ResNet)
    spec = spec_of(read_config(folder), str(folder / "config.json"))
    with torch.device("meta"):
        module = ResNet(spec)
    names = {to_name(name): name for name in module.state_dict()}
    found = read_weights(folder)
    require_shapes(found, to_hf(module.state_dict()), str(folder / "model.safetensors"))
    module.load_state_dict(
        {
            names[name]: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in found.items()
        },
        assign=True,
    )
    return module, spec


def is_theirs(spec: ResNetSpec) -> bool:
    """Return whether transformers has the network of a spec."""
    return not spec.inner_widths and all(getattr(spec, name) == value for name, value in _THEIRS.items())


def config_of(spec: ResNetSpec) -> dict[str, Any]:
    """Return the `config.json` that makes transformers build this model."""
    growth = BOTTLENECK_GROWTH if spec.block == "bottleneck" else 1
    labels = [f"LABEL_{index}" for index in range(spec.shape.num_outputs or 0)]
    return {
        "architectures": [_ARCHITECTURE],
        "model_type": "resnet",
        "num_channels": spec.shape.channels,
        "embedding_size": spec.width,
        "hidden_sizes": [growth * spec.width * 2**stage for stage in range(len(spec.stage_depths))],
        "depths": list(spec.stage_depths),
        "layer_type": spec.block,
        **_FIXED,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
        "dtype": "float32",
        # Of no meaning to transformers, which keeps it.
        "kleiber": {
            "image_size": [spec.shape.height, spec.shape.width],
            **{name: getattr(spec, name) for name in _OURS_ALONE},
        },
    }


def spec_of(config: Mapping[str, Any], where: str) -> ResNetSpec:
    """Return the spec of a `config.json` of transformers.

    Raises:
        RunFolderError: Another architecture, a missing size, or a feature that the family does not have.
    """
    architectures = config.get("architectures")
    if architectures != [_ARCHITECTURE]:
        raise RunFolderError(f"{where}: the architecture must be {_ARCHITECTURE}.", got=architectures)
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise RunFolderError(f"{where}: {key} must be {value}.", got=config[key])
    missing = {"embedding_size", "hidden_sizes", "depths", "layer_type", "num_channels"} - config.keys()
    if missing:
        raise RunFolderError(f"{where}: the key '{min(missing)}' is missing.")
    ours = config.get("kleiber", {})
    height, width = ours.get("image_size", (_SIDE, _SIDE))
    shape = {"inputs": "images", "channels": config["num_channels"], "height": height, "width": width}
    raw = {
        **_THEIRS,
        **{name: ours[name] for name in _OURS_ALONE if name in ours},
        "stage_depths": config["depths"],
        "width": config["embedding_size"],
        "block": config["layer_type"],
        "shape": shape | {"num_outputs": _num_labels(config)},
    }
    spec = ResNetSpec.of(raw, where, RunFolderError)
    if config["hidden_sizes"] != config_of(spec)["hidden_sizes"]:
        raise RunFolderError(
            f"{where}: hidden_sizes must be {config_of(spec)['hidden_sizes']}.", got=config["hidden_sizes"]
        )
    return spec


def _num_labels(config: Mapping[str, Any]) -> int:
    # Two classes are what transformers takes where a config names none.
    labels = config.get("id2label")
    return len(labels) if labels else int(config.get("num_labels", 2))


def to_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under transformers' names."""
    return {to_name(name): tensor for name, tensor in state.items()}


def to_name(name: str) -> str:
    """Return transformers' name of a weight.

    Example:
        >>> to_name("stages.0.1.layer.2.norm.bias")
        'resnet.encoder.stages.0.layers.1.layer.2.normalization.bias'
    """
    for ours, theirs in _NAMES:
        name = re.sub(ours, theirs, name)
    return name
