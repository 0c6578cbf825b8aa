"""What `kleiber ladder design` is asked for: a base to train like, and the run that the ladder is for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from kleiber.errors import RecipeError, nearest
from kleiber.models import FAMILIES, parse_size
from kleiber.runs import Recipe
from kleiber.runs.recipe import assign
from kleiber.study.design import LadderDesign

__all__ = ["asked_ladder"]

_EXAMPLE = "--target gpt:params=2e6@40e6"


def asked_ladder(base: str, target: str | None, assignments: Sequence[str] = ()) -> LadderDesign:
    """Return a ladder whose only rung is its target: what a design starts from.

    Args:
        base: A recipe or a ladder in YAML, or the name of a family.
        target: `FAMILY:KEY=VALUE,...@TOKENS`, samples where a sample is the unit; None takes the ladder's own.
        assignments: `KEY=VALUE` on the ladder's keys, such as `base.data.context=256`.

    Raises:
        RecipeError: No such file or family, a key or value that is not allowed, or no target.

    Example:
        >>> asked = asked_ladder("gpt", "gpt:depth=2,width=64@2e6", ["base.train.batch_size=4", "base.data.context=250"])
        >>> asked.target.model.size, asked.target.num_steps
        ({'depth': 2, 'width': 64}, 2000)
    """
    raw = assign(_raw(base), assignments)
    recipe = Recipe.of(raw.get("base", {}), "the base", RecipeError)
    if target is not None:
        known = raw.get("target") or {}
        if not isinstance(known, dict):
            raise RecipeError("target takes keys such as model and num_steps.", got=known, hint=_EXAMPLE)
        raw["target"] = {**known, **_target(target, recipe)}
    elif "target" not in raw:
        raise RecipeError("A design needs the run that the ladder is for.", hint=_EXAMPLE)
    run = raw["target"]
    whole = {
        **{key: value for key, value in raw.items() if key not in ("seeds", "rungs", "within")},
        "sizes": [run["model"]] if isinstance(run, dict) and "model" in run else [],
        "horizons": [run["num_steps"]] if isinstance(run, dict) and "num_steps" in run else [],
    }
    return LadderDesign.of(whole, "the ladder", RecipeError)


def _raw(base: str) -> dict[str, Any]:
    if base in FAMILIES:
        return {"base": {"model": {"family": base}}}
    path = Path(base)
    if not path.is_file():
        raise RecipeError(
            f"{base!r} is neither a file nor a family. {nearest(base, FAMILIES)}",
            hint=f"kleiber ladder design gpt {_EXAMPLE} --budget-flops 1e14",
        )
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) if path.suffix in (".yaml", ".yml") else None
    except (yaml.YAMLError, UnicodeDecodeError):
        raw = None  # read as a recipe below, which is refused with the reason
    if isinstance(raw, dict) and ("base" in raw or "target" in raw):
        return raw
    # A recipe; it says what is wrong with it itself.
    return {"base": Recipe.read(path, RecipeError).model_dump(mode="json", exclude_unset=True)}


def _target(text: str, recipe: Recipe) -> dict[str, Any]:
    size, _, tokens = text.rpartition("@")
    try:
        number = float(tokens)
    except ValueError:
        number = 0.0
    if not size or not 0 < number < 1e18:
        raise RecipeError("A target is written FAMILY:KEY=VALUE,KEY=VALUE@TOKENS.", got=text, hint=_EXAMPLE)
    model = parse_size(size)
    num_steps = max(1, round(number / recipe.tokens_per_step))
    return {"model": {"family": model.family, **model.size}, "num_steps": num_steps}
