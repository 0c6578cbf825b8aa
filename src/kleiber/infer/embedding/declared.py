"""What a folder of sentence-transformers says beside its model: how vectors are pooled, and how long a text may be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kleiber.errors import RunFolderError, UsageError
from kleiber.infer.embedding.pooling import Pooling

__all__ = ["Declared", "read_declared"]

_MODES: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "mean": "mean",
    "cls": "cls",
}
"""Ours by the keys that old releases wrote, and by the word of new ones."""
_KNOWN_PARTS = frozenset({"Transformer", "Pooling", "Normalize"})


@dataclass(frozen=True)
class Declared:
    """How a model makes one vector of a text."""

    pooling: Pooling = "mean"
    max_tokens: int | None = None
    """Of a text, with what the tokenizer puts around it; None is what the model has positions for."""


def read_declared(folder: Path) -> Declared:
    """Return what stands beside a model; the mean over all tokens where nothing does.

    Args:
        folder: With `config.json`; `modules.json` names the folder with the pooling.

    Raises:
        RunFolderError: A file is no JSON of its kind.
        UsageError: The model pools in another way, or has layers behind the pooling.
    """
    listed = _read(folder / "modules.json", list, [])
    parts = [(str(part.get("type", "")).rpartition(".")[2], str(part.get("path", ""))) for part in listed]
    for kind, _ in parts:
        if kind not in _KNOWN_PARTS:
            raise UsageError(
                f"{folder} has a part {kind} behind its encoder, which is not computed here.",
                got=[kind for kind, _ in parts],
                hint="a model of Transformer, Pooling and Normalize",
            )
    where = next((path for kind, path in parts if kind == "Pooling"), None)
    pooling = "mean" if where is None else _pooling(_inside(folder, where) / "config.json")
    longest = _read(folder / "sentence_bert_config.json", dict, {}).get("max_seq_length")
    return Declared(pooling, longest if isinstance(longest, int) and longest > 0 else None)


def _pooling(file: Path) -> Pooling:
    said = _read(file, dict, {})
    named = said.get("pooling_mode")
    asked = (
        [named]
        if isinstance(named, str)
        else [key for key, is_on in said.items() if is_on is True and key.startswith("pooling_mode_")]
    )
    if len(asked) != 1 or asked[0] not in _MODES:
        raise UsageError(
            f"{file}: vectors are pooled by their mean or by the first token's, one of them.",
            got=asked,
            hint='"pooling_mode_mean_tokens": true',
        )
    return _MODES[asked[0]]


def _inside(folder: Path, path: str) -> Path:
    """Return a folder inside a model's; a path that leads out of it is none of the model's."""
    found = (folder / path).resolve()
    if not found.is_relative_to(folder.resolve()):
        raise RunFolderError(f"{folder / 'modules.json'} names a folder outside of its own.", got=path)
    return found


def _read(file: Path, kind: type[Any], default: Any) -> Any:
    if not file.is_file():
        return default
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RunFolderError(f"{file} is not valid JSON.", hint="the folder as it was saved") from None
    if not isinstance(raw, kind) or (kind is list and not all(isinstance(one, dict) for one in raw)):
        raise RunFolderError(
            f"{file} does not hold what sentence-transformers writes there.", got=type(raw).__name__
        )
    return raw
