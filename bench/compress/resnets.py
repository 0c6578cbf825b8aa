"""Published CIFAR-10 residual networks as folders of ours, for images that are normalized as the training split asks.

The published networks were trained on the original images under ImageNet's mean and deviation; the folders are the
starting point of a short fine-tuning on the JPEG copy, after which they are the originals of the benchmark.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kleiber.data import open_data
from kleiber.models import build, save
from kleiber.models.resnet.spec import ResNetSpec
from kleiber.runs import read_recipe
from kleiber.runs.record import InputScale

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def write_folder(source: Path, folder: Path, scale: InputScale) -> Path:
    """Write the network of a published archive, its stem made for images under `scale`."""
    published = {name: torch.from_numpy(array) for name, array in np.load(source).items()}
    num_blocks = len({name.split(".")[1] for name in published if name.startswith("layer1.")})
    spec = ResNetSpec.of_size({"depth": 6 * num_blocks + 2, "width": 16}, ResNetSpec.example_shape)
    module = build(spec)
    state = module.state_dict()
    for ours, theirs in _names(num_blocks):
        state[ours] = _reordered(theirs, published[theirs])
    _move_normalization_(state, scale)
    module.load_state_dict(state)
    save(module, spec, folder)
    return folder


def _names(num_blocks: int) -> Iterator[tuple[str, str]]:
    """Yield our name and theirs of every tensor."""
    norm = ("weight", "bias", "running_mean", "running_var")
    yield "stem.conv.weight", "conv1.weight"
    yield from ((f"stem.norm.{part}", f"bn1.{part}") for part in norm)
    for stage in range(3):
        for block in range(num_blocks):
            for layer in range(2):
                ours, theirs = f"stages.{stage}.{block}.layer.{layer}", f"layer{stage + 1}.{block}."
                yield f"{ours}.conv.weight", f"{theirs}conv{layer + 1}.weight"
                yield from ((f"{ours}.norm.{part}", f"{theirs}bn{layer + 1}.{part}") for part in norm)
    yield "head.weight", "linear.weight"
    yield "head.bias", "linear.bias"


def _order(stage: int) -> list[int]:
    """Return their channel at each of our places: they put new zeros on both sides of the old channels, we behind them."""
    order = list(range(16))
    for before in (16, 32)[:stage]:
        order = [before // 2 + channel for channel in order]
        order += [*range(before // 2), *range(before // 2 + before, 2 * before)]
    return order


def _reordered(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor of theirs with the channels of the residual stream in our order."""
    if name == "linear.weight":
        return tensor[:, _order(2)]
    part, _, rest = name.partition(".")
    if not part.startswith("layer"):
        return tensor
    stage, block, layer = int(part[-1]) - 1, int(rest.split(".")[0]), rest.split(".")[1]
    if layer == "conv1":
        return tensor[:, _order(stage - 1 if stage and not block else stage)]
    return tensor[_order(stage)] if layer in {"conv2", "bn2"} else tensor


def _move_normalization_(state: dict[str, Tensor], scale: InputScale) -> None:
    """Change the stem to read images under another normalization: the same numbers but at the border, where padding is 0."""
    mean, std = 255 * torch.tensor(IMAGENET_MEAN), 255 * torch.tensor(IMAGENET_STD)
    kernel = state["stem.conv.weight"]
    shift_C = (torch.tensor(scale.offset) - mean) / std
    state["stem.norm.running_mean"] = state["stem.norm.running_mean"] - (kernel.sum((2, 3)) @ shift_C)
    state["stem.conv.weight"] = kernel * (torch.tensor(scale.scale) / std)[:, None, None]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="models/resnet_cifar10")
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipe", type=Path, help="whose data the images are")
    given = parser.parse_args()
    asked = read_recipe(given.recipe)
    data = open_data(asked.data, seed=0, task=asked.task)
    for depth in (20, 56):
        print(
            write_folder(
                given.source / f"resnet{depth}.npz",
                given.folder / f"resnet{depth}",
                data.meta.input_scales["images"],
            )
        )
