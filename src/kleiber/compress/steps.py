"""The steps of a compression by name, and how they are typed: `prune:ratio=0.5,method=wanda`."""

from __future__ import annotations

from typing import TypeAlias

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
    """Return the step that is typed `NAME` or `NAME:KEY=VALUE,KEY=VALUE`; values that are lists are divided by `+`.

    Raises:
        RecipeError: An unknown step, a part that is not KEY=VALUE, an unknown key or a value that breaks a rule.

    Example:
        >>> parse_step("prune:ratio=0.5,method=magnitude").ratio
        0.5
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
        settings[key] = (
            [parse_scalar(one) for one in value.split("+")] if "+" in value[1:] else parse_scalar(value)
        )
    return STEPS[name].of(settings, name, RecipeError)


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
    if isinstance(value, list):
        return "+".join(_typed(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
