"""What a model needs when it is used so, there: everything that `kleiber plan` says, from one step's cost."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace

from kleiber.cost import (
    LINKS_GBIT_PER_S,
    SERVED_FORMATS,
    checkpoint_bytes,
    energy_kwh,
    send_time_s,
    served_bytes,
    usd,
)
from kleiber.cost.flops import FlopConvention
from kleiber.cost.kv_cache import kv_cache_bytes
from kleiber.cost.layouts import Layout, check_layout, rank_usage
from kleiber.cost.memory import StepMemory
from kleiber.cost.module_cost import ModuleCost
from kleiber.cost.sharding import SHARDING_SAYS, sharded_memory
from kleiber.cost.step_cost import StepCost
from kleiber.cost.usage import PRECISIONS, Usage
from kleiber.models.seen_data import seen_by
from kleiber.study.cost_document import (
    CostPlan,
    PlannedDisk,
    PlannedFlops,
    PlannedLayout,
    PlannedModule,
    PlannedMoment,
    PlannedParams,
)
from kleiber.study.job import Job
from kleiber.study.layout_ranking import every_layout, rank_layouts
from kleiber.study.model_cost import CostedModel, check_micro_batches
from kleiber.study.place import Place
from kleiber.study.planned_time import planned_time
from kleiber.units import format_bytes

__all__ = ["device_bytes", "plan_cost", "planned_memory", "rank_all_layouts"]


def plan_cost(
    model: CostedModel,
    usage: Usage,
    place: Place,
    job: Job,
    *,
    convention: FlopConvention = "causal",
    module_depth: int = 1,
) -> CostPlan:
    """Return what `model` needs.

    Args:
        model: Counted in closed form or traced.
        usage: Of the whole batch, over all devices.
        place: Where.
        job: How long it is.
        convention: In which `model` counts.
        module_depth: Levels of modules below the model that are shown.

    Raises:
        RecipeError: The layout does not divide model or batch; the model's code fails; the device has no peak for
            the precision.
    """
    layout = place.layout or Layout()
    cost = _cost_of_share(model, usage, layout, place.num_devices)
    memory = planned_memory(cost, usage, layout)
    time = planned_time(cost, usage, place, model.spec)
    shares = layout.num_ranks
    num_steps = job.num_steps(usage.batch_size, cost.tokens_per_sample)
    num_samples = None if num_steps is None else num_steps * usage.batch_size
    total_time_s = None if num_steps is None else num_steps * time.step_time_s
    step_flops = shares * (cost.flops("forward") + cost.flops("backward"))
    limit, peak, cache = place.device.memory_bytes, memory.summary(), _kv_cache(model, usage)
    needed = device_bytes(model, cost, usage, layout)
    return CostPlan(
        model=model.name,
        spec=model.spec,
        shape=None if model.spec is None else seen_by(model.spec),
        usage=usage,
        context=cost.tokens_per_sample,
        device=place.device.name,
        dtype=usage.precision,
        num_devices=place.num_devices,
        layout=layout.name,
        num_params=_params(cost),
        flops=PlannedFlops(
            forward=shares * cost.flops("forward"),
            backward=shares * cost.flops("backward"),
            convention=convention,
            by_kind={kind: shares * flops for kind, flops in cost.flops_by_kind().items()},
        ),
        memory_bytes=peak,
        fullest_moment=memory.fullest_moment,
        memory_limit_bytes=limit,
        fits=None if limit is None else needed <= limit,
        kv_cache_bytes=cache,
        disk=_disk(cost),
        num_steps=num_steps,
        num_samples=num_samples,
        num_tokens=num_samples and cost.tokens_per_sample and num_samples * cost.tokens_per_sample,
        train_flops=None if num_steps is None else float(num_steps * step_flops),
        step_time_s=time.step_time_s,
        time_by_kind=time.by_kind,
        communication_s=time.communication_s,
        bubble_frac=time.bubble_frac,
        total_time_s=total_time_s,
        energy_kwh=_energy(place, total_time_s),
        usd=_price(place, total_time_s),
        modules=tuple(_modules(cost.modules, module_depth)),
        moments=tuple(PlannedMoment(name=at.name, held_bytes=dict(at.held_bytes)) for at in cost.moments),
        assumptions=(
            *cost.says,
            time.says,
            *_memory_says(memory, needed, usage, place, layout, is_family=model.spec is not None),
            *_price_says(place),
        ),
    )


def rank_all_layouts(model: CostedModel, usage: Usage, place: Place) -> tuple[PlannedLayout, ...]:
    """Return every way to spread the model over the devices: what fits by predicted time, then why each other fails.

    A traced model is traced once for each share of the batch.

    Args:
        model: As for `plan_cost`.
        usage: Of the whole batch.
        place: Its devices; its layout is left aside.
    """

    @functools.cache
    def cost_of(layout: Layout) -> StepCost:
        return _cost_of_share(model, usage, layout, place.num_devices)

    ranked = rank_layouts(
        every_layout(place.num_devices),
        check=lambda layout: check_layout(layout, cost_of(layout).blocks, usage, place.num_devices),
        memory_of=lambda layout: device_bytes(model, cost_of(layout), usage, layout),
        time_of=lambda layout: (
            planned_time(cost_of(layout), usage, replace(place, layout=layout), model.spec).step_time_s
        ),
        limit_bytes=place.device.memory_bytes,
    )
    return tuple(
        PlannedLayout(
            layout=one.layout.name,
            fits=one.fits,
            step_time_s=one.step_time_s,
            memory_bytes=one.memory_bytes,
            why_not=one.why_not,
        )
        for one in ranked
    )


def _cost_of_share(model: CostedModel, usage: Usage, layout: Layout, num_devices: int) -> StepCost:
    """Return the step of one share of the batch, once model and batch are known to divide."""
    if layout.num_ranks == 1:  # a shorter sentence than that of shares
        check_micro_batches(usage)
    check_layout(layout, model.blocks, usage, num_devices)
    return model.cost(rank_usage(usage, layout))


def planned_memory(cost: StepCost, usage: Usage, layout: Layout) -> StepMemory:
    """Return what the fullest device holds.

    Args:
        cost: Of one share of the batch.
        usage: Of the whole batch.
        layout: How the model is spread.
    """
    return sharded_memory(
        cost.memory,
        cost.num_params,
        cost.blocks,
        layout,
        usage,
        tokens_per_sample=cost.tokens_per_sample or 1,
        gradients_at=cost.gradients_at,
    )


def device_bytes(model: CostedModel, cost: StepCost, usage: Usage, layout: Layout) -> float:
    """Return what the fullest device must hold [bytes]: its peak, and its part of the cache when it serves.

    Args:
        model: Knows the cache, which sequences, heads and blocks split evenly.
        cost: Of one share of the batch.
        usage: Of the whole batch.
        layout: How the model is spread.
    """
    cache = _kv_cache(model, usage) or 0
    return planned_memory(cost, usage, layout).summary().peak + cache / layout.num_devices


def _params(cost: StepCost) -> PlannedParams:
    groups = cost.num_params
    return PlannedParams(
        total=groups.total,
        trainable=cost.num_trainable,
        active=cost.num_active,
        embedding=groups.embedding,
        body=groups.body,
        head=groups.head,
        is_tied=groups.is_tied,
    )


def _kv_cache(model: CostedModel, usage: Usage) -> int | None:
    blocks, tokens = model.blocks, model.tokens_per_sample
    if usage.mode == "train" or blocks is None or tokens is None or not model.has_cache:
        return None
    return kv_cache_bytes(blocks, usage.batch_size, tokens, value_bytes=PRECISIONS[usage.precision])


def _disk(cost: StepCost) -> PlannedDisk:
    groups = cost.num_params
    served = {
        name: served_bytes(
            groups.total,
            name,
            num_embedding=0 if groups.is_tied else groups.embedding,
            num_output=groups.embedding if groups.is_tied else groups.head,
        )
        for name in SERVED_FORMATS
    }
    checkpoint = checkpoint_bytes(groups.total, cost.memory.optimizer)
    sent = {"checkpoint": checkpoint, **served}
    return PlannedDisk(
        checkpoint_bytes=checkpoint,
        served_bytes=served,
        send_time_s={
            name: {f"{rate}": send_time_s(size, rate) for rate in LINKS_GBIT_PER_S}
            for name, size in sent.items()
        },
    )


def _energy(place: Place, total_time_s: float | None) -> float | None:
    if total_time_s is None or place.device.watts is None:
        return None
    return energy_kwh(place.device, place.num_devices, total_time_s)


def _price(place: Place, total_time_s: float | None) -> float | None:
    if total_time_s is None:
        return None
    return usd(place.device, place.num_devices, total_time_s, usd_per_hour=place.usd_per_hour)


def _modules(tree: ModuleCost, depth: int) -> Iterator[PlannedModule]:
    yield PlannedModule(
        path=tree.path,
        type_name=tree.type_name,
        num_params=tree.num_params,
        forward_flops=tree.forward_flops,
        backward_flops=tree.backward_flops,
        activation_bytes=tree.activation_bytes,
    )
    for child in tree.children if depth > 0 else ():
        yield from _modules(child, depth - 1)


def _memory_says(
    memory: StepMemory, needed: float, usage: Usage, place: Place, layout: Layout, *, is_family: bool
) -> Iterator[str]:
    beside = (
        "what the process holds after its imports stands beside it"
        if place.is_here
        else "the driver's context and the allocator's slack stand beside it"
    )
    yield f"Memory is at its peak in the {memory.fullest_moment}; it counts tensors and what kernels hold; {beside}."
    if place.is_here and usage.mode == "train" and is_family:
        yield (
            "kleiber train keeps freed blocks for speed and holds 1.1 to 1.5 times that; with "
            "parallel.keeps_freed_memory=false it holds no more, and a step takes a fifth to a half longer."
        )
    # They begin with the name of an axis, as it is typed.
    yield from (
        f"{says}."
        for axis, says in SHARDING_SAYS.items()
        if getattr(layout, axis) > 1 and (axis != "ddp" or usage.mode == "train")
    )
    limit = place.device.memory_bytes
    if limit is not None and needed > limit:
        yield (
            f"It does not fit: {place.device.name} has {format_bytes(limit)}, it takes {format_bytes(needed)}."
        )


def _price_says(place: Place) -> Iterator[str]:
    device, given = place.device, place.usd_per_hour
    if given is not None:
        yield f"Money is {given:,.2f} USD an hour for one {device.name}: the price given."
    elif device.usd_per_hour is not None:
        yield (
            f"Money is {device.usd_per_hour:,.2f} USD an hour for one {device.name}: list price of {device.price_date}, "
            "check yours."
        )
