"""The rates of a design, tuned once on a small model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kleiber.errors import DivergedError, RecipeError
from kleiber.models import resolve_spec
from kleiber.models.gpt import GPTSpec
from kleiber.runs import ModelRecipe, ParametrizationRecipe, Recipe, now
from kleiber.study.design import LadderDesign
from kleiber.study.tuning.document import BestRates, Tuning, TuningTrial
from kleiber.study.tuning.proxy import Proxy, Trial, proxy_recipe
from kleiber.study.tuning.search import Searched, search_powers
from kleiber.train import Progress

__all__ = ["TUNED_FILE", "TUNING_FILE", "TuneSettings", "fitted_exponent", "tune"]

TUNED_FILE, TUNING_FILE = "ladder.yaml", "tuning.json"
_MIN_TRIALS = 3
"""Of one search: a rate and both its neighbours."""
_STEEPEST = 2.0
"""Power of the tokens that no recipe takes."""
_PUBLISHED_EXPONENT = ParametrizationRecipe().token_exponent


@dataclass(frozen=True)
class TuneSettings:
    """How far a search goes."""

    rule: Literal["standard", "mup_simple", "completep"] = "completep"
    """Written into the design."""
    model: ModelRecipe | None = None
    """The small model; None takes the smallest of the ladder."""
    horizons: tuple[int, ...] = ()
    """Steps of the trials, shortest first; none takes the shortest of the ladder. Two or more fit the horizon's exponent."""
    num_seeds: int = 1
    max_trials: int = 16
    """Rates that are tried, over all horizons."""


class _Search:
    """Trials so far, and how many may follow."""

    def __init__(self, proxy: Proxy, max_trials: int) -> None:
        self.proxy, self.max_trials = proxy, max_trials
        self.losses: dict[Trial, float] = {}

    @property
    def num_left(self) -> int:
        return self.max_trials - len(self.losses)

    @property
    def num_steps(self) -> int:
        return sum(trial.num_steps for trial in self.losses)

    def least(self, num_steps: int) -> float:
        return min(loss for trial, loss in self.losses.items() if trial.num_steps == num_steps)

    def loss(self, trial: Trial) -> float:
        if trial not in self.losses:
            self.losses[trial] = self.proxy.loss(trial)
        return self.losses[trial]

    def along(self, axis: Literal["joint", "matrix"], at: Trial, max_trials: int) -> Searched:
        """Return the best power of one axis from a trial on; what is known costs nothing."""
        known = sum(replace(at, **{axis: getattr(trial, axis)}) == trial for trial in self.losses)
        return search_powers(
            lambda power: self.loss(replace(at, **{axis: power})),
            start=round(getattr(at, axis)),
            max_trials=known + max_trials,
        )


def tune(
    design: LadderDesign,
    folder: Path,
    settings: TuneSettings,
    report: Callable[[Progress], Any] | None = None,
) -> Tuning:
    """Search the rates of a small model; write the design with them, and what was tried, into `folder`.

    Both rates together first, in powers of two from the design's, then that of the hidden matrices alone, then both again; at
    longer horizons both together. Where the best stands between powers says a parabola. What has been trained is not trained
    again.

    Args:
        design: Its data is ready (`prepare_data`).
        folder: Gets trials/, ladder.yaml and tuning.json.
        settings: How far the search goes.
        report: Called at every log step of a trial.

    Raises:
        RecipeError: The optimizer has no rates of its own for matrices, a horizon does not hold the warm-up, or too few trials are
            allowed.
        DivergedError: Every trial diverges.
        Interrupted: SIGINT or SIGTERM; the same command goes on.
    """
    horizons = settings.horizons or (min(part.horizons[0] for part in design.parts),)
    _check(design, settings, horizons)
    base = _plain(proxy_recipe(design, settings.model))
    spec = _gpt(base)
    seeds = tuple(range(settings.num_seeds))
    search = _Search(Proxy(base, seeds, folder / "trials", report), settings.max_trials)
    joint, matrix, at = _first(search, Trial(0, 0, horizons[0]), _MIN_TRIALS * (len(horizons) - 1))
    found = [_best(base, search, at.num_steps, joint, matrix)]
    for place, num_steps in enumerate(horizons[1:], start=1):
        expected = joint.best - _PUBLISHED_EXPONENT * math.log2(num_steps / horizons[0])
        at = replace(at, joint=round(expected), num_steps=num_steps)
        later = search.along("joint", at, search.num_left // (len(horizons) - place))
        found.append(_best(base, search, num_steps, later, matrix))
    exponent, is_fitted, notes = _exponent(found)
    tuning = Tuning(
        proxy=base.model,
        num_params=spec.count().total,
        trials=tuple(_shown(base, trial, loss) for trial, loss in search.losses.items()),
        best=tuple(found),
        rule=settings.rule,
        token_exponent=exponent,
        is_exponent_fitted=is_fitted,
        train_flops=float(spec.flops(base.train.batch_size).total * settings.num_seeds * search.num_steps),
        notes=(*(_edge_note(one) for one in found if not one.is_bracketed), *notes),
        created_at=now(),
    )
    tuned_design(design, tuning).write(folder / TUNED_FILE)
    tuning.write(folder / TUNING_FILE)
    return tuning


def _check(design: LadderDesign, settings: TuneSettings, horizons: Sequence[int]) -> None:
    train = design.base.train
    if settings.rule != "standard" and train.optimizer.name not in {"adamw", "muon"}:
        raise RecipeError(
            f"rates of {train.optimizer.name} are not carried over by {settings.rule}, those of adamw and muon are.",
            got=f"base.train.optimizer.name={train.optimizer.name}",
            hint="--rule standard   or --set base.train.optimizer.name=adamw",
        )
    needed = _MIN_TRIALS * (1 + len(horizons))
    if settings.max_trials < needed:
        raise RecipeError(
            f"a search over both rates and {len(horizons)} horizons takes {needed} trials or more.",
            got=settings.max_trials,
            hint=f"--max-trials {2 * needed}",
        )
    if list(horizons) != sorted(set(horizons)) or horizons[0] <= train.schedule.warmup_steps:
        raise RecipeError(
            f"the horizons of trials must rise, and be longer than the warm-up of {train.schedule.warmup_steps} steps.",
            got=", ".join(str(steps) for steps in horizons),
            hint=f"--steps {4 * max(1, train.schedule.warmup_steps)}",
        )


def _gpt(recipe: Recipe) -> GPTSpec:
    spec = resolve_spec(recipe)
    if not isinstance(spec, GPTSpec):
        raise RecipeError(
            "rates are tuned and carried over for gpt alone.",
            got=spec.family,
            hint="--model gpt:depth=2,width=64",
        )
    return spec


def _plain(recipe: Recipe) -> Recipe:
    """Return the recipe without a rule: at the size that is tuned every factor is 1."""
    changes = {"parametrization": ParametrizationRecipe()}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=changes)})


def _first(search: _Search, at: Trial, num_reserved: int) -> tuple[Searched, Searched, Trial]:
    """Return what searches of both rates and of the matrices' found, and the best trial of the grid."""
    joint = search.along("joint", at, search.num_left - num_reserved - _MIN_TRIALS + 1)
    at = replace(at, joint=joint.best_power)
    matrix = search.along("matrix", at, search.num_left - num_reserved)
    at = replace(at, matrix=matrix.best_power)
    if at.matrix and search.num_left - num_reserved >= _MIN_TRIALS - 1:
        joint = search.along("joint", at, search.num_left - num_reserved)
    if not math.isfinite(joint.loss):
        raise DivergedError(
            "every trial diverged.",
            got=f"rates from 2^{min(joint.losses)} to 2^{max(joint.losses)} times those of the design",
            hint="lower ones: --set base.train.optimizer.lr=... --set base.train.optimizer.matrix_lr=...",
        )
    return joint, matrix, replace(at, joint=joint.best_power)


def _best(base: Recipe, search: _Search, num_steps: int, joint: Searched, matrix: Searched) -> BestRates:
    optimizer = base.train.optimizer
    return BestRates(
        num_steps=num_steps,
        num_tokens=base.tokens_per_step * num_steps,
        lr=optimizer.lr * 2**joint.best,
        matrix_lr=optimizer.matrix_lr * 2 ** (joint.best + matrix.best),
        loss=search.least(num_steps),
        is_bracketed=joint.is_bracketed and matrix.is_bracketed,
    )


def _exponent(found: Sequence[BestRates]) -> tuple[float, bool, tuple[str, ...]]:
    """Return the power of the tokens with which rates fall, whether it is fitted, and what is to be said of it."""
    if len(found) == 1:
        return _PUBLISHED_EXPONENT, False, ()
    fitted = fitted_exponent([one.num_tokens for one in found], [one.lr for one in found])
    if fitted >= _STEEPEST:
        said = (
            f"The best rate falls with the horizon as its power {fitted:.2f}, which is scatter between horizons so near to each "
            f"other: {_PUBLISHED_EXPONENT} is taken, as published."
        )
        return _PUBLISHED_EXPONENT, False, (said,)
    if fitted >= 0:
        return fitted, True, ()
    said = f"The best rate rises with the horizon, as its power {-fitted:.2f}: rates are left alone at longer ones."
    return 0.0, True, (said,)


def fitted_exponent(num_tokens: Sequence[float], rates: Sequence[float]) -> float:
    """Return b of the least-squares line log rate = a - b log tokens.

    Example:
        >>> round(fitted_exponent([1e6, 4e6, 16e6], [0.04, 0.02, 0.01]), 6)
        0.5
    """
    return -float(np.polyfit(np.log(num_tokens), np.log(rates), 1)[0])


def tuned_design(design: LadderDesign, tuning: Tuning) -> LadderDesign:
    """Return the design with tuned rates and the rule by which they carry over."""
    best, spec = tuning.best[0], _gpt(design.base.model_copy(update={"model": tuning.proxy}))
    rule = ParametrizationRecipe(
        name=tuning.rule,
        base_width=None if tuning.rule == "standard" else spec.width,
        base_depth=spec.depth if tuning.rule == "completep" else None,
        base_tokens=best.num_tokens,
        token_exponent=tuning.token_exponent,
    )
    train = design.base.train
    rates = train.optimizer.model_copy(update={"lr": best.lr, "matrix_lr": best.matrix_lr})
    train = train.model_copy(update={"optimizer": rates, "parametrization": rule})
    return design.model_copy(update={"base": design.base.model_copy(update={"train": train})})


def _shown(base: Recipe, trial: Trial, loss: float) -> TuningTrial:
    optimizer = trial.recipe(base, 0).train.optimizer
    return TuningTrial(
        num_steps=trial.num_steps,
        lr=optimizer.lr,
        matrix_lr=optimizer.matrix_lr,
        loss=loss if math.isfinite(loss) else None,
    )


def _edge_note(one: BestRates) -> str:
    return f"At {one.num_steps} steps the best rates stand at the edge of what was tried; more trials would say more: --max-trials."
