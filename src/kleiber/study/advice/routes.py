"""A route as the document says it: its costs, what it holds in memory, what will be measured of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kleiber.scaling import Law, PublishedLaw
from kleiber.study.advice.document import DonorUsed, Prediction, Route, ServedMemory, Within
from kleiber.study.advice.drawn import Drawn, Speeds, amount_of, cost_of
from kleiber.study.advice.losses import Losses
from kleiber.study.advice.meter import Meter
from kleiber.study.advice.search import Search
from kleiber.study.advice.trust import route_warnings
from kleiber.study.place import Place
from kleiber.study.planned_model import shorthand

__all__ = ["Asked", "route_of"]


@dataclass(frozen=True)
class Asked:
    """What all routes share."""

    law: Law | PublishedLaw
    losses: Losses
    search: Search
    meter: Meter
    place: Place
    speeds: Speeds
    loss: float
    served_tokens: float
    budget: float | None = None


def route_of(asked: Asked, drawn: Drawn, cheapest_frac: float) -> Route:
    """Return one route.

    Args:
        asked: What all share.
        drawn: Its plan and draws.
        cheapest_frac: Part of the draws in which it is the cheapest.
    """
    plan, sized = drawn.plan, drawn.plan.sized
    assert sized.spec is not None  # noqa: S101 - `GPTCosts` gives one with each size
    train = cost_of(drawn, asked.meter, trains=True, served_tokens=0.0)
    within = (
        None if asked.budget is None else asked.search.bought(plan.way, asked.budget, asked.served_tokens)
    )
    return Route(
        name=plan.way.name,
        title=plan.way.title,
        model=shorthand(sized.spec),
        spec=sized.spec,
        num_params=sized.num_params,
        num_tokens=plan.trained_tokens,
        tokens_per_param=plan.trained_tokens / sized.num_params,
        trained_loss=asked.loss - plan.way.rise.value,
        served_loss=asked.loss,
        train=train,
        serve=cost_of(drawn, asked.meter, trains=False, served_tokens=asked.served_tokens),
        token_amount=plan.serve_amount,
        total=cost_of(drawn, asked.meter, trains=True, served_tokens=asked.served_tokens),
        cheapest_frac=cheapest_frac,
        unreached_frac=drawn.unreached_frac,
        loss_within_budget=None if within is None else within[0],
        memory=_memory(asked, drawn),
        donor=_donor(drawn),
        predictions=tuple(_predictions(asked, drawn)),
        rests_on=plan.way.rests_on,
        warnings=tuple(route_warnings(asked.law, plan, drawn.unreached_frac)),
    )


def _memory(asked: Asked, drawn: Drawn) -> ServedMemory:
    sized = drawn.plan.sized
    assert sized.memory is not None  # noqa: S101 - as above
    held, limit = sized.memory(drawn.plan.way.served), asked.place.device.memory_bytes
    return ServedMemory(
        weight_bytes=held.weight_bytes,
        cache_bytes=held.cache_bytes,
        limit_bytes=limit,
        fits=None if limit is None else held.total_bytes <= limit,
        num_devices=None if limit is None else math.ceil(held.total_bytes / limit),
    )


def _donor(drawn: Drawn) -> DonorUsed | None:
    start = drawn.plan.way.start
    if start is None:
        return None
    return DonorUsed(
        run=start.run,
        num_params=start.num_params,
        loss=start.loss,
        train_flops=start.train_flops,
        saving_frac=amount_of(drawn.plan.saving_frac, drawn.saving_B[np.isfinite(drawn.tokens_B)]),
    )


def _predictions(asked: Asked, drawn: Drawn) -> Iterator[Prediction]:
    """Yield what will be measured if the plan is carried out: its tokens are trained on, however the loss turns out."""
    plan, sized = drawn.plan, drawn.plan.sized
    trained = _loss_interval(asked, drawn, with_rise=False)
    yield Prediction(
        quantity="val_loss", unit="nats/token", stage="trained", predicted=asked.loss - plan.way.rise.value,
        interval_80=trained, method="law",
    )  # fmt: skip
    if plan.way.name == "compress":
        yield Prediction(
            quantity="val_loss", unit="nats/token", stage="served", predicted=asked.loss,
            interval_80=_loss_interval(asked, drawn, with_rise=True), method="law and receipt",
        )  # fmt: skip
    # Recovery after compression is no part of the run that is trained.
    run_s = plan.trained_tokens / plan.way.train_factor * sized.training.device_s / asked.meter.num_devices
    run_B = run_s * asked.speeds.train_factors(asked.losses.num_draws)
    yield Prediction(
        quantity="total_time_s", unit="s", stage="trained", predicted=run_s,
        interval_80=amount_of(run_s, run_B).interval_80, method="plan",
    )  # fmt: skip
    if sized.memory is not None and sized.token_s is not None:
        stored = sized.memory(plan.way.served).weight_bytes
        yield Prediction(
            quantity="stored_bytes",
            unit="B",
            stage="served",
            predicted=stored,
            interval_80=None,
            method="forms",
        )
        token_s = sized.token_s(plan.way.served)
        token_B = token_s * asked.speeds.serve_factors(asked.losses.num_draws)
        yield Prediction(
            quantity="latency_s", unit="s", stage="served", predicted=token_s,
            interval_80=amount_of(token_s, token_B).interval_80, method="engine",
        )  # fmt: skip


def _loss_interval(asked: Asked, drawn: Drawn, *, with_rise: bool) -> Within | None:
    if isinstance(asked.law, PublishedLaw):
        return None
    plan = drawn.plan
    loss_B = asked.losses.drawn(plan.sized.num_params, np.array([plan.tokens]))[:, 0]
    rise_B = drawn.rise_B if with_rise else 0.0
    return amount_of(asked.loss, loss_B + rise_B).interval_80
