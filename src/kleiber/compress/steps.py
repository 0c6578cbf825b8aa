"""The steps of a compression by name, and how they are typed: `prune:ratio=0.5,method=wanda`."""

from __future__ import annotations

from typing import Any, TypeAlias, get_args, get_origin

from kleiber.compress.factorize import Factorize
from kleiber.compress.prune import Prune
from kleiber.compress.quantize import Quantize
from kleiber.compress.recover import Recover
from kleiber.compress.structure import Shrink
from kleiber.errors import RecipeError, nearest
from kleiber.runs.recipe import parse_scalar

__all__ = ["STEPS", "AnyStep", "parse_step", "typed_step"]

AnyStep: TypeAlias = Prune | Shrink | Factorize | Quantize | Recover

STEPS: dict[str, type[AnyStep]] = {
    "shrink": Shrink,
    "prune": Prune,
    "factorize": Factorize,
    "quantize": Quantize,
    "recover": Recover,
}
"""In an order that works: fewer numbers first, then fewer bits, then what makes up for both."""

_HINT = "kleiber compress runs/NAME shrink:params=0.5 recover:frac=0.05 quantize:bits=4"


def parse_step(text: str) -> AnyStep:
    """Return the step that is typed `NAME` or `NAME:KEY=VALUE,KEY=VALUE`.

    Values that are lists are divided by `+`, and so are those of several layers: `PATTERN:NUMBER+PATTERN:NUMBER`.

    Raises:
        RecipeError: An unknown step, a part that is not KEY=VALUE, an unknown key or a value that breaks a rule.

    Example:
        >>> parse_step("prune:ratio=0.5,method=magnitude").ratio
        0.5
        >>> parse_step("prune:ratio=0.5,method=wanda,layer_ratios=blocks.0.*:0.3+head:0").layer_ratios
        {'blocks.0.*': 0.3, 'head': 0.0}
    """
    name, _, rest = text.partition(":")
    if name not in STEPS:
        raise RecipeError(f"unknown step '{name}'. {nearest(name, STEPS)}", hint=_HINT)
    settings: dict[str, object] = {}
    for part in rest.split(",") if rest else ():
        key, separator, value = (piece.strip() for piece in part.partition("="))
        if not (key and separator and value) or key in settings or key == "name":
            raise RecipeError(
                f"A step is written NAME:KEY=VALUE,KEY=VALUE with each key once; '{part}' is not KEY=VALUE.",
                got=text,
                hint=_HINT,
            )
        field = STEPS[name].model_fields.get(key)
        settings[key] = _value(value, None if field is None else field.annotation)
    return STEPS[name].of(settings, name, RecipeError)


def _value(text: str, annotation: Any) -> object:
    """Return what was typed, as the setting takes it: names stay texts, though one may be spelt as a number is."""
    pieces = text.split("+")
    if get_origin(annotation) is tuple and get_args(annotation)[0] is str:
        return tuple(pieces)
    if get_origin(annotation) is not dict:
        return [parse_scalar(one) for one in pieces] if "+" in text[1:] else parse_scalar(text)
    pairs = [one.rpartition(":") for one in pieces]
    if wrong := [one for one, (layer, _, _) in zip(pieces, pairs, strict=True) if not layer]:
        raise RecipeError(
            f"What layers have of their own is written LAYER:NUMBER+LAYER:NUMBER; '{wrong[0]}' is not LAYER:NUMBER.",
            got=text,
            hint="prune:ratio=0.5,method=wanda,layer_ratios=blocks.0.*:0.3+blocks.1.*:0.6",
        )
    return {layer: parse_scalar(value) for layer, _, value in pairs}


def typed_step(step: AnyStep) -> str:
    """Return a step as it would be typed: its settings that are not the default ones.

    Example:
        >>> typed_step(parse_step("prune:ratio=0.5"))
        'prune:ratio=0.5'
    """
    settings = step.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    typed = (f"{key}={_typed(value)}" for key, value in settings.items())
    rest = ",".join(typed)
    return f"{step.name}:{rest}" if rest else step.name


def _typed(value: object) -> str:
    if isinstance(value, dict):
        return "+".join(f"{layer}:{_typed(one)}" for layer, one in value.items())
    if isinstance(value, list):
        return "+".join(_typed(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
