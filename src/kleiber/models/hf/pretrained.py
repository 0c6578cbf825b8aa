"""Weights that somebody trained, in a model whose head fits the data: safetensors only, and nothing else may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from kleiber.errors import RecipeError
from kleiber.models.foreign.transformers_config import quiet, sentence
from kleiber.models.hf.files import folder_of, weights_source
from kleiber.models.hf.fitted import Fitted
from kleiber.models.hf.spec import HFSpec

__all__ = ["pretrained_model"]

_MOST_NAMED = 3
_HEADS = ("lm_head", "classifier", "score", "classification_head")
"""What architectures call their head whose trunk is no module of its own."""


def pretrained_model(found: Fitted, spec: HFSpec) -> nn.Module:
    """Return the model with the weights beside its config [fp32]; those of a head that does not fit are drawn anew.

    Raises:
        RecipeError: There are no weights in safetensors, or some beside the head's are missing or of other shapes.
        RunFolderError: The weights are quantized in a layout that is not read.
    """
    architecture = found.architecture
    load: Any = architecture.model_class.from_pretrained
    # Of a name transformers fetches more than the config.
    source = weights_source(folder_of(spec.path) if Path(spec.path).exists() else spec.path)
    try:
        with quiet():
            model, info = load(
                **source,
                config=architecture.config,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:  # noqa: BLE001 - a hundred architectures, each with its own checks
        raise RecipeError(
            f"hf: the weights of {spec.path} cannot be loaded: {sentence(error)}",
            hint="--set model.pretrained=false   starts from scratch",
        ) from None
    _require_trunk(model, info, spec)
    module: nn.Module = model
    return module.train()


def _heads(model: nn.Module) -> set[str]:
    """Return the names of the modules behind the trunk."""
    names = {name for name, _ in model.named_children()}
    trunk = getattr(model, "base_model_prefix", "")
    return names - {trunk} if trunk in names else names & set(_HEADS)


def _require_trunk(model: nn.Module, info: dict[str, Any], spec: HFSpec) -> None:
    """Raise if weights other than the head's are not those of the folder."""
    heads = _heads(model)
    wrong = [
        f"{name} is {tuple(theirs)} and must be {tuple(ours)}"
        for name, theirs, ours in sorted(info["mismatched_keys"])
        if name.partition(".")[0] not in heads
    ]
    wrong += [
        f"{name} is missing"
        for name in sorted(info["missing_keys"])
        if name.partition(".")[0] not in heads and "pooler" not in name.split(".")
    ]
    if wrong:
        more = f", and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise RecipeError(
            f"hf: the weights of {spec.path} do not fit its config: {'; '.join(wrong[:_MOST_NAMED])}{more}.",
            hint="the folder that the weights were saved in, with its config",
        )
