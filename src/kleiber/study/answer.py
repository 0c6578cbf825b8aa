"""The whole answer of `kleiber plan`: open, find the size if it was left open, spread, plan, measure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kleiber.cost.layouts import Layout, parse_layout
from kleiber.errors import RecipeError, UsageError
from kleiber.models import parse_size
from kleiber.runs import Recipe
from kleiber.study.bought import Limits, best_of_budget, is_size_open, read_law, room_of
from kleiber.study.cost_document import CostPlan, PlannedLayout
from kleiber.study.cost_plan import plan_cost, rank_all_layouts
from kleiber.study.job import Job
from kleiber.study.measured_plan import file_entries, measure_plan
from kleiber.study.optimum import Optimum
from kleiber.study.place import Place
from kleiber.study.planned_model import Asked, Planned, default_usage, open_planned, shorthand

__all__ = ["Limits", "answer"]


def answer(
    asked: Asked,
    place: Place,
    job: Job,
    limits: Limits,
    *,
    law: str = "besiroglu",
    module_depth: int = 0,
    ledger: Path | None = None,
) -> CostPlan:
    """Return the plan of what was asked.

    Args:
        asked: The model and its use.
        place: Where.
        job: How long.
        limits: A budget; with one and a size left open the best size is found first.
        law: Of the budget: a published one, or a file.
        module_depth: Levels of modules to show.
        ledger: Where real steps are filed beside the plan; None runs none.

    Raises:
        UsageError: What was asked cannot be, in one sentence.
        KleiberError: Measuring failed.
    """
    optimum = None
    if limits.is_asked and is_size_open(asked.text):
        optimum = _optimum(asked, place, limits, law)
        asked, job = _chosen(asked, optimum)
    planned = open_planned(asked, place, job)
    place, layouts = _spread(planned, place)
    plan = plan_cost(
        planned.model,
        planned.usage,
        place,
        planned.job,
        convention=asked.convention,
        module_depth=module_depth,
    ).model_copy(update={"optimum": optimum, "layouts": layouts})
    if limits.is_asked and optimum is None:
        room = room_of(planned.model, plan, place, limits, read_law(law))
        plan = plan.model_copy(update={"room": room})
    if ledger is None:
        return plan
    if not place.is_here:
        raise UsageError("--measure runs here; leave --device out.", got=place.device.name)
    entries = measure_plan(plan, planned.arguments, place)
    file_entries(ledger, entries)
    return plan.model_copy(update={"measured": entries})


def _optimum(asked: Asked, place: Place, limits: Limits, law: str) -> Optimum:
    model = parse_size(asked.text)
    data = (
        Recipe(model=model)
        .with_values(
            [
                f"data.{key}={value}"
                for key, value in (("context", asked.context), ("vocab_size", asked.vocab_size))
                if value is not None
            ]
            + list(asked.sets)
        )
        .data
    )
    usage = default_usage(asked, place, context=data.context)
    return best_of_budget(
        model, usage, place, limits, read_law(law), vocab_size=data.vocab_size, context=data.context
    )


def _chosen(asked: Asked, optimum: Optimum) -> tuple[Asked, Job]:
    run = optimum.fitting or optimum.best
    spec = run.spec
    sized = replace(asked, text=shorthand(spec), context=spec.context, vocab_size=spec.vocab_size)
    return sized, Job(tokens=float(run.num_tokens))


def _spread(planned: Planned, place: Place) -> tuple[Place, tuple[PlannedLayout, ...]]:
    """Return the place with the layout that was asked for, or else the best one; and all of them, ranked."""
    if place.num_devices == 1:
        return replace(place, layout=place.layout or Layout()), ()
    layouts = rank_all_layouts(planned.model, planned.usage, place)
    if place.layout is not None:
        return place, layouts
    best = layouts[0]
    if best.memory_bytes is None:
        raise RecipeError(
            f"no way to spread {planned.model.name} over {place.num_devices} devices: {best.layout}: {best.why_not}.",
            hint=f"--batch {place.num_devices * planned.usage.accumulation}",
        )
    return replace(place, layout=parse_layout(best.layout)), layouts
