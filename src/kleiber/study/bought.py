"""What a budget buys: a size that was left open is found, one that was given is trained for as long as it lasts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from kleiber.cost.layouts import Layout, check_layout, rank_usage
from kleiber.cost.usage import Usage
from kleiber.errors import RecipeError, UsageError
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.blocks import block_shape
from kleiber.runs import ModelRecipe
from kleiber.scaling import Law, PublishedLaw, published_law
from kleiber.study.budget import price_of
from kleiber.study.budget_law import BudgetLaw
from kleiber.study.cost_document import CostPlan, PlannedRoom
from kleiber.study.cost_plan import device_bytes
from kleiber.study.fitting import largest_batch, largest_context, peak_bytes
from kleiber.study.gpt_layouts import roofline_rate
from kleiber.study.inverse import find
from kleiber.study.limits import Limits
from kleiber.study.model_cost import CostedModel
from kleiber.study.place import Place
from kleiber.units import format_count

if TYPE_CHECKING:
    from kleiber.study.optimum import Optimum

__all__ = ["best_of_budget", "read_law", "room_of"]

_UNITS = {"--budget-flops": "FLOP", "--budget-hours": "hours", "--budget-usd": "USD"}


def read_law(text: str) -> Law | PublishedLaw:
    """Return a published law by its name, or the fitted one in a file.

    Raises:
        UsageError: Neither a known name nor a file.
    """
    if not text.endswith(".json"):
        return published_law(text)
    if not Path(text).is_file():
        raise UsageError(f"--law {text} is no file.", hint="--law besiroglu")
    return Law.read(Path(text))


def best_of_budget(
    model: ModelRecipe,
    usage: Usage,
    place: Place,
    limits: Limits,
    law: Law | PublishedLaw,
    *,
    vocab_size: int,
    context: int,
) -> Optimum:
    """Return the size of the lowest loss that the budget buys.

    Args:
        model: A family; keys of its dial other than sizes are kept.
        usage: Of the whole batch.
        place: Where; without a layout the model is split by `fsdp` over all devices.
        limits: The budget.
        law: Loss over size and tokens.
        vocab_size: Entries of the tokenizer.
        context: Tokens of a sequence.

    Raises:
        UsageError: A budget too small for anything, or for serving alone; money without a price.
        RecipeError: The layout does not divide the batch.
    """
    layout = place.layout or Layout(fsdp=place.num_devices)
    if usage.batch_size % (layout.num_ranks * usage.accumulation):
        check_layout(layout, None, usage, place.num_devices)

    def memory(spec: GPTSpec, use: Usage) -> float:
        try:
            check_layout(layout, block_shape(spec), use, place.num_devices)
        except RecipeError:
            return math.inf
        return peak_bytes(spec, use, layout)

    found = find(
        limits.budget(place.num_devices),
        device=place.device,
        usage=usage,
        vocab_size=vocab_size,
        context=context,
        size=model.size,
        law=law,
        usd_per_hour=place.usd_per_hour,
        flops_per_s=None if place.is_here else roofline_rate(usage, place.device, layout),
        memory_of=memory,
    )
    run = found.fitting or found.best
    if run.num_tokens < usage.batch_size * context:
        raise UsageError(
            f"--inference-tokens {limits.inference_tokens:g} take all that the budget pays, even of the gpt of "
            f"{format_count(run.num_params.total)} parameters: nothing is left to train it.",
            hint=f"--inference-tokens {limits.inference_tokens / 100:g}",
        )
    return found


def room_of(
    model: CostedModel, plan: CostPlan, place: Place, limits: Limits, law: Law | PublishedLaw
) -> PlannedRoom:
    """Return what the budget and the memory leave to a model whose size was given.

    Args:
        model: The model.
        plan: Of the batch that was asked for.
        place: With its layout.
        limits: The budget.
        law: Loss over size and tokens.

    Raises:
        UsageError: The budget does not pay a single step; the sentence says what one takes.
    """
    steps = _steps_paid(plan, place, limits) if limits.has_compute else None
    tokens = (
        None if steps is None or plan.context is None else float(steps * plan.usage.batch_size * plan.context)
    )
    return PlannedRoom(
        micro_batch=_largest_micro_batch(model, plan, place),
        context=_longest_context(model, plan, place),
        num_steps=steps,
        num_tokens=tokens,
        optimal_tokens=_optimal_tokens(plan, limits, law),
    )


def _steps_paid(plan: CostPlan, place: Place, limits: Limits) -> int:
    step_flops = plan.flops.forward + plan.flops.backward
    paid = {
        "--budget-flops": None if limits.flops is None else limits.flops / step_flops,
        "--budget-hours": None if limits.hours is None else limits.hours * 3600 / plan.step_time_s,
        "--budget-usd": None
        if limits.usd is None
        else _hours_paid(place, limits.usd) * 3600 / plan.step_time_s,
    }
    option, steps = min(
        ((name, value) for name, value in paid.items() if value is not None), key=lambda item: item[1]
    )
    if steps < 1:
        needed = {
            "--budget-flops": step_flops,
            "--budget-hours": plan.step_time_s / 3600,
            "--budget-usd": plan.step_time_s / 3600 / _hours_paid(place, 1.0)
            if limits.usd is not None
            else 0.0,
        }[option]
        raise UsageError(
            f"{option} does not pay a single step of {plan.model}: a step takes {needed:.3g} {_UNITS[option]}.",
            hint=f"{option} {1000 * needed:.3g}",
        )
    return math.floor(steps)


def _hours_paid(place: Place, usd: float) -> float:
    return usd / (place.num_devices * price_of(place.device, place.usd_per_hour))


def _largest_micro_batch(model: CostedModel, plan: CostPlan, place: Place) -> int | None:
    limit, layout = place.device.memory_bytes, place.layout or Layout()
    if limit is None:
        return None
    shares = layout.num_ranks * plan.usage.accumulation

    def peak(samples: int) -> float:
        usage = plan.usage.model_copy(update={"batch_size": samples * shares})
        return device_bytes(model, model.cost(rank_usage(usage, layout)), usage, layout)

    return largest_batch(peak, limit, most=1_000_000)


def _longest_context(model: CostedModel, plan: CostPlan, place: Place) -> int | None:
    limit, layout = place.device.memory_bytes, place.layout or Layout()
    if limit is None or not isinstance(model.spec, GPTSpec):
        return None
    return largest_context(lambda spec: peak_bytes(spec, plan.usage, layout), limit, model.spec)


def _optimal_tokens(plan: CostPlan, limits: Limits, law: Law | PublishedLaw) -> float | None:
    if plan.context is None or plan.usage.mode == "infer":
        return None
    counts = {
        "total": plan.num_params.total,
        "body": plan.num_params.body,
        "matmul": plan.num_params.body
        + (plan.num_params.embedding if plan.num_params.is_tied else plan.num_params.head),
    }
    return BudgetLaw(law).best_tokens(counts[law.convention], limits.inference_tokens)
