"""What the `config.json` of transformers' classifiers says beside the sizes of their blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kleiber.errors import RunFolderError

__all__ = ["BLOCK_KEYS", "label_keys", "num_labels", "require_layout"]

BLOCK_KEYS = {
    "depth": "num_hidden_layers",
    "width": "hidden_size",
    "num_heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "norm_eps": "layer_norm_eps",
}
"""Fields of our specs by the keys there."""


def label_keys(num_outputs: int) -> dict[str, Any]:
    """Return the keys that say how many outputs the head has: names of labels, which only count here.

    Example:
        >>> label_keys(1)
        {'id2label': {'0': 'LABEL_0'}, 'label2id': {'LABEL_0': 0}}
    """
    names = [f"LABEL_{index}" for index in range(num_outputs)]
    return {
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }


def num_labels(config: Mapping[str, Any]) -> int:
    """Return how many outputs the head has; transformers writes none where they are two."""
    labels = config.get("id2label")
    return len(labels) if isinstance(labels, dict) else int(config.get("num_labels", 2))


def require_layout(
    config: Mapping[str, Any], architecture: str, fixed: Mapping[str, Any], where: str
) -> None:
    """Raise if a config is of another architecture, or asks for what our module does not compute.

    Args:
        config: As read.
        architecture: The one that is meant.
        fixed: Keys with the only value that we compute, which is also what transformers takes where they are missing.
        where: The file, for the message.

    Raises:
        RunFolderError: Naming the key, what it must be and what it is.
    """
    if config.get("architectures") != [architecture]:
        raise RunFolderError(
            f"{where}: the architecture must be {architecture}.", got=config.get("architectures")
        )
    for key, value in fixed.items():
        if config.get(key, value) != value:
            raise RunFolderError(f"{where}: {key} must be {value}.", got=config[key])
