"""Which sizes are worth a budget, chosen before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kleiber.errors import RecipeError
from kleiber.models import resolve_spec
from kleiber.runs import ModelRecipe, ParametrizationRecipe, Recipe
from kleiber.study.growing.asked import Asked
from kleiber.study.growing.design import Line, StudyDesign, members_of, sized
from kleiber.study.growing.extent import affordable_size
from kleiber.study.growing.lines import lines_between, smallest_size

__all__ = ["choose_design"]

_GROWTH = 1.25
"""Between the largest sizes that a budget is tried with."""
_MAX_PARAMS = 1e9
_MOST_DECADES = 6.0
_WARMUP_FRAC = 0.1
_STRETCHES = (1.0, 1.1, 1.2, 1.35, 1.5)


def choose_design(asked: Asked, base: Recipe) -> StudyDesign:
    """Return the design of what is asked.

    Args:
        asked: What to study, in which time.
        base: Its recipe, with the shape of its data.

    Raises:
        RecipeError: The family's dial has too few sizes for this range, or the recipe carries its rates over by a rule of its own.
    """
    if asked.decades > _MOST_DECADES:
        raise RecipeError(
            f"a study spans at most {_MOST_DECADES:g} decades of N.",
            got=f"{asked.decades:g}",
            hint="--decades 2",
        )
    if base.train.parametrization != ParametrizationRecipe():
        raise RecipeError(
            "a study finds the rates of all sizes by itself: train.parametrization must be left out.",
            got=base.train.parametrization.name,
            hint="--set train.parametrization={}",
        )
    if asked.high is not None:
        high = asked.high
        low = asked.low if asked.low is not None else high / 10**asked.decades
    else:
        smallest = max(smallest_size(base), asked.low or 0.0)
        high = _affordable(asked, base, smallest)
        low = asked.low if asked.low is not None else high / 10**asked.decades
    lines, notes = _wide_enough(asked, base, low, high)
    return StudyDesign(
        base=base,
        **{str(line): models for line, models in lines.items()},
        seeds=tuple(range(asked.seed, asked.seed + asked.num_seeds)),
        budget_s=asked.budget_s,
        num_workers=asked.num_workers,
        # A recipe that was read from a study's folder says every key: whether it was said is settled here.
        warmup_frac=None if "warmup_steps" in base.train.schedule.model_fields_set else _WARMUP_FRAC,
        notes=tuple(notes),
    )


def _wide_enough(
    asked: Asked, base: Recipe, low: float, high: float
) -> tuple[dict[Line, tuple[ModelRecipe, ...]], list[str]]:
    """Return the lines; where the budget chose the range, of as many decades as were asked, though sizes are few."""
    for stretch in _STRETCHES if asked.high is None else (1.0,):
        lines, notes = lines_between(base, low, high * stretch, asked.num_sizes)
        ends = [resolve_spec(sized(base, lines["both"][k])).count().total for k in (0, -1)]
        if ends[1] >= ends[0] * 10**asked.decades:
            break
    return lines, notes


def _affordable(asked: Asked, base: Recipe, smallest: float) -> float:
    """Return the largest N that the budget is worth, of those `decades` above the smallest."""
    first = smallest * 1.15 * 10**asked.decades
    count = int(np.ceil(np.log(_MAX_PARAMS / first) / np.log(_GROWTH)))
    specs_of = {}
    for high in (first * _GROWTH**k for k in range(max(1, count))):
        lines, _ = lines_between(base, high / 10**asked.decades, high, 5)
        specs_of[high] = [member.spec for member in members_of(_rough(asked, base, lines["both"]))]
        best = affordable_size(
            specs_of,
            asked.budget_s,
            asked.num_workers,
            batch_size=base.train.batch_size,
            num_seeds=asked.num_seeds,
        )
        if best < high:
            return best
    return max(specs_of)


def _rough(asked: Asked, base: Recipe, both: Sequence[object]) -> StudyDesign:
    return StudyDesign.model_validate(
        {"base": base, "both": tuple(both), "budget_s": asked.budget_s, "num_workers": asked.num_workers}
    )
