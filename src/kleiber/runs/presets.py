"""Presets: short YAML files in the package that fill what a recipe leaves open."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any, Literal, TypeAlias, get_args

import yaml

__all__ = ["PresetName", "laid_over", "preset", "with_preset"]

PresetName: TypeAlias = Literal["fast", "plain"]
"""A file of `kleiber/presets`."""

_NAMED = (("train", "optimizer"), ("train", "schedule"))
"""Parts whose keys suit their `name`: one of another name takes none of a preset's keys."""


def preset(name: PresetName) -> dict[str, Any]:
    """Return what a preset fills in, by part of a recipe.

    Example:
        >>> preset("plain")["model"]["positions"], preset("fast")["train"]["optimizer"]["name"]
        ('learned', 'muon')
    """
    filled: dict[str, Any] = yaml.safe_load(_text(name))
    return filled


def with_preset(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's keys with those of its preset under them, and without the preset's name.

    An optimizer or schedule of another name takes none of the preset's settings, and a context that the preset's short sequences
    do not lead up to has no such start.

    Raises:
        ValueError: No such preset, or a family that it is not for.

    Example:
        >>> asked = {"preset": "fast", "model": {"depth": 4, "softcap": 0}}
        >>> filled = with_preset(asked)["model"]
        >>> filled["depth"], filled["softcap"], filled["mlp"]
        (4, 0, 'relu2')
    """
    name, rest = raw["preset"], {key: value for key, value in raw.items() if key != "preset"}
    if name not in get_args(PresetName):
        raise ValueError(f"preset must be one of {', '.join(get_args(PresetName))}, got {name!r}")
    family = rest.get("model", {}).get("family", "gpt") if isinstance(rest.get("model", {}), dict) else "gpt"
    if family != "gpt":
        raise ValueError(f"preset {name} is of the family gpt, got {family!r}")
    filled = preset(name)
    for part, key in _NAMED:
        asked = _part(rest, part, key).get("name")
        if asked is not None and asked != filled[part][key]["name"]:
            filled[part][key] = {}
    warmup = filled["train"].get("sequence_warmup")
    if warmup and not _is_doubled(
        _part(rest, "data").get("context", filled["data"]["context"]), warmup["context"]
    ):
        del filled["train"]["sequence_warmup"]
    return laid_over(filled, rest)


@functools.cache
def _text(name: PresetName) -> str:
    return (resources.files("kleiber") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def _is_doubled(context: object, start: int) -> bool:
    """Return whether a context is another doubled once or more: only then do short sequences lead up to it."""
    ratio, rest = divmod(context, start) if isinstance(context, int) else (0, 1)
    return not rest and ratio > 1 and not ratio & (ratio - 1)


def _part(raw: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        found = raw.get(key)
        raw = found if isinstance(found, dict) else {}
    return raw


def laid_over(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return nested keys of both; where both have one, that of `over`.

    Example:
        >>> laid_over({"train": {"seed": 0, "num_steps": 9}}, {"train": {"seed": 7}})
        {'train': {'num_steps': 9, 'seed': 7}}
    """
    both = {key: value for key, value in under.items() if key not in over}
    return both | {
        key: laid_over(under[key], value)
        if isinstance(value, dict) and isinstance(under.get(key), dict)
        else value
        for key, value in over.items()
    }
