"""What can be cut out of networks that are layer upon layer: perceptrons, and networks of convolutions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kleiber.compress.structure.axes import Block, Kind, Sizes, Skeleton
from kleiber.compress.structure.channels import channel_axes
from kleiber.compress.structure.residual_channels import residual_axes
from kleiber.compress.structure.resized import resized
from kleiber.errors import RecipeError
from kleiber.models import Spec
from kleiber.models.convnet.spec import ConvNetSpec
from kleiber.models.family import FamilyModule
from kleiber.models.inception.spec import InceptionSpec
from kleiber.models.mlp.spec import MLPSpec
from kleiber.models.resnet.spec import ResNetSpec

__all__ = ["convnet_skeleton", "inception_skeleton", "mlp_skeleton", "resnet_skeleton"]


def mlp_skeleton(module: FamilyModule, spec: MLPSpec) -> Skeleton:
    """Return the hidden features, as many in each layer.

    Raises:
        RecipeError: A norm goes over features that would be cut.
        MissingExtraError: torch-pruning is not installed.
    """
    return _of_width(module, spec, r"layers\.\d+\.linear", Kind("width", spec.width))


def convnet_skeleton(module: FamilyModule, spec: ConvNetSpec) -> Skeleton:
    """Return the channels of each stage, as many in each of its convolutions, and the features of each dense layer.

    Raises:
        RecipeError: A norm goes over channels that would be cut.
        MissingExtraError: torch-pruning is not installed.
    """
    _require_batch_norm(spec)
    kinds = (
        *(Kind(f"channels.{stage}", width) for stage, width in enumerate(spec.stage_widths)),
        *(Kind(f"features.{layer}", width) for layer, width in enumerate(spec.dense_widths)),
    )

    def spec_of(sizes: Sizes, _blocks: Sequence[int]) -> Spec:
        return resized(
            spec,
            stage_widths=[sizes[f"channels.{stage}"] for stage in range(len(spec.stage_widths))],
            dense_widths=[sizes[f"features.{layer}"] for layer in range(len(spec.dense_widths))],
        )

    names = {r"stages\.(\d+)\.\d+\.conv": r"channels.\1", r"dense\.(\d+)": r"features.\1"}
    return Skeleton(kinds, channel_axes(module, spec.shape, _kinds(names)), spec_of)


def resnet_skeleton(module: FamilyModule, spec: ResNetSpec) -> Skeleton:
    """Return the channels inside each block, those that blocks add to, and the blocks.

    Raises:
        RecipeError: A norm goes over channels that would be cut.
        MissingExtraError: torch-pruning is not installed.
    """
    _require_batch_norm(spec)
    stages = list(spec.blocks())
    places = [(stage, index) for stage, blocks in enumerate(stages) for index in range(len(blocks))]
    inner = [Kind(f"channels.{stage}.{index}", stages[stage][index].width) for stage, index in places]

    def spec_of(sizes: Sizes, blocks: Sequence[int]) -> Spec:
        widths = [sizes[inner[block].name] for block in blocks]
        depths = [sum(places[block][0] == stage for block in blocks) for stage in range(len(stages))]
        is_usual = widths == [sizes["width"] * 2 ** places[block][0] for block in blocks]
        return resized(
            spec, width=sizes["width"], stage_depths=depths, inner_widths=() if is_usual else widths
        )

    inside = "[0]" if spec.block == "basic" else "[01]"
    names = {rf"stages\.(\d+)\.(\d+)\.layer\.{inside}\.conv": r"channels.\1.\2"}
    return Skeleton(
        (*inner, Kind("width", spec.width, is_last=True)),
        (*channel_axes(module, spec.shape, _kinds(names)), *residual_axes(module, spec, "width")),
        spec_of,
        # The first block of a stage stays: most make the image smaller, and no stage is empty.
        tuple(Block(f"stages.{stage}.{index}", is_droppable=index > 0) for stage, index in places),
    )


def inception_skeleton(module: FamilyModule, spec: InceptionSpec) -> Skeleton:
    """Return all channels, in the proportions that the width gives to the branches.

    Raises:
        RecipeError: A norm goes over channels that would be cut.
        MissingExtraError: torch-pruning is not installed.
    """
    return _of_width(module, spec, r".*\.conv", Kind("width", spec.width, step=16, has_round_sizes=False))


def _of_width(module: FamilyModule, spec: MLPSpec | InceptionSpec, layers: str, width: Kind) -> Skeleton:
    """Return the one size of a network whose layers, named by a pattern, all follow from its width."""
    _require_batch_norm(spec)

    def spec_of(sizes: Sizes, _blocks: Sequence[int]) -> Spec:
        return resized(spec, width=sizes["width"])

    return Skeleton((width,), channel_axes(module, spec.shape, _kinds({layers: "width"})), spec_of)


def _kinds(patterns: dict[str, str]) -> Callable[[str], str | None]:
    """Return what tells the kind of a layer by its name."""

    def kind_of(name: str) -> str | None:
        found = ((re.fullmatch(pattern, name), kind) for pattern, kind in patterns.items())
        return next((match.expand(kind) for match, kind in found if match), None)

    return kind_of


def _require_batch_norm(spec: MLPSpec | ConvNetSpec | ResNetSpec | InceptionSpec) -> None:
    if spec.norm not in {"none", "batch"}:
        raise RecipeError(
            f"shrink: norm {spec.norm} goes over all channels of a sample, so that none can be cut and the others stay.",
            got=f"norm={spec.norm}",
            hint="prune, quantize or factorize, which keep all sizes",
        )
