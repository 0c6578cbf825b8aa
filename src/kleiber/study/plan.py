"""What a recipe will need before anything runs: parameters, operations, memory, time, money. No torch where all follows from sizes."""

from __future__ import annotations

import math
import statistics

from kleiber.cost import (
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
from kleiber.cost.optimizers import optimizer_of
from kleiber.cost.step_cost import StepCost
from kleiber.cost.step_time import comparable_probes, probed_step_time
from kleiber.cost.usage import Precision
from kleiber.models import Spec, resolve_spec
from kleiber.models.hf import HFSpec
from kleiber.models.run_flops import run_flops
from kleiber.runs import Document, ParamCount, Recipe, num_cores
from kleiber.study.recipe_cost import recipe_cost
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
    num_val_samples: int | None = None,
) -> Plan:
    """Return what the run of `recipe` will need.

    Parameters and operations are counted by the family. What a step of a dense gpt holds follows from its sizes; a step of
    any other model is traced, which takes a few seconds.

    Args:
        recipe: What to do.
        device: Where; None is this machine, by its calibration when there is one.
        calibration: Of this machine; it says nothing about another device and is left aside with one.
        dtype: Of matrix products; None takes what training on the device takes. Not fp32: activations are half
            as large, weights, gradients and optimizer state stay in fp32.
        num_processes: Training processes side by side on this machine.
        usd_per_hour: Price of the device; None takes its list price.
        num_val_samples: Samples of the validation split, where a sample is the unit; None leaves their time out.

    Raises:
        RecipeError: The model's size breaks a rule, or the device has no peak for the dtype.
    """
    spec = resolve_spec(recipe)
    is_here = device is None or device.name == "cpu"
    machine = device or find_device("cpu")
    dtype, peak = machine.peak(dtype)
    own = calibration if is_here else None
    flops = spec.flops(recipe.train.batch_size)
    shape = _shape(recipe, spec, num_processes)
    cost = recipe_cost(
        recipe, spec, _AUTOCAST.get(dtype, "bf16"), num_val_samples=num_val_samples, is_here=is_here
    )
    time = (
        _step_time(shape, cost, own) if own else assumed_step_time(shape, peak, f"{machine.title} in {dtype}")
    )
    total_time_s = _total_time_s(recipe, spec, time, num_val_samples)
    memory, memory_says = _memory(cost, spec, own)
    price = usd_per_hour if usd_per_hour is not None else machine.usd_per_hour
    assumptions = [
        f"FLOPs: {FLOP_CONVENTIONS[flops.convention]}.",
        time.method,
        *memory_says,
        *_size_says(recipe, spec),
        *(spec.notes() if isinstance(spec, HFSpec) else ()),
        *_recovery_says(recipe),
        *_device_says(machine, memory, price, is_listed=usd_per_hour is None),
    ]
    return Plan(
        spec=spec,
        num_params=spec.count(),
        num_tokens=recipe.num_tokens,
        train_flops=run_flops(recipe, spec),
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
    cost = optimizer_cost(optimizer_of(train.optimizer), spec.count().total, spec.hidden_shapes())
    return StepShape(
        spec=spec.model_dump(mode="json"),
        optimizer=train.optimizer.name,
        num_blocks=spec.depth,
        flops=spec.flops(train.batch_size).total + cost.flops,
        tokens=recipe.tokens_per_step,
        num_threads=recipe.parallel.num_threads or num_cores(),
        num_processes=num_processes,
    )


def _step_time(shape: StepShape, cost: StepCost, calibration: Calibration) -> StepTime:
    """Return the time that this machine's measurements give.

    A probe of the very model comes first, then the rates by operation, then probes of other sizes. Where several processes
    train side by side, such probes come before the rates, which are those of one process alone.
    """
    rates = calibration.rates
    if rates is None or probed_step_time(shape, calibration) is not None:
        return calibrated_step_time(shape, calibration)
    if shape.num_processes > 1 and comparable_probes(shape, calibration):
        return calibrated_step_time(shape, calibration)
    from kleiber.study.planned_time import time_by_rates  # noqa: PLC0415 - brings documents that a plan without rates needs not

    found = time_by_rates(cost, rates, shape.num_threads)
    return StepTime(found.step_time_s, found.step_time_s / shape.flops, found.says)


def _total_time_s(recipe: Recipe, spec: Spec, time: StepTime, num_val_samples: int | None) -> float:
    """Return the time of all steps and validations [s]."""
    if recipe.task.name == "lm":
        num_val_samples = recipe.data.val_tokens // recipe.data.context
    num_validations = math.ceil(recipe.train.num_steps / recipe.train.val_every)
    val_flops = spec.flops(num_val_samples).forward if num_val_samples else 0
    return recipe.train.num_steps * time.step_time_s + num_validations * val_flops * time.s_per_flop


def _memory(cost: StepCost, spec: Spec, calibration: Calibration | None) -> tuple[MemoryBytes, list[str]]:
    """Return the memory and the sentences that say what it rests on."""
    memory = cost.memory
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


def _recovery_says(recipe: Recipe) -> list[str]:
    """Return what a run that goes on from a model takes more than is counted."""
    if recipe.recover is None:
        return []
    teacher = "the teacher's weights and its pass over each batch, and " if recipe.recover.teacher else ""
    return [f"Left out: {teacher}what keeps zeros, codes and factors of the model as they are."]


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
