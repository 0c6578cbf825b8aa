"""What fits in a memory: the largest model, batch and context."""

from __future__ import annotations

import dataclasses
import functools
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

from kleiber.cost.kv_cache import kv_cache_bytes
from kleiber.cost.layouts import Layout
from kleiber.cost.memory import StepMemory
from kleiber.cost.sharding import sharded_memory
from kleiber.cost.usage import PRECISIONS, Usage
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.blocks import block_shape
from kleiber.models.gpt.dial import WIDTH_PER_DEPTH
from kleiber.models.gpt.memory import step_memory
from kleiber.study.size_line import size_line

__all__ = [
    "MemoryOf",
    "largest_batch",
    "largest_context",
    "largest_model",
    "largest_whole",
    "peak_bytes",
]

MemoryOf = Callable[[GPTSpec], float]
"""Memory of one device with a spec [bytes]."""

_MAX_WHOLE = 1 << 30
_FLAT_STEP = 64
"""How much larger a batch is tried next where memory does not grow with it yet."""


def peak_bytes(spec: GPTSpec, usage: Usage, layout: Layout | None = None) -> float:
    """Return the peak memory of one device in closed form [bytes].

    A model that is served holds its weights, the cache of the batch's full contexts and the tensors of reading them.

    Args:
        spec: The model.
        usage: What is done with it; a batch that the layout does not divide is rounded up.
        layout: How it is spread; None is one device.
    """
    layout = layout or Layout()
    shares = layout.num_ranks * usage.accumulation
    samples = math.ceil(usage.batch_size / shares)
    own = usage.model_copy(update={"batch_size": samples * usage.accumulation})
    return (
        sharded_memory(
            _whole_memory(spec, own),
            spec.count(),
            block_shape(spec),
            layout,
            usage.model_copy(update={"batch_size": samples * shares}),
            tokens_per_sample=spec.context,
        )
        .summary()
        .peak
    )


def _whole_memory(spec: GPTSpec, usage: Usage) -> StepMemory:
    """Return the memory on one device; that of serving with the cache of all its sequences."""
    memory = step_memory(spec, usage, spec.context)
    if usage.mode == "train":
        return memory
    value_bytes = PRECISIONS[usage.precision]
    cache = kv_cache_bytes(block_shape(spec), usage.micro_batch_size, spec.context, value_bytes=value_bytes)
    return dataclasses.replace(
        memory,
        activations=memory.activations + cache,
        moments={name: held + cache for name, held in memory.moments.items()},
    )


def largest_model(
    memory_of: MemoryOf, limit_bytes: float, size: Mapping[str, Any], vocab_size: int, context: int
) -> GPTSpec | None:
    """Return the spec with the most parameters whose memory is within the limit; None when the smallest is not.

    Shapes are the dial's: of each width the depth that it gives, or up to an eighth more or less. As memory grows
    with depth and with width, two bisections find the width around which the answer lies, and the depth of each.

    Args:
        memory_of: Of one device; grows with depth and with width.
        limit_bytes: Of one device.
        size: Keys of the dial that every spec keeps, as `size_line` takes them.
        vocab_size: Entries of the tokenizer.
        context: Longest sequence [tokens].

    Raises:
        RecipeError: A key that leaves no size open, or that suits no size.
    """
    size_line(size, vocab_size, context, "total")  # refuses what leaves no size open

    @functools.cache
    def spec_of(width: int, depth: int) -> GPTSpec:
        return GPTSpec.from_dial({**size, "width": width, "depth": depth}, vocab_size, context)

    widths = [width for width in _widths(size) if _is_whole_heads(size, width)]
    middle = largest_whole(
        lambda k: memory_of(spec_of(widths[k - 1], _depths(size, widths[k - 1])[0])),
        limit_bytes,
        most=len(widths),
    )
    best: GPTSpec | None = None
    # A shallow shape of this width holds no more than a deep one of a width a tenth below.
    for width in widths[max(0, middle - 6 - middle // 10) : middle]:
        shallowest, deepest = _depths(size, width)
        above = largest_whole(
            lambda k, width=width, first=shallowest: memory_of(spec_of(width, first + k - 1)),  # type: ignore[misc]
            limit_bytes,
            most=deepest - shallowest + 1,
        )
        found = spec_of(width, shallowest + above - 1) if above else None
        if found is not None and (best is None or found.count().total > best.count().total):
            best = found
    return best


def _widths(size: Mapping[str, Any]) -> list[int]:
    """Return the dial's widths [features]."""
    if "width" in size:
        return [size["width"]]
    small = [*range(16, 128, 16), *range(128, 256, 32)]
    return [*small, *range(256, 100_000 if "depth" in size else 24_576, 64)]


def _is_whole_heads(size: Mapping[str, Any], width: int) -> bool:
    head_dim, num_heads = size.get("head_dim"), size.get("num_heads")
    if head_dim and num_heads:
        return True
    return width % (head_dim or 2 * (num_heads or 1)) == 0


def _depths(size: Mapping[str, Any], width: int) -> tuple[int, int]:
    """Return the fewest and the most blocks of a width."""
    if "depth" in size:
        return size["depth"], size["depth"]
    if "width" in size:
        return 1, 10_000
    usual = max(1, round(width / WIDTH_PER_DEPTH))
    return max(1, usual - max(1, usual // 8)), usual + max(1, usual // 8)


def largest_batch(memory_of: Callable[[int], float], limit_bytes: float, *, most: int = _MAX_WHOLE) -> int:
    """Return the largest number of samples that fit at once, 0 when one does not, with few calls.

    Memory grows with the batch along one straight line after another: the largest of several moments, each linear.
    So the line through two known batches says where the limit is met; where that misses, the interval that is left
    is halved.

    Args:
        memory_of: Memory of so many samples [bytes]; never falls. A call may take seconds: it traces a step.
        limit_bytes: Of one device.
        most: Samples beyond which nobody looks.

    Example:
        >>> calls = []
        >>> largest_batch(lambda n: calls.append(n) or 5e9 + 0.11e9 * n, 24e9), calls
        (172, [1, 2, 172, 173])
    """
    known = {1: memory_of(1)}
    if known[1] > limit_bytes:
        return 0
    below, above, guess, num_slow = 1, most + 1, 2, 0
    while above - below > 1:
        guess = min(max(guess, below + 1), above - 1)
        # The middle of what is left, or twice its start while its end was never tried.
        halfway = (below + above) // 2 if above in known else 2 * below
        known[guess] = memory_of(guess)
        below, above = (guess, above) if known[guess] <= limit_bytes else (below, guess)
        num_slow = num_slow + 1 if below < halfway < above else 0
        if num_slow < 2:
            guess = _where_met(known, below, limit_bytes)
        else:
            guess, num_slow = halfway, 0
    return below


def _where_met(known: Mapping[int, float], below: int, limit_bytes: float) -> int:
    """Return the last batch within the limit on the line through the two that tell most about it.

    Of two that do not fit the smallest: the moment that grows fastest is the fullest there. Without them the last
    that fits, and its neighbour. A flat line is left in long steps.
    """
    batches = sorted(known)
    k = batches.index(below)
    first, second = batches[k + 1 : k + 3] if len(batches) > k + 2 else batches[-2:]
    slope = (known[second] - known[first]) / (second - first)
    if not slope > 0:
        return _FLAT_STEP * second
    return math.floor(min(_MAX_WHOLE, first + (limit_bytes - known[first]) / slope))


def largest_context(memory_of: MemoryOf, limit_bytes: float, spec: GPTSpec, *, most: int = 10_000_000) -> int:
    """Return the longest context at which a spec fits [tokens], 0 when none does.

    Args:
        memory_of: In closed form; grows with the context.
        limit_bytes: Of one device.
        spec: The model; its own context is left aside.
        most: Tokens beyond which nobody looks.
    """
    return largest_whole(
        lambda tokens: memory_of(spec.model_copy(update={"context": tokens})), limit_bytes, most=most
    )


def largest_whole(memory_of: Callable[[int], float], limit_bytes: float, *, most: int) -> int:
    """Return the largest number from 1 to `most` whose memory is within the limit, 0 when that of 1 is not.

    Args:
        memory_of: Never falls; cheap, for it is called some twenty times.
        limit_bytes: Of one device.
        most: Largest number tried.

    Example:
        >>> largest_whole(lambda n: 7 * n, 100, most=1000)
        14
    """
    return bisect_right(range(1, most + 1), limit_bytes, key=memory_of)
