"""A budget's question with everything in it resolved: what a size costs, and what the budget buys of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kleiber.cost import ASSUMED_EFFICIENCY_FRAC, Device
from kleiber.cost.layouts import Layout
from kleiber.cost.usage import Usage
from kleiber.models.gpt import GPTSpec
from kleiber.scaling import Law, PublishedLaw
from kleiber.study.budget import Budget, Spend, price_of, spends
from kleiber.study.budget_law import BudgetLaw
from kleiber.study.fitting import peak_bytes
from kleiber.study.optimum import SizedRun
from kleiber.study.size_line import SizeLine, size_line

__all__ = ["FlopsPerS", "MemoryOfUse", "Question"]

FlopsPerS = Callable[[GPTSpec], float]
"""Operations of a model that all devices together do in a second of its training [FLOP/s]."""
MemoryOfUse = Callable[[GPTSpec, Usage], float]
"""Peak of one device [bytes]; grows with depth, width, context and batch."""


@dataclass(frozen=True)
class Question:
    """What `find` was asked."""

    budget: Budget
    device: Device
    usage: Usage
    law: Law | PublishedLaw
    size: Mapping[str, Any]
    vocab_size: int
    context: int
    usd_per_hour: float | None = None
    rate: FlopsPerS | None = None
    memory: MemoryOfUse | None = None

    @functools.cached_property
    def asked_law(self) -> BudgetLaw:
        """The law, which must have a best size."""
        return BudgetLaw(self.law)

    @functools.cached_property
    def line(self) -> SizeLine:
        """The sizes there are, by the law's count."""
        return size_line(self.size, self.vocab_size, self.context, self.law.convention)

    @functools.cached_property
    def spends(self) -> tuple[Spend, ...]:
        """What may be spent on computing."""
        return spends(self.budget, self.device, self.usd_per_hour)

    @functools.cached_property
    def tokens_of(self) -> Callable[[float], float]:
        """Training tokens that the budget buys, over N by the law's count; below 0 where serving takes it all."""
        flops_per_token = self.line.along(self.flops_per_token)
        flops_per_s = self.line.along(self.flops_per_s)

        def tokens(num_params: float) -> float:
            # The rate is asked for only where time is limited: it may take a while to find.
            available = min(
                spend.flops if spend.flops is not None else spend.flops_at(flops_per_s(num_params))
                for spend in self.spends
            )
            return available / flops_per_token(num_params) - self.budget.inference_tokens / 3

        return tokens

    @property
    def memory_limit_bytes(self) -> float | None:
        """Of one device."""
        return self.device.memory_bytes if self.budget.memory_bytes is None else self.budget.memory_bytes

    @property
    def layout(self) -> Layout:
        """How the model is spread where the caller does not say: weights, gradients and state over all devices."""
        return Layout(fsdp=self.budget.num_devices)

    @property
    def micro_batch(self) -> int:
        """Samples that go through one device at once."""
        return -(-self.usage.batch_size // (self.usage.accumulation * self.budget.num_devices))

    def flops_per_token(self, spec: GPTSpec) -> float:
        """Return the operations of training on one token; serving one takes a third [FLOP]."""
        return spec.flops(1, self.context).total / self.context

    def flops_per_s(self, spec: GPTSpec) -> float:
        """Return the rate of all devices: the one given, or the assumed part of the peak."""
        if self.rate is not None:
            return self.rate(spec)
        _, peak = self.device.peak(self.usage.precision)
        return ASSUMED_EFFICIENCY_FRAC * peak * self.budget.num_devices

    def binding(self, spec: GPTSpec) -> Spend:
        """Return the limit on computing that is met first."""
        return min(
            self.spends,
            key=lambda spend: (
                spend.flops if spend.flops is not None else spend.flops_at(self.flops_per_s(spec))
            ),
        )

    def tokens_for(self, spec: GPTSpec) -> float:
        """Return the training tokens that the budget buys for one spec, exactly."""
        available = self.binding(spec).flops_at(self.flops_per_s(spec))
        return available / self.flops_per_token(spec) - self.budget.inference_tokens / 3

    def memory_of(self, spec: GPTSpec, usage: Usage | None = None) -> float:
        """Return the peak of one device [bytes]."""
        usage = usage or self.usage
        return self.memory(spec, usage) if self.memory else peak_bytes(spec, usage, self.layout)

    def run_of(self, spec: GPTSpec, num_tokens: float) -> SizedRun:
        """Return what training `spec` on so many tokens gives and takes."""
        count = spec.count()
        size = count.by(self.law.convention)
        prediction = self.asked_law.prediction(size, num_tokens)
        train_flops = self.flops_per_token(spec) * num_tokens
        time_s = train_flops / self.flops_per_s(spec)
        has_price = self.usd_per_hour is not None or self.device.usd_per_hour is not None
        hourly = price_of(self.device, self.usd_per_hour) * self.budget.num_devices if has_price else None
        limit, peak = self.memory_limit_bytes, self.memory_of(spec)
        return SizedRun(
            spec=spec,
            num_params=count,
            num_tokens=int(num_tokens),
            loss=prediction.loss if prediction else self.asked_law.curve.loss(size, num_tokens),
            interval_80=prediction.interval_80 if prediction else None,
            interval_95=prediction.interval_95 if prediction else None,
            train_flops=train_flops,
            inference_flops=self.flops_per_token(spec) / 3 * self.budget.inference_tokens,
            time_s=time_s,
            usd=None if hourly is None else hourly * time_s / 3600,
            memory_bytes=peak,
            fits=None if limit is None else peak <= limit,
        )
