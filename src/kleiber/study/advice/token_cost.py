"""What a token costs in training and in serving, over the size of a gpt on a device."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kleiber.cost.call_limit import call_limit
from kleiber.cost.kernel_efficiency import EFFICIENCIES, LAUNCH_S, SUSTAINED_FRAC
from kleiber.cost.kv_cache import kv_cache_bytes
from kleiber.cost.rates import ProcessorRates
from kleiber.cost.usage import PRECISIONS, Usage
from kleiber.models.counting import Counted
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.blocks import block_shape
from kleiber.models.gpt.dial import WIDTH_PER_DEPTH
from kleiber.runs import Convention
from kleiber.study.advice.served import PLAIN, Request, Served
from kleiber.study.model_cost import costed_family
from kleiber.study.place import Place
from kleiber.study.planned_time import planned_time
from kleiber.study.size_line import size_line

__all__ = ["Costs", "GPTCosts", "ServingMemory", "Sized", "TokenCost"]

_KERNELS_A_BLOCK = 10
"""Of one token: norm, queries keys and values, rotation, attention, output, sum and norm, gate and up, product, down, sum."""

_STEPS = ((128, 16), (256, 32), (1024, 64), (math.inf, 128))
"""Widths below the first are multiples of the second: of large models of a tile of a product, for others leave a part of each device
idle."""
_SHAPE = 0.2
"""How much a depth off the dial's counts beside a size off what was sought."""


@dataclass(frozen=True)
class TokenCost:
    """Of one token."""

    flops: float
    device_s: float
    """Of one device that does nothing else [s]."""


@dataclass(frozen=True)
class ServingMemory:
    """Of one copy of the served model [bytes]."""

    weight_bytes: float
    cache_bytes: float
    """Keys and values of a whole batch of requests."""

    @property
    def total_bytes(self) -> float:
        """Of both."""
        return self.weight_bytes + self.cache_bytes


@dataclass(frozen=True)
class Sized:
    """A size that exists, and what it costs."""

    num_params: float
    """N, by the law's convention."""
    spec: GPTSpec | None
    """None where costs are given and not of a model."""
    training: TokenCost
    serving: Callable[[Served], TokenCost]
    memory: Callable[[Served], ServingMemory] | None = None
    token_s: Callable[[Served], float] | None = None
    """From one written token of a request to the next, with the whole batch in work."""


class Costs(Protocol):
    """Costs over N, by the law's convention."""

    @property
    def low(self) -> float:
        """Smallest N there is."""
        ...

    @property
    def high(self) -> float:
        """Largest N."""
        ...

    def training(self, num_params: float) -> TokenCost:
        """Return the cost of training on one token."""
        ...

    def serving(self, num_params: float, served: Served) -> TokenCost:
        """Return the cost of reading or writing one token, in the shares of the usual request."""
        ...

    def chosen(self, num_params: float) -> Sized:
        """Return the size nearest to N that exists."""
        ...


class GPTCosts:
    """Costs of a gpt on a device: operations as its spec counts them, time as plans foretell it.

    Args:
        place: Where it is trained and served.
        usage: Of a training step on one device.
        request: As it will be served.
        vocab_size: Entries of the tokenizer.
        context: Tokens of a sequence in training.
        convention: How the law counts N.
        weight_bytes: Of one weight as it is served.
    """

    def __init__(
        self,
        place: Place,
        usage: Usage,
        request: Request,
        *,
        vocab_size: int,
        context: int,
        convention: Convention,
        weight_bytes: float,
    ) -> None:
        self._place, self._usage, self._request = place, usage, request
        self._vocab_size, self._context = vocab_size, context
        self._convention, self._weight_bytes = convention, weight_bytes
        self._line = size_line({}, vocab_size, context, convention)
        self._along: dict[object, tuple[Callable[[float], float], Callable[[float], float]]] = {}
        # A spec's cost is asked for by several routes, and a prompt's time depends on the spec alone.
        self._training_of = functools.cache(self._cost_of_training)
        self._reading_s = functools.cache(self._time_of_reading)

    @property
    def low(self) -> float:
        """Smallest N of the dial."""
        return self._line.low

    @property
    def high(self) -> float:
        """Largest N of the dial."""
        return self._line.high

    def training(self, num_params: float) -> TokenCost:
        """Return the cost of training on one token, between sizes of the dial by powers."""
        return self._at("training", self._training_of, num_params)

    def serving(self, num_params: float, served: Served = PLAIN) -> TokenCost:
        """Return the cost of a served token, between sizes of the dial by powers."""
        return self._at(served, lambda spec: self._cost_of_serving(spec, served), num_params)

    def chosen(self, num_params: float) -> Sized:
        """Return the gpt nearest to N that the dial gives, with its own costs."""
        spec = self._spec(num_params)
        return Sized(
            num_params=float(spec.count().by(self._convention)),
            spec=spec,
            training=self._training_of(spec),
            serving=lambda served: self._cost_of_serving(spec, served),
            memory=lambda served: self._memory(spec, served),
            token_s=lambda served: self._writing_s(spec, served),
        )

    def _at(self, key: object, cost: Callable[[GPTSpec], TokenCost], num_params: float) -> TokenCost:
        if key not in self._along:
            kept = functools.cache(cost)
            self._along[key] = (
                self._line.along(lambda spec: kept(spec).flops),
                self._line.along(lambda spec: kept(spec).device_s),
            )
        flops, device_s = self._along[key]
        return TokenCost(flops(num_params), device_s(num_params))

    def _spec(self, num_params: float) -> GPTSpec:
        wanted, width = (
            self._line.along(value)(num_params)
            for value in (lambda spec: spec.count().total, lambda spec: spec.width)
        )
        step = next(step for limit, step in _STEPS if width < limit)
        middle = max(1, round(width / step))
        found = [self._with_width(step * k, wanted) for k in (middle - 1, middle, middle + 1) if k]
        return min(found, key=lambda spec: _oddness(spec, wanted))

    def _with_width(self, width: int, wanted: float) -> GPTSpec:
        """Return the gpt of a width whose depth brings it nearest to so many parameters in all."""
        one, two = (self._of(depth, width) for depth in (1, 2))
        block = two.count().total - one.count().total
        return self._of(max(1, 1 + round((wanted - one.count().total) / block)), width)

    def _of(self, depth: int, width: int) -> GPTSpec:
        return GPTSpec.from_dial({"depth": depth, "width": width}, self._vocab_size, self._context)

    def _cost_of_training(self, spec: GPTSpec) -> TokenCost:
        usage, tokens = self._usage, self._usage.batch_size * spec.context
        model = costed_family("gpt", spec, batch_size=usage.batch_size, is_here=self._place.is_here)
        step_s = planned_time(model.cost(usage), usage, self._place, spec).step_time_s
        return TokenCost(spec.flops(usage.batch_size).total / tokens, step_s / tokens)

    def _cost_of_serving(self, spec: GPTSpec, served: Served) -> TokenCost:
        request = self._request
        flops = served.flops_ratio * spec.flops(1, request.num_tokens).forward
        read_ratio = served.flops_ratio if served.read_time_ratio is None else served.read_time_ratio
        read_s = read_ratio * self._reading_s(spec)
        write_s = request.new_tokens * self._writing_s(spec, served) / request.batch
        return TokenCost(flops / request.num_tokens, (read_s + write_s) / request.num_tokens)

    def _time_of_reading(self, spec: GPTSpec) -> float:
        """Return the time to read one prompt [s]: a forward pass, whose products are bound by arithmetic."""
        prompt = spec.model_copy(update={"context": self._request.prompt_tokens})
        usage = Usage(mode="infer", batch_size=1, precision=self._usage.precision)
        model = costed_family("gpt", prompt, batch_size=1, is_here=self._place.is_here)
        return planned_time(model.cost(usage), usage, self._place, prompt).step_time_s

    def _writing_s(self, spec: GPTSpec, served: Served) -> float:
        """Return the time to write one token of every request of a batch [s]: the longer of reading and multiplying."""
        request, is_measured = self._request, served.write_time_ratio is not None
        bytes_ratio, flops_ratio = (1.0, 1.0) if is_measured else (served.bytes_ratio, served.flops_ratio)
        count = spec.count()
        read = count.total - (0 if count.is_tied else count.embedding)
        counted = Counted(
            spec, 0.0, bytes_ratio * self._weight_bytes * read, PRECISIONS[self._usage.precision]
        )
        call = counted.decode(request.batch, request.prompt_tokens + request.new_tokens / 2)
        peak, bytes_per_s, launch_s = self._limits(call.read_bytes)
        # Operations count attention too, which no compression of weights takes away; it is small beside them.
        call = type(call)(flops_ratio * call.flops, call.read_bytes)
        limit = call_limit(call, peak_flops_per_s=peak, bytes_per_s=bytes_per_s)
        time_s = limit.time_s + launch_s * (spec.depth * _KERNELS_A_BLOCK + 3)
        return time_s * (served.write_time_ratio or 1.0)

    def _limits(self, read_bytes: float) -> tuple[float, float, float]:
        """Return what calls of a decoder reach: products [FLOP/s], reading [bytes/s], and the launch of a kernel [s]."""
        device, rates = self._place.device, self._rates
        if rates is not None:
            limits = rates.limits
            return limits.peak(self._usage.precision), limits.bandwidth_at(read_bytes), limits.call_s
        reached = EFFICIENCIES["matmul"]
        _, peak = device.peak(self._usage.precision)
        bandwidth = device.bandwidth_bytes_per_s or math.inf
        return (
            SUSTAINED_FRAC * reached.compute_frac * peak,
            SUSTAINED_FRAC * reached.bandwidth_frac * bandwidth,
            LAUNCH_S,
        )

    @property
    def _rates(self) -> ProcessorRates | None:
        calibration = self._place.calibration
        if not self._place.is_here or calibration is None or calibration.rates is None:
            return None
        return calibration.rates.processor(self._place.num_threads, mode="infer")

    def _memory(self, spec: GPTSpec, served: Served) -> ServingMemory:
        request = self._request
        cache = kv_cache_bytes(
            block_shape(spec), request.batch, request.num_tokens, value_bytes=PRECISIONS[self._usage.precision]
        )  # fmt: skip
        return ServingMemory(served.bytes_ratio * self._weight_bytes * spec.count().total, float(cache))


def _oddness(spec: GPTSpec, wanted: float) -> float:
    """Return how far a gpt is from so many parameters and from the dial's shape."""
    size, depth = spec.count().total / wanted, spec.depth / max(1.0, spec.width / WIDTH_PER_DEPTH)
    return abs(math.log(size)) + _SHAPE * abs(math.log(depth))
