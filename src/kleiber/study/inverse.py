"""From a budget to a model: the size and tokens of the lowest loss, and what fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kleiber.cost import Device
from kleiber.cost.usage import Usage
from kleiber.errors import RecipeError, UsageError
from kleiber.models.gpt import GPTSpec
from kleiber.scaling import Law, OptimalRun, PublishedLaw, published_law
from kleiber.scaling.optimum import sizes_within
from kleiber.study.budget import Budget
from kleiber.study.fitting import largest_batch, largest_context, largest_model
from kleiber.study.inverse_says import assumptions_of, no_room, too_small
from kleiber.study.optimum import Choice, FlatRange, Optimum, Room, SizedRun
from kleiber.study.question import FlopsPerS, MemoryOfUse, Question

__all__ = ["find"]

_WORSE_FRACS = (0.001, 0.005)
_NEAR = (0.25, 0.5, 0.71, 1.0, 1.41, 2.0, 4.0)


def find(
    budget: Budget,
    *,
    device: Device,
    usage: Usage,
    vocab_size: int,
    context: int,
    size: Mapping[str, Any] | None = None,
    law: Law | PublishedLaw | str = "besiroglu",
    usd_per_hour: float | None = None,
    flops_per_s: FlopsPerS | None = None,
    memory_of: MemoryOfUse | None = None,
) -> Optimum:
    """Return the gpt that a budget buys.

    With a limit on money, hours or operations it is the one of the lowest loss under the law; each size is trained
    for as long as the tightest limit lasts, at its own rate. With a limit on memory alone it is the largest one that
    fits, trained until it would be compute-optimal.

    Args:
        budget: What may be spent.
        device: One of the devices.
        usage: Training with this batch, optimizer and precision.
        vocab_size: Entries of the tokenizer.
        context: Tokens of a sequence.
        size: Keys of the dial that the model keeps, such as `head_dim`.
        law: A fitted law, a published one, or the name of that.
        usd_per_hour: Price of one device; None takes its list price.
        flops_per_s: Rate of all devices together for a spec; None assumes a part of the peak.
        memory_of: Peak of one device for a spec and a usage; None takes the closed form, with
            `fsdp` over all devices.

    Raises:
        UsageError: Money without a price, a budget or a memory too small for the smallest gpt, an unknown law, a law
            without an optimum, a model that is not to be trained.
        RecipeError: Keys of the dial that leave no size open; the device has no peak for the precision.
    """
    asked = Question(
        budget=budget,
        device=device,
        usage=usage,
        law=published_law(law) if isinstance(law, str) else law,
        size=size or {},
        vocab_size=vocab_size,
        context=context,
        usd_per_hour=usd_per_hour,
        rate=flops_per_s,
        memory=memory_of,
    )
    if usage.mode != "train":
        raise UsageError(
            "A budget is spent on training; what fits when serving is sought by memory alone.",
            got=f"mode {usage.mode}",
            hint="kleiber plan gpt --mode train --budget-usd 100",
        )
    return _by_compute(asked) if budget.has_compute else _by_memory(asked)


def _by_compute(asked: Question) -> Optimum:
    line, smallest = asked.line, asked.line.specs[0]
    if asked.tokens_for(smallest) < asked.usage.batch_size * asked.context:
        raise too_small(asked)
    point = asked.asked_law.best(asked.tokens_of, (line.low, line.high))
    spec = _spec_of(asked, point.num_params)
    best = asked.run_of(spec, asked.tokens_for(spec))
    largest = _largest(asked)
    fitting = None
    if best.fits is False and largest is not None:
        fitting = asked.run_of(largest, asked.tokens_for(largest))
    return _answer(asked, best, fitting, largest, point)


def _by_memory(asked: Question) -> Optimum:
    largest = _largest(asked)
    if largest is None:
        raise no_room(asked)
    size = largest.count().by(asked.law.convention)
    tokens = asked.asked_law.best_tokens(size, asked.budget.inference_tokens)
    if tokens is None:
        raise UsageError(
            f"Under this law no number of tokens is best for {size:.3g} parameters: it is too far from the rows.",
            hint="--law besiroglu, or --budget-flops beside --memory-bytes",
        )
    return _answer(asked, asked.run_of(largest, tokens), None, largest, None)


def _largest(asked: Question) -> GPTSpec | None:
    """Return the largest model that fits; None when none does or nothing limits it.

    Raises:
        UsageError: A memory was asked for in which none fits.
    """
    limit = asked.memory_limit_bytes
    if limit is None:
        return None
    found = largest_model(asked.memory_of, limit, asked.size, asked.vocab_size, asked.context)
    if found is None and asked.budget.memory_bytes is not None:
        raise no_room(asked)
    return found


def _spec_of(asked: Question, num_params: float) -> GPTSpec:
    """Return the spec of the dial that has N parameters by the law's count, as nearly as it can."""
    total = asked.line.along(lambda spec: spec.count().total)(num_params)
    try:
        return GPTSpec.from_dial({**asked.size, "params": total}, asked.vocab_size, asked.context)
    except RecipeError:  # keys such as num_heads leave gaps between the sizes: the nearest one is shown
        distance = [abs(math.log(size / num_params)) for size in asked.line.sizes]
        return asked.line.specs[distance.index(min(distance))]


def _answer(
    asked: Question,
    best: SizedRun,
    fitting: SizedRun | None,
    largest: GPTSpec | None,
    point: OptimalRun | None,
) -> Optimum:
    law, chosen, bounds = asked.law, fitting or best, (asked.line.low, asked.line.high)
    known = asked.asked_law
    return Optimum(
        budget=asked.budget,
        law=law.hash if isinstance(law, Law) else law.name,
        convention=law.convention,
        limit="memory" if point is None else asked.binding(best.spec).name,
        best=best,
        fitting=fitting,
        intervals=known.intervals(asked.tokens_of, point, bounds) if point else None,
        size_exponent=known.size_exponent(asked.tokens_of, bounds) if point or known.formula else None,
        flat=_flat(asked, point) if point else (),
        near=_near(asked, point) if point else (),
        memory_limit_bytes=asked.memory_limit_bytes,
        room=_room(asked, chosen.spec, largest),
        device=asked.device.name,
        assumptions=assumptions_of(asked, best, fitting),
    )


def _flat(asked: Question, point: OptimalRun) -> tuple[FlatRange, ...]:
    bounds = asked.asked_law.valley(point, (asked.line.low, asked.line.high))
    return tuple(
        FlatRange(
            worse_frac=worse,
            num_params=sizes_within(asked.asked_law.curve, asked.tokens_of, point, worse, bounds),
        )
        for worse in _WORSE_FRACS
    )


def _near(asked: Question, point: OptimalRun) -> tuple[Choice, ...]:
    """Return the curve around the best size, as far as there are such sizes and the budget buys tokens for them."""
    found = []
    for factor in _NEAR:
        size = factor * point.num_params
        tokens = asked.tokens_of(size)
        if asked.line.low <= size <= asked.line.high and tokens > 0:
            loss = asked.asked_law.curve.loss(size, tokens)
            found.append(
                Choice(
                    num_params=size, num_tokens=tokens, loss=loss, worse_frac=max(0.0, loss / point.loss - 1)
                )
            )
    return tuple(found)


def _room(asked: Question, spec: GPTSpec, largest: GPTSpec | None) -> Room | None:
    limit = asked.memory_limit_bytes
    if limit is None:
        return None
    usage, shares = asked.usage, asked.usage.accumulation * asked.budget.num_devices

    def with_micro_batch(samples: int) -> float:
        return asked.memory_of(spec, usage.model_copy(update={"batch_size": samples * shares}))

    return Room(
        spec=largest,
        micro_batch=largest_batch(with_micro_batch, limit),
        context=largest_context(asked.memory_of, limit, spec),
    )
