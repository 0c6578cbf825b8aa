"""Layouts and rates of a `gpt`, in closed form: nothing is traced, so that hundreds of them take no time."""

from __future__ import annotations

import functools

from kleiber.cost import Device
from kleiber.cost.layouts import Layout, check_layout, rank_usage
from kleiber.cost.roofline import step_time
from kleiber.cost.usage import Usage
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.blocks import block_shape
from kleiber.models.gpt.operations import step_operations
from kleiber.study.fitting import peak_bytes
from kleiber.study.layout_ranking import RankedLayout, every_layout, rank_layouts
from kleiber.study.question import FlopsPerS

__all__ = ["gpt_step_time_s", "rank_gpt_layouts", "roofline_rate"]


def rank_gpt_layouts(
    spec: GPTSpec, usage: Usage, device: Device, num_devices: int, *, memory_bytes: float | None = None
) -> tuple[RankedLayout, ...]:
    """Return every layout of so many devices: what fits by predicted time, then why each other one fails.

    Args:
        spec: The model.
        usage: Of the whole batch.
        device: One of them.
        num_devices: All of them are used.
        memory_bytes: Of one device; None takes the device's own.
    """
    blocks = block_shape(spec)
    return rank_layouts(
        every_layout(num_devices),
        check=lambda layout: check_layout(layout, blocks, usage, num_devices),
        memory_of=lambda layout: peak_bytes(spec, usage, layout),
        time_of=lambda layout: gpt_step_time_s(spec, usage, device, layout),
        limit_bytes=device.memory_bytes if memory_bytes is None else memory_bytes,
    )


def gpt_step_time_s(spec: GPTSpec, usage: Usage, device: Device, layout: Layout | None = None) -> float:
    """Return the predicted time of a step [s].

    Args:
        spec: The model, on sequences of its context.
        usage: Of the whole batch.
        device: One of them.
        layout: How it is spread; None is one device.

    Raises:
        RecipeError: The device lacks a peak for the precision, or an interconnect that the layout needs.
    """
    layout = layout or Layout()
    return step_time(
        _operations(spec, rank_usage(usage, layout)),
        device,
        layout,
        usage=usage,
        params=spec.count(),
        blocks=block_shape(spec),
        tokens_per_sample=spec.context,
    ).step_time_s


# Layouts share few batches a rank.
_operations = functools.lru_cache(maxsize=64)(lambda spec, usage: step_operations(spec, usage, spec.context))


def roofline_rate(usage: Usage, device: Device, layout: Layout) -> FlopsPerS:
    """Return the rate of all devices as a function of the spec, for `find`.

    Args:
        usage: Of the whole batch, which the layout divides.
        device: One of them.
        layout: How the model is spread.
    """

    def rate(spec: GPTSpec) -> float:
        flops = spec.flops(usage.batch_size, spec.context).total
        return flops / gpt_step_time_s(spec, usage, device, layout)

    return rate
