"""The ways to spread a model over devices, by predicted time, and why each other one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kleiber.cost.layouts import Layout
from kleiber.errors import RecipeError
from kleiber.units import format_bytes

__all__ = ["RankedLayout", "every_layout", "rank_layouts"]


@dataclass(frozen=True)
class RankedLayout:
    """One layout, with what it takes or why it cannot be."""

    layout: Layout
    fits: bool
    step_time_s: float | None
    """None for what does not fit."""
    memory_bytes: float | None
    """Peak of one device; None for what does not divide."""
    why_not: str | None
    """One clause; None for what fits."""


def rank_layouts(
    layouts: Iterable[Layout],
    *,
    check: Callable[[Layout], None],
    memory_of: Callable[[Layout], float],
    time_of: Callable[[Layout], float],
    limit_bytes: float | None,
) -> tuple[RankedLayout, ...]:
    """Return what fits, fastest first, then what does not: what lacks least memory first, what does not divide last.

    Args:
        layouts: What is tried.
        check: Raises `RecipeError` for a layout that does not divide the model, the batch or the devices.
        memory_of: Peak of one device [bytes]; asked for only of what divides.
        time_of: Time of a step [s]; asked for only of what fits. Raises `RecipeError` where devices are not joined.
        limit_bytes: Memory of one device; None where it is not known, and then everything that divides fits.
    """
    ranked = [_judge(layout, check, memory_of, time_of, limit_bytes) for layout in layouts]
    return tuple(sorted(ranked, key=_rank))


def _judge(
    layout: Layout,
    check: Callable[[Layout], None],
    memory_of: Callable[[Layout], float],
    time_of: Callable[[Layout], float],
    limit_bytes: float | None,
) -> RankedLayout:
    needed = time_s = why_not = None
    try:
        check(layout)
        needed = memory_of(layout)
        if limit_bytes is not None and needed > limit_bytes:
            why_not = f"needs {format_bytes(needed)} of {format_bytes(limit_bytes)} a device"
        else:
            time_s = time_of(layout)
    except RecipeError as error:
        why_not = error.message.rstrip(".")
    return RankedLayout(
        layout, fits=why_not is None, step_time_s=time_s, memory_bytes=needed, why_not=why_not
    )


def _rank(ranked: RankedLayout) -> tuple[int, float]:
    if ranked.step_time_s is not None:
        return 0, ranked.step_time_s
    return (2, 0.0) if ranked.memory_bytes is None else (1, ranked.memory_bytes)


def every_layout(num_devices: int) -> list[Layout]:
    """Return every layout of exactly so many devices, whatever it would have to divide.

    Example:
        >>> [layout.name for layout in every_layout(2)]
        ['pp=2', 'tp=2', 'fsdp=2', 'ddp=2']
        >>> len(every_layout(1024))  # 2^10 over four axes: 13 choose 3
        286
    """
    return [
        Layout(ddp=ddp, fsdp=fsdp, tp=tp, pp=num_devices // (ddp * fsdp * tp))
        for ddp in _divisors(num_devices)
        for fsdp in _divisors(num_devices // ddp)
        for tp in _divisors(num_devices // (ddp * fsdp))
    ]


def _divisors(number: int) -> list[int]:
    return [factor for factor in range(1, number + 1) if number % factor == 0]
