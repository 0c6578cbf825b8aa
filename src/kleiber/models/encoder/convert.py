"""To and from the folder that transformers' `BertForSequenceClassification` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kleiber.errors import RunFolderError
from kleiber.models.bert_config import BLOCK_KEYS, label_keys, num_labels, require_layout
from kleiber.models.bert_names import block_names, join, split
from kleiber.models.config_file import read_config, read_weights, require_shapes, write_model
from kleiber.models.encoder.module import Encoder
from kleiber.models.encoder.spec import EncoderSpec
from kleiber.runs.data_shape import PAD_ID

__all__ = ["config_of", "load", "save", "spec_of"]

_ARCHITECTURE = "BertForSequenceClassification"
_FIXED = {
    "is_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
    "classifier_dropout": None,
}
_TOP_NAMES = {
    "tokens.weight": ("bert.embeddings.word_embeddings.weight",),
    "positions.weight": ("bert.embeddings.position_embeddings.weight",),
    "token_types.weight": ("bert.embeddings.token_type_embeddings.weight",),
    "embedding_norm.weight": ("bert.embeddings.LayerNorm.weight",),
    "embedding_norm.bias": ("bert.embeddings.LayerNorm.bias",),
    "pooler.weight": ("bert.pooler.dense.weight",),
    "pooler.bias": ("bert.pooler.dense.bias",),
    "head.weight": ("classifier.weight",),
    "head.bias": ("classifier.bias",),
}


def save(module: Encoder, spec: EncoderSpec, folder: Path) -> None:
    """Write the weights of `module` and their config into `folder`.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    write_model(folder, split(module.state_dict(), _names(spec)), config_of(spec))


def load(folder: Path) -> tuple[Encoder, EncoderSpec]:
    """Return the module and spec in `folder`; weights of any precision become fp32.

    Raises:
        RunFolderError: A file is missing or truncated, the architecture is not `BertForSequenceClassification`, or it has a
            feature that the family does not have.
    """
    spec = spec_of(read_config(folder), str(folder / "config.json"))
    with torch.device("meta"):
        module = Encoder(spec)
    found, names = read_weights(folder), _names(spec)
    # Written by old releases beside the weights: the numbers 0, 1, 2, ...
    found.pop("bert.embeddings.position_ids", None)
    require_shapes(found, split(module.state_dict(), names), str(folder / "model.safetensors"))
    module.load_state_dict(join(found, names), assign=True)
    return module, spec


def config_of(spec: EncoderSpec) -> dict[str, Any]:
    """Return the `config.json` that makes transformers build this model."""
    return {
        "architectures": [_ARCHITECTURE],
        "model_type": "bert",
        **{theirs: getattr(spec, ours) for ours, theirs in BLOCK_KEYS.items()},
        "vocab_size": spec.shape.vocab_size,
        "max_position_embeddings": spec.shape.context,
        "type_vocab_size": spec.num_token_types,
        "pad_token_id": spec.shape.pad_id,
        **_FIXED,
        **label_keys(spec.num_outputs),
        "kleiber": {"init": spec.init},
        "dtype": "float32",
    }


def spec_of(config: Mapping[str, Any], where: str) -> EncoderSpec:
    """Return the spec of a `config.json`.

    Raises:
        RunFolderError: Another architecture, a missing size, or a feature that the family does not have.
    """
    require_layout(config, _ARCHITECTURE, _FIXED, where)
    raw = {ours: config[theirs] for ours, theirs in BLOCK_KEYS.items() if theirs in config}
    shape = {
        "inputs": "tokens",
        "vocab_size": config.get("vocab_size"),
        "context": config.get("max_position_embeddings"),
        "num_outputs": num_labels(config),
        "pad_id": config.get("pad_token_id", PAD_ID),
    }
    num_types = {"num_token_types": config.get("type_vocab_size", 2)}
    return EncoderSpec.of(
        raw | num_types | {"shape": shape} | config.get("kleiber", {}), where, RunFolderError
    )


def _names(spec: EncoderSpec) -> dict[str, tuple[str, ...]]:
    blocks = block_names(
        spec.depth,
        "bert.encoder.layer",
        attention="self",
        attn_norm="attention.output.LayerNorm",
        mlp_norm="output.LayerNorm",
    )
    return _TOP_NAMES | blocks
