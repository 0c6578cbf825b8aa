"""A ladder designed for one run to come: its rungs, what each buys, and what an even grid of the same cost would."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from kleiber.cost import Calibration
from kleiber.errors import UsageError
from kleiber.models import resolve_spec
from kleiber.runs import Document, ModelRecipe, Recipe, now
from kleiber.scaling import Law
from kleiber.study.design import LadderDesign, RungDesign, WithinDesign, target_recipe
from kleiber.study.designing.beliefs import beliefs_of
from kleiber.study.designing.candidates import Unit, grid_of
from kleiber.study.designing.even import best_even_grid
from kleiber.study.designing.grid import Grid, Guard, State
from kleiber.study.designing.information import Information
from kleiber.study.designing.search import Search

__all__ = ["Bought", "Designed", "Even", "check_law", "design_ladder", "probe_ladder", "rungs_of_state"]

_DESIGNABLE = ("N", "D")


class Bought(Document):
    """All trunks of one size: what they cost and tell."""

    name: str
    """As its runs begin, such as `d3-w32`."""
    model: ModelRecipe
    num_params: float
    """N by the ladder's count."""
    num_tokens: tuple[float, ...]
    """D of each run, rising; a number stands once a seed."""
    num_trunks: int
    cost: float
    """In the unit of the budget, summed over what trains side by side."""
    train_flops: float
    """Trunks once, cool-downs added."""
    half_width_without_frac: float
    """Of the 80% interval at the target if this size were left out."""


class Even(Document):
    """The best even grid of about the same cost: four sizes, three horizons, two seeds."""

    sizes: tuple[float, ...]
    num_tokens: tuple[float, ...]
    num_seeds: int
    cost: float
    half_width_frac: float


class Designed(Document):
    """What was designed, for whom, and how much is hoped for."""

    unit: Unit
    budget: float
    cost: float
    factor: float
    """Compute of the target over that of the dearest run, at least."""
    target_params: float
    target_tokens: float
    rungs: tuple[Bought, ...]
    half_width_frac: float
    """Foreseen half-width of the 80% interval of the target's loss, over the loss."""
    least_half_width_frac: float
    """What no ladder gets below: the scatter of one run."""
    even: Even | None
    """None where the budget holds no even grid."""
    rests_on: str
    """In a sentence."""
    created_at: str


def design_ladder(
    asked: LadderDesign,
    *,
    budget: float,
    unit: Unit,
    factor: float = 10.0,
    law: Law | None = None,
    calibration: Calibration | None = None,
    first_seed: int = 1,
) -> tuple[LadderDesign, Designed]:
    """Return a ladder whose forecast of the target will be as sure as the budget allows, and what each rung buys.

    The half-width of the target's interval is foreseen for every ladder that the search looks at, on average over forms and
    over what is believed of their coefficients (`Information`); rungs are added by what they narrow for their cost, and
    exchanged. Whatever the design's law says, a ladder has four sizes, three horizons, two repeats and a span of ten in
    compute: for no law is certain beforehand.

    Args:
        asked: Base, target, workers and count; its rungs are replaced.
        budget: Of the ladder, the target left out.
        unit: Of the budget.
        factor: Compute of the target over that of the dearest run, at least.
        law: Of earlier runs like these, in N and D.
        calibration: Of this machine, for seconds.
        first_seed: Of the trunks of each size.

    Raises:
        UsageError: A budget that holds no such ladder, a factor that is not above 1, or a law of other inputs.
        RecipeError: A target whose size or horizon cannot be scaled down.
    """
    for name, value, least in (("budget", budget, 0.0), ("factor", factor, 1.0)):
        if not (math.isfinite(value) and value > least):
            raise UsageError(f"{name} must be above {least:g}.", got=value)
    check_law(law, asked)
    recipe = target_recipe(asked)
    grid = grid_of(
        recipe,
        factor=factor,
        unit=unit,
        convention=asked.count,
        num_workers=asked.num_workers,
        calibration=calibration,
    )
    target = float(resolve_spec(recipe).count().by(asked.count)), float(recipe.num_tokens)
    beliefs = beliefs_of(grid, target, law)
    information = Information(beliefs)
    state = Search(grid, information, budget, Guard()).best()
    if state is None:
        raise _too_little(grid, information, budget, factor)
    design = LadderDesign.model_validate(
        {
            **asked.model_dump(mode="json", exclude={"sizes", "horizons", "seeds", "rungs", "within"}),
            "rungs": [one.model_dump(mode="json") for one in rungs_of_state(grid, state, first_seed)],
            "within": WithinDesign(amount=budget, unit=unit, factor=factor).model_dump(),
        }
    )
    return design, Designed(
        unit=unit,
        budget=budget,
        cost=grid.cost(state),
        factor=factor,
        target_params=target[0],
        target_tokens=target[1],
        rungs=tuple(_bought(grid, information, state, recipe)),
        half_width_frac=information.half_width_frac(state),
        least_half_width_frac=information.least_half_width_frac(),
        even=_even(grid, information, budget),
        rests_on=beliefs.says,
        created_at=now(),
    )


def check_law(law: Law | None, asked: LadderDesign) -> None:
    """Refuse a law that says nothing of sizes and tokens by the ladder's own count.

    Raises:
        UsageError: It is a function of something else, of accuracies, or counts other parameters.
    """
    if law is None:
        return
    if not set(law.shape.inputs) <= set(_DESIGNABLE) or law.loss_unit == "accuracy":
        raise UsageError(
            f"A design needs a law of losses in N and D; this one is of form {law.form!r}.",
            hint="kleiber fit ROWS --form chinchilla -o law.json",
        )
    if law.convention != asked.count:
        raise UsageError(
            f"The law counts {law.convention} parameters and the ladder {asked.count}.",
            hint=f"kleiber fit ROWS --count {asked.count} -o law.json",
        )


def rungs_of_state(grid: Grid, state: State, first_seed: int) -> Iterator[RungDesign]:
    """Yield the rungs of a state: trunks of one size with the same horizons together, each seed of a size once."""
    for size, trunks in zip(grid.sizes, state, strict=True):
        seeds = iter(range(first_seed, first_seed + len(trunks)))
        for horizons in dict.fromkeys(trunks):
            own = [next(seeds) for trunk in trunks if trunk == horizons]
            steps = sorted(grid.horizons[h] for h in horizons)
            yield RungDesign(model=size.model, seeds=tuple(own), horizons=tuple(steps))


def _bought(grid: Grid, information: Information, state: State, recipe: Recipe) -> Iterator[Bought]:
    for i, (size, trunks) in enumerate(zip(grid.sizes, state, strict=True)):
        if not trunks:
            continue
        without: State = (*state[:i], (), *state[i + 1 :])
        tokens = sorted(grid.horizons[h] * float(grid.tokens_per_step) for trunk in trunks for h in trunk)
        spec = resolve_spec(recipe.model_copy(update={"model": size.model}))
        yield Bought(
            name=f"d{spec.depth}-w{spec.width}",
            model=size.model,
            num_params=size.num_params,
            num_tokens=tuple(tokens),
            num_trunks=len(trunks),
            cost=sum(grid.trunk_cost(i, trunk) for trunk in trunks),
            train_flops=sum(grid.trunk_steps(trunk) * size.step_flops for trunk in trunks),
            half_width_without_frac=information.half_width_frac(without),
        )


def _even(grid: Grid, information: Information, budget: float) -> Even | None:
    state = best_even_grid(grid, information, budget)
    if state is None:
        return None
    used = [i for i, trunks in enumerate(state) if trunks]
    return Even(
        sizes=tuple(grid.sizes[i].num_params for i in used),
        num_tokens=_tokens(grid, sorted(state[used[0]][0])),
        num_seeds=len(state[used[0]]),
        cost=grid.cost(state),
        half_width_frac=information.half_width_frac(state),
    )


def _tokens(grid: Grid, horizons: Sequence[int]) -> tuple[float, ...]:
    return tuple(grid.horizons[h] * float(grid.tokens_per_step) for h in horizons)


def _too_little(grid: Grid, information: Information, budget: float, factor: float) -> UsageError:
    """Return what to say when no ladder was found."""
    needs = "four sizes, three horizons and two repeats that span ten times in compute"
    starts = Search(grid, information, math.inf, Guard()).starts()
    least = min((grid.cost(state) for state in starts), default=math.inf)
    if math.isinf(least):
        return UsageError(
            f"No ladder for this target has {needs}: runs of at most 1/{factor:g} of its compute are too few.",
            got=f"{len(grid.sizes)} sizes, horizons {', '.join(map(str, grid.horizons))}",
            hint="a smaller --factor, a shorter warm-up, or fewer samples a step",
        )
    return UsageError(
        f"The budget holds no ladder of {needs}; the least costs {least:.3g}.",
        got=f"{budget:.3g}",
        hint="a larger budget, fewer samples a step, or a smaller target",
    )


def probe_ladder(asked: LadderDesign, factor: float) -> LadderDesign:
    """Return a ladder of the smallest, the middle and the largest size that a design chooses from: what a machine is measured by."""
    sizes = grid_of(target_recipe(asked), factor=factor, unit="flops", convention=asked.count).sizes
    chosen = [sizes[0], sizes[len(sizes) // 2], sizes[-1]]
    return asked.model_copy(update={"sizes": tuple(size.model for size in chosen)})
