"""The `quantization_config` of a `config.json`: how each tensor of the file is stored, in the words of compressed-tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from kleiber.errors import RunFolderError
from kleiber.models.config_file import BLOCK_KEY
from kleiber.models.stored.forms import Masked, Quantized
from kleiber.runs import Document

__all__ = ["AS_COMPUTED", "Activations", "OwnKeys", "block_of", "layer_of", "own_keys_of", "packing_of"]

_METHOD = "compressed-tensors"
_OWN_KEY = "kleiber"
"""Of the block: what the layout has no words for; other readers leave it aside."""
_FORMATS = {"pack-quantized", "dense"}
_SPARSE_FORMATS = {"sparse-bitmask", "dense"}


class Activations(Document):
    """How numbers that are no weights are held: what goes into layers, and the keys and values that a decoder keeps."""

    input_ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Lowest and highest, by the name of the layer's weight, of inputs that become int8 by a fixed range."""
    has_dynamic_inputs: bool = False
    """Whether inputs of quantized layers become int8 by the range that each batch shows."""
    cache_bits: int | None = None
    """Of keys and values; None keeps them as computed."""


AS_COMPUTED = Activations()
"""All of them in fp32."""


class OwnKeys(Document):
    """What the layout of compressed-tensors has no words for."""

    activations: Activations = Activations()
    """How numbers that are no weights are held."""
    right_factors: dict[str, str] = Field(default_factory=dict)
    """By the name of a weight in two thin factors, the tensor of its right one, which fused weights share."""
    patterns: dict[str, tuple[int, int]] = Field(default_factory=dict)
    """By the name of a weight with zeros, how many of how many neighbours are kept."""


def block_of(
    forms: Mapping[str, Quantized | Masked], right_factors: Mapping[str, str], activations: Activations
) -> dict[str, Any] | None:
    """Return the block of a file; None where it holds plain tensors only.

    Args:
        forms: By the name of the tensor; factors stand apart.
        right_factors: As `OwnKeys` has them.
        activations: How numbers that are no weights are held.
    """
    own = OwnKeys(
        activations=activations,
        right_factors=dict(right_factors),
        patterns={
            name: form.pattern for name, form in forms.items() if isinstance(form, Masked) and form.pattern
        },
    )
    if not forms and own == OwnKeys():
        return None
    groups = _config_groups(forms)
    block: dict[str, Any] = {
        "quant_method": _METHOD,
        "quantization_status": "compressed",
        "format": "pack-quantized" if groups else "dense",
        "config_groups": groups,
        "ignore": [],
    }
    masked = {name: form for name, form in forms.items() if isinstance(form, Masked)}
    if masked:
        block["sparsity_config"] = _sparsity(masked)
    return block | {_OWN_KEY: own.model_dump(mode="json")}


def layer_of(name: str) -> str:
    """Return what the block calls a tensor: by its module, or by itself where it is not a module's `weight`.

    Example:
        >>> layer_of("model.norm.weight"), layer_of("class_token")
        ('model.norm', 'class_token')
    """
    return name.removesuffix(".weight")


def packing_of(name: str, block: Mapping[str, Any], where: str) -> tuple[int, int]:
    """Return bits and group size of a packed tensor, 0 of one group a row: of the group that names it, or its kind of layer.

    Raises:
        RunFolderError: No group names it.
    """
    layer = layer_of(name)
    groups = [group for group in block.get("config_groups", {}).values() if group.get("weights")]
    by_name = [group for group in groups if any(_names(target, layer) for target in group["targets"])]
    by_kind = [group for group in groups if any(_is_kind(target) for target in group["targets"])]
    for group in by_name + by_kind:
        return int(group["weights"]["num_bits"]), max(0, int(group["weights"].get("group_size") or 0))
    raise RunFolderError(f"{where}: {BLOCK_KEY} has no group with {layer} among its targets.")


def own_keys_of(block: Mapping[str, Any], where: str) -> OwnKeys:
    """Return what a block holds that the layout has no words for.

    Raises:
        RunFolderError: The block is of another tool's layout, or of a format that is not read.
    """
    for key, found, known in (
        ("quant_method", block.get("quant_method"), {_METHOD}),
        ("format", block.get("format"), _FORMATS),
        ("sparsity_config", (block.get("sparsity_config") or {}).get("format", "dense"), _SPARSE_FORMATS),
    ):
        if found not in known:
            words = " or ".join(sorted(known))
            raise RunFolderError(
                f"{where}: {BLOCK_KEY}: {key} must be {words}.",
                got=found,
                hint="the folder that was quantized, as it was before",
            )
    return OwnKeys.of(block.get(_OWN_KEY, {}), f"{where}: {BLOCK_KEY}: {_OWN_KEY}", RunFolderError)


def _config_groups(forms: Mapping[str, Quantized | Masked]) -> dict[str, Any]:
    """Return a group for all layers of the same bits, group size and symmetry."""
    targets: dict[tuple[int, int | None, bool], list[str]] = {}
    for name, form in forms.items():
        if isinstance(form, Quantized):
            size = form.group_size if form.scale_RG.shape[1] > 1 else None
            targets.setdefault((form.num_bits, size, form.is_symmetric), []).append(layer_of(name))
    return {
        f"group_{index}": {
            "targets": layers,
            "weights": {
                "num_bits": num_bits,
                "type": "int",
                "symmetric": is_symmetric,
                "strategy": "channel" if size is None else "group",
                "group_size": size,
                "dynamic": False,
            },
            "input_activations": None,
            "output_activations": None,
        }
        for index, ((num_bits, size, is_symmetric), layers) in enumerate(targets.items())
    }


def _sparsity(masked: Mapping[str, Masked]) -> dict[str, Any]:
    patterns = {form.pattern for form in masked.values()}
    pattern = patterns.pop() if len(patterns) == 1 else None
    num_kept = sum(int(form.is_kept_RC.sum()) for form in masked.values())
    return {
        "format": "sparse-bitmask",
        "targets": [layer_of(name) for name in masked],
        "ignore": [],
        "sparsity_structure": "unstructured" if pattern is None else f"{pattern[0]}:{pattern[1]}",
        "global_sparsity": 1 - num_kept / sum(form.is_kept_RC.numel() for form in masked.values()),
    }


def _names(target: str, layer: str) -> bool:
    if target.startswith("re:"):
        return re.match(target.removeprefix("re:"), layer) is not None
    return target == layer


def _is_kind(target: str) -> bool:
    # Such as Linear, which is what other tools write: a layer that is packed is of the kind.
    return target.isidentifier() and target[0].isupper()
