"""The whole answer of `kleiber plan`: open, find the size if it was left open, spread, plan, measure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kleiber.cost.layouts import Layout, parse_layout
from kleiber.errors import RecipeError, UsageError
from kleiber.models import parse_size
from kleiber.runs import Recipe
from kleiber.study.cost_document import CostPlan, PlannedLayout
from kleiber.study.cost_plan import plan_cost, rank_all_layouts
from kleiber.study.job import Job
from kleiber.study.limits import Limits, is_size_open
from kleiber.study.measured_plan import file_entries, measure_plan
from kleiber.study.optimum import Optimum
from kleiber.study.place import Place
from kleiber.study.planned_model import Asked, Planned, default_usage, open_planned, shorthand

if TYPE_CHECKING:
    from kleiber.scaling import Law, PublishedLaw

__all__ = ["answer"]


def answer(
    asked: Asked,
    place: Place,
    job: Job,
    limits: Limits,
    *,
    law: str | None = None,
    module_depth: int = 0,
    ledger: Path | None = None,
) -> CostPlan:
    """Return the plan of what was asked.

    Args:
        asked: The model and its use.
        place: Where.
        job: How long.
        limits: A budget; with one and a size left open the best size is found first.
        law: Of the budget: a published one, or a file; None takes Besiroglu's.
        module_depth: Levels of modules to show.
        ledger: Where real steps are filed beside the plan; None runs none.

    Raises:
        UsageError: What was asked cannot be, in one sentence.
        KleiberError: Measuring failed.
    """
    if law is not None:
        _law(law)
    _check(asked, place, job, limits, law, is_measured=ledger is not None)
    optimum = None
    if limits.is_asked and is_size_open(asked.text):
        optimum = _optimum(asked, place, limits, _law(law))
        asked, job = _chosen(asked, optimum)
    planned = open_planned(asked, place, job)
    place, layouts = _spread(planned, place)

    def planned_for(length: Job) -> CostPlan:
        return plan_cost(
            planned.model,
            planned.usage,
            place,
            length,
            convention=asked.convention,
            module_depth=module_depth,
        )

    plan = planned_for(planned.job)
    if limits.is_asked and optimum is None:
        from kleiber.study.bought import room_of  # noqa: PLC0415 - laws are not for every plan

        room = room_of(planned.model, plan, place, limits, _law(law))
        if room.num_steps is not None and job == Job():
            plan = planned_for(Job(steps=room.num_steps))
        plan = plan.model_copy(update={"room": room})
    plan = plan.model_copy(update={"optimum": optimum, "layouts": layouts})
    if planned.usage.mode == "infer":
        from kleiber.study.planned_latency import planned_latencies  # noqa: PLC0415 - NumPy is not for every plan

        plan = plan.model_copy(update={"latencies": planned_latencies(planned.model.spec, place)})
    if ledger is None:
        return plan
    file_entries(ledger, ())  # before minutes are spent: can it be written?
    entries = measure_plan(plan, planned.arguments, place)
    file_entries(ledger, entries)
    return plan.model_copy(update={"measured": entries})


def _check(
    asked: Asked, place: Place, job: Job, limits: Limits, law: str | None, *, is_measured: bool
) -> None:
    """Refuse what would be left aside."""
    if is_measured and not place.is_here:
        raise UsageError(
            "--device is another one, and --measure runs real steps here.",
            got=place.device.name,
            hint="--measure",
        )
    for option, value in (("--law", law), ("--inference-tokens", limits.inference_tokens or None)):
        if value is not None and not limits.is_asked:
            raise UsageError(
                f"{option} says what is best to do with a budget, and there is none.",
                got=value,
                hint=f"--budget-flops 1e19 {option} {value}",
            )
    family = asked.text.partition(":")[0]
    if limits.is_asked and is_size_open(asked.text) and family != "gpt":
        raise UsageError(
            f"A budget finds the size of a gpt, whose law is known; the size of a {family} must be given.",
            got=asked.text,
            hint=f"kleiber plan {family}:depth=12 --budget-hours 24",
        )
    if limits.is_asked and is_size_open(asked.text) and job != Job():
        raise UsageError(
            "--tokens, --samples and --epochs are for a given size: a budget finds the tokens with the size.",
            hint="kleiber plan gpt:depth=12 --tokens 2e9",
        )


def _law(text: str | None) -> Law | PublishedLaw:
    from kleiber.study.bought import read_law  # noqa: PLC0415 - laws are not for every plan

    return read_law(text or "besiroglu")


def _optimum(asked: Asked, place: Place, limits: Limits, law: Law | PublishedLaw) -> Optimum:
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
    from kleiber.study.bought import best_of_budget  # noqa: PLC0415 - laws are not for every plan

    return best_of_budget(model, usage, place, limits, law, vocab_size=data.vocab_size, context=data.context)


def _chosen(asked: Asked, optimum: Optimum) -> tuple[Asked, Job]:
    run = optimum.fitting or optimum.best
    spec = run.spec
    sized = replace(asked, text=shorthand(spec), context=spec.context, vocab_size=spec.vocab_size)
    return sized, Job(tokens=float(run.num_tokens))


def _spread(planned: Planned, place: Place) -> tuple[Place, tuple[PlannedLayout, ...]]:
    """Return the place with the layout that was asked for; or else with the best one, and all of them ranked."""
    if place.layout is not None:
        return place, ()
    if place.num_devices == 1:
        return replace(place, layout=Layout()), ()
    layouts = rank_all_layouts(planned.model, planned.usage, place)
    best = layouts[0]
    if best.memory_bytes is None:
        raise RecipeError(
            f"There is no way to spread {planned.model.name} over {place.num_devices} devices; {best.layout}: {best.why_not}.",
            hint=f"--batch {place.num_devices * planned.usage.accumulation}",
        )
    return replace(place, layout=parse_layout(best.layout)), layouts
