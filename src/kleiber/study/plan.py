"""What a recipe will need before anything runs: parameters, operations, memory, time, money. No torch."""

from __future__ import annotations

import math
import statistics

from kleiber.cost import (
    VAL_SEQUENCES,
    Calibration,
    Device,
    MemoryBytes,
    StepShape,
    StepTime,
    assumed_step_time,
    calibrated_step_time,
    find_device,
    optimizer_cost,
)
from kleiber.cost.flops import FLOP_CONVENTIONS
from kleiber.cost.usage import Precision, Usage
from kleiber.models import Spec, resolve_spec
from kleiber.models.gpt.memory import step_memory
from kleiber.runs import Document, ParamCount, Recipe, num_cores
from kleiber.units import format_bytes, format_count

__all__ = ["Plan", "plan"]

_AUTOCAST: dict[str, Precision] = {"fp32": "fp32", "tf32": "fp32", "fp16": "fp16"}
"""Precision of activations by the dtype of matrix products; bf16 with any other."""


class Plan(Document):
    """What one training run will need."""

    spec: Spec
    """The model, its size dial resolved."""
    num_params: ParamCount
    num_tokens: int
    """Of the whole run."""
    train_flops: float
    """Of the whole run, validation and optimizer left out [FLOP]."""
    memory_bytes: MemoryBytes
    step_time_s: float
    total_time_s: float
    """Steps and validations."""
    device: str
    dtype: str
    """Of matrix products."""
    usd: float | None = None
    """Of one device for the whole time; None without a price."""
    assumptions: tuple[str, ...]
    """What the figures rest on, a sentence each."""


def plan(
    recipe: Recipe,
    *,
    device: Device | None = None,
    calibration: Calibration | None = None,
    dtype: str | None = None,
    num_processes: int = 1,
    usd_per_hour: float | None = None,
) -> Plan:
    """Return what the run of `recipe` will need.

    Args:
        recipe: What to do.
        device: Where; None is this machine, by its calibration when there is one.
        calibration: Of this machine; it says nothing about another device and is left aside with one.
        dtype: Of matrix products; None takes what training on the device takes. Not fp32: activations are half
            as large, weights, gradients and optimizer state stay in fp32.
        num_processes: Training processes side by side on this machine.
        usd_per_hour: Price of the device; None takes its list price.

    Raises:
        RecipeError: The model's size breaks a rule, or the device has no peak for the dtype.
    """
    spec = resolve_spec(recipe)
    is_here = device is None or device.name == "cpu"
    machine = device or find_device("cpu")
    dtype, peak = machine.peak(dtype)
    own = calibration if is_here else None
    flops = spec.flops(recipe.train.batch_size, recipe.data.context)
    shape = _shape(recipe, spec, num_processes)
    time = (
        calibrated_step_time(shape, own)
        if own
        else assumed_step_time(shape, peak, f"{machine.title} in {dtype}")
    )
    total_time_s = _total_time_s(recipe, spec, time)
    memory, memory_says = _memory(recipe, spec, own, dtype)
    price = usd_per_hour if usd_per_hour is not None else machine.usd_per_hour
    assumptions = [
        f"FLOPs: {FLOP_CONVENTIONS[flops.convention]}.",
        time.method,
        *memory_says,
        *_size_says(recipe, spec),
        *_device_says(machine, memory, price, is_listed=usd_per_hour is None),
    ]
    return Plan(
        spec=spec,
        num_params=spec.count(),
        num_tokens=recipe.num_tokens,
        train_flops=float(flops.total * recipe.train.num_steps),
        memory_bytes=memory,
        step_time_s=time.step_time_s,
        total_time_s=total_time_s,
        device=machine.name,
        dtype=dtype,
        usd=None if price is None else price * total_time_s / 3600,
        assumptions=tuple(assumptions),
    )


def _shape(recipe: Recipe, spec: Spec, num_processes: int) -> StepShape:
    train = recipe.train
    cost = optimizer_cost(train.optimizer.name, spec.count().total, spec.hidden_shapes())
    return StepShape(
        spec=spec.model_dump(mode="json"),
        optimizer=train.optimizer.name,
        num_blocks=spec.depth,
        flops=spec.flops(train.batch_size, recipe.data.context).total + cost.flops,
        tokens=recipe.tokens_per_step,
        num_threads=recipe.parallel.num_threads or num_cores(),
        num_processes=num_processes,
    )


def _total_time_s(recipe: Recipe, spec: Spec, time: StepTime) -> float:
    """Return the time of all steps and validations [s]."""
    num_validations = math.ceil(recipe.train.num_steps / recipe.train.val_every)
    val_flops = spec.flops(recipe.data.val_tokens // recipe.data.context, recipe.data.context).forward
    return recipe.train.num_steps * time.step_time_s + num_validations * val_flops * time.s_per_flop


def _memory(
    recipe: Recipe, spec: Spec, calibration: Calibration | None, dtype: str
) -> tuple[MemoryBytes, list[str]]:
    """Return the memory and the sentences that say what it rests on."""
    train = recipe.train
    memory = step_memory(
        spec,
        Usage(
            batch_size=train.batch_size,
            accumulation=train.accumulation,
            optimizer=train.optimizer.name,
            precision=_AUTOCAST.get(dtype, "bf16"),
        ),
        recipe.data.context,
        val_batch=min(VAL_SEQUENCES, recipe.data.val_tokens // recipe.data.context),
        is_fused=True,
    )
    probes = calibration.probes if calibration else ()
    own = tuple(probe for probe in probes if probe.spec == spec.model_dump(mode="json"))
    differences = [
        probe.peak_memory_bytes - probe.planned_peak_bytes
        for probe in own or probes
        if probe.peak_memory_bytes is not None and probe.planned_peak_bytes is not None
    ]
    overhead = max(0.0, statistics.median(differences)) if differences else 0.0
    held = (
        f"and the {format_bytes(overhead)} that probes of this machine held beside them"
        if overhead
        else "and not what the process and its libraries hold beside them"
    )
    return memory.summary(overhead), [
        f"Memory is at its peak in the {memory.fullest_moment}; it counts tensors {held}."
    ]


def _size_says(recipe: Recipe, spec: Spec) -> list[str]:
    """Return what a parameter target was resolved to."""
    if "params" not in recipe.model.size:
        return []
    reached = f"{format_count(spec.count().total)} ({spec.count().total:,}) parameters"
    return [
        f"The target of {recipe.model.size['params']} parameters gave depth {spec.depth} and width {spec.width}: {reached}."
    ]


def _device_says(device: Device, memory: MemoryBytes, price: float | None, *, is_listed: bool) -> list[str]:
    """Return whether it fits and what the price rests on."""
    says = []
    if device.memory_bytes is not None and memory.peak > device.memory_bytes:
        says.append(
            f"It does not fit: {device.name} has {format_bytes(device.memory_bytes)}, "
            f"the peak is {format_bytes(memory.peak)}."
        )
    if price is not None:
        source = f"list price of {device.price_date}, check yours" if is_listed else "the price given"
        says.append(f"Money is {price:g} USD an hour for one {device.name}: {source}.")
    return says
