"""Which way to a quality costs least: the routes of a law on a device, ranked, as a document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kleiber.cost.kernel_efficiency import BACKTEST_SAYS
from kleiber.cost.usage import PRECISIONS
from kleiber.errors import UsageError
from kleiber.runs import now
from kleiber.scaling import Law, PublishedLaw
from kleiber.study.advice.compare import break_even, cheapest_fracs, elsewhere
from kleiber.study.advice.document import Advice, LeftRoute, Question
from kleiber.study.advice.drawn import Drawn, Speeds, drawn_of
from kleiber.study.advice.losses import Losses
from kleiber.study.advice.meter import Meter, Unit, format_cost
from kleiber.study.advice.routes import Asked, route_of
from kleiber.study.advice.says import assumptions_of, why
from kleiber.study.advice.search import Plan, Search, sizes_of
from kleiber.study.advice.served import Request
from kleiber.study.advice.sources import compressed, read_donor, receipt_folders
from kleiber.study.advice.token_cost import GPTCosts, Sized
from kleiber.study.advice.trust import law_warnings
from kleiber.study.advice.ways import PUBLISHED_COMPRESSION, Way, grown, optimum_way, smaller_way
from kleiber.study.place import Place
from kleiber.study.planned_model import Asked as AskedModel
from kleiber.study.planned_model import default_usage
from kleiber.units import format_count

__all__ = ["Target", "Wanted", "advise"]

_SAME_SIZE = 0.02
_LEAST_SAVING = 0.01
"""Of the tokens from scratch, that a donor must spare."""
_LEAST_PUBLISHED = 1e8
"""Parameters below which what was published of 7 B is left aside: 4 bits cost small models several times as much."""
_SMALL_LAW = 50e6
"""Laws whose largest run has fewer parameters are taken to be of the small vocabularies and contexts of a recipe's defaults."""
_SMALL, _LARGE = (1024, 128), (50257, 1024)
"""Vocabulary and context."""
_ROOFLINE_DEVIATION = 0.18 * math.sqrt(math.pi / 2)
"""Of the logarithm, where the mean of absolute errors is 18%."""
_ENGINE_DEVIATION = 0.4
_LEAST_MEASURED, _MEASURED_ENGINE, _UNMEASURED = 0.05, 0.3, 0.5


@dataclass(frozen=True)
class Target:
    """A quality, or a budget that buys one; one of the two."""

    loss: float | None = None
    """Of what is served [nats/token]."""
    budget: float | None = None
    """Of training and serving together, in the unit of the ranking."""


@dataclass(frozen=True)
class Wanted:
    """What the answer depends on beside law, target and place; None takes what is usual for the law's sizes and the place."""

    served_tokens: float
    unit: Unit | None = None
    prompt_tokens: int = 512
    new_tokens: int = 128
    serve_batch: int | None = None
    vocab_size: int | None = None
    context: int | None = None
    unique_tokens: float | None = None
    donors: Sequence[Path] = ()
    receipts: Sequence[Path] = ()


def advise(law: Law | PublishedLaw, target: Target, place: Place, wanted: Wanted) -> Advice:
    """Return the routes to a quality, the cheapest first, with intervals.

    Args:
        law: Loss over size and tokens, fitted or published.
        target: Quality or budget.
        place: Where models are trained and served.
        wanted: Served tokens and all else.

    Raises:
        UsageError: A law that does not trade size against tokens, a quality that it does not reach, a budget too small for anything,
            money without a price, a donor or a receipt that is none.
        RecipeError: The device has no peak for training.

    Source:
        Sardana et al. 2024, arXiv:2401.00448: training and serving are paid together.
    """
    asked, ways, question = _asked(law, target, place, wanted)
    best_sizes: dict[Way, Sized] = {}
    if target.budget is not None:
        loss, way, sized = _bought(asked, ways, target.budget)
        asked, best_sizes = replace(asked, loss=loss), {way: sized}
    question = question.model_copy(update={"loss": target.loss, "budget": target.budget})
    _check_reached(asked)
    plans, left_out = _plans(asked, ways, best_sizes)
    best = min(plans, key=lambda plan: plan.total(wanted.served_tokens))
    if isinstance(law, Law):
        asked = replace(asked, losses=asked.losses.widened(law, best.sized.num_params, best.tokens))
    drawn = [drawn_of(plan, asked.losses, asked.loss, asked.speeds) for plan in plans]
    drawn.sort(key=lambda one: one.plan.total(wanted.served_tokens))
    return _document(asked, question, drawn, left_out, ways)


def _document(
    asked: Asked,
    question: Question,
    drawn: Sequence[Drawn],
    left_out: Sequence[LeftRoute],
    ways: Sequence[Way],
) -> Advice:
    """Return the whole answer, dated and sealed."""
    fracs = cheapest_fracs(drawn, asked.served_tokens, asked.meter)
    routes = tuple(route_of(asked, one, frac) for one, frac in zip(drawn, fracs, strict=True))
    compared = [way for way in ways if way.title in {one.title for one in routes}]
    others = tuple(elsewhere(asked.search, compared, asked.loss, asked.served_tokens))
    unsealed = Advice(
        question=question,
        loss=asked.loss,
        unit=asked.meter.unit,
        num_draws=asked.losses.num_draws,
        routes=routes,
        left_out=tuple(left_out),
        break_evens=tuple(break_even(drawn[0], one, asked.meter) for one in drawn[1:]),
        elsewhere=others,
        why=tuple(why(routes, asked.meter.unit, others, asked.served_tokens)),
        warnings=tuple(law_warnings(asked.law, asked.loss)),
        assumptions=tuple(assumptions_of(asked, question)),
        created_at=now(),
        hash="",
    )
    return unsealed.model_copy(update={"hash": unsealed.expected_hash()})


def _asked(
    law: Law | PublishedLaw, target: Target, place: Place, wanted: Wanted
) -> tuple[Asked, tuple[Way, ...], Question]:
    """Return everything that routes share, the routes, and the question with its defaults written out."""
    losses = Losses.of(law, unique_tokens=wanted.unique_tokens)
    usual = _SMALL if sizes_of(law)[1] < _SMALL_LAW else _LARGE
    vocab_size, context = wanted.vocab_size or usual[0], wanted.context or usual[1]
    request = Request(
        wanted.prompt_tokens, wanted.new_tokens, wanted.serve_batch or (1 if place.is_here else 32)
    )
    alone = replace(place, num_devices=1, layout=None)
    usage = default_usage(AskedModel("gpt", mode="train"), alone, context=context)
    weight_bytes = float(PRECISIONS[usage.precision])
    meter = _meter(place, wanted.unit)
    costs = GPTCosts(
        alone, usage, request, vocab_size=vocab_size, context=context, convention=law.convention,
        weight_bytes=weight_bytes,
    )  # fmt: skip
    question = Question(
        law=law.hash if isinstance(law, Law) else law.name,
        form=law.form if isinstance(law, Law) else "chinchilla",
        convention=law.convention,
        loss=target.loss,
        budget=target.budget,
        served_tokens=wanted.served_tokens,
        prompt_tokens=request.prompt_tokens,
        new_tokens=request.new_tokens,
        serve_batch=request.batch,
        device=place.device.name,
        num_devices=place.num_devices,
        usd_per_hour=meter.usd_per_hour,
        precision=usage.precision,
        weight_bytes=weight_bytes,
        vocab_size=vocab_size,
        context=context,
        unique_tokens=wanted.unique_tokens,
    )
    ways = (
        optimum_way(),
        smaller_way(),
        *(grown(read_donor(folder, law)) for folder in wanted.donors),
        *(
            compressed(path, request, weight_bytes=weight_bytes, is_here=place.is_here, name=name)
            for path, name in receipt_folders(wanted.receipts).items()
        ),
        *(() if wanted.receipts else (PUBLISHED_COMPRESSION,)),
    )
    search = Search(losses, costs, meter, sizes_of(law))
    loss = math.inf if target.loss is None else target.loss
    return (
        Asked(law, losses, search, meter, place, _speeds(place), loss, wanted.served_tokens, target.budget),
        ways,
        question,
    )


def _meter(place: Place, unit: Unit | None) -> Meter:
    price = place.device.usd_per_hour if place.usd_per_hour is None else place.usd_per_hour
    if unit == "usd" and not price:
        raise UsageError(
            f"Costs in money need a price above 0, and {place.device.name} has none.",
            hint="--usd-per-hour 2.50",
        )
    return Meter(unit or ("usd" if price else "s"), place.num_devices, price or None)


def _speeds(place: Place) -> Speeds:
    rates = place.calibration.rates if place.is_here and place.calibration is not None else None
    if not place.is_here:
        return Speeds(
            _ROOFLINE_DEVIATION,
            _ENGINE_DEVIATION,
            f"Time follows by operation from the limits of {place.device.title}: {BACKTEST_SAYS}. Serving is the longer of reading weights and "
            f"cache and multiplying; its time is taken to be within a factor of {math.exp(1.28 * _ENGINE_DEVIATION):.2g} in 80%, which nobody measured.",
        )  # fmt: skip
    if rates is None:
        return Speeds(
            _UNMEASURED,
            _UNMEASURED,
            "Time is assumed at a part of this machine's peak, not measured, and taken to be within a factor of "
            f"{math.exp(1.28 * _UNMEASURED):.2g} in 80%; kleiber calibrate measures it.",
        )
    found = rates.processor(place.num_threads).check_error_frac or 0.0
    return Speeds(
        max(_LEAST_MEASURED, 1.5 * found),
        _MEASURED_ENGINE,
        f"Time follows by operation from this machine's rates, measured on {rates.measured_at[:10]}, which foretold the calibration's own steps "
        f"within {found:.1%}; serving by the longer of reading and multiplying, taken to be within a factor of "
        f"{math.exp(1.28 * _MEASURED_ENGINE):.2g} in 80%.",
    )


def _bought(asked: Asked, ways: Sequence[Way], budget: float) -> tuple[float, Way, Sized]:
    """Return the lowest loss that any route reaches for the budget, the route and its size."""
    within = [(way, asked.search.bought(way, budget, asked.served_tokens)) for way in ways]
    found = [(bought[0], way, bought[1]) for way, bought in within if bought is not None]
    if not found:
        least = min(asked.search.least_total(way, asked.served_tokens) for way in ways)
        unit = asked.meter.unit
        raise UsageError(
            f"A budget of {format_cost(budget, unit)} is too small: serving {format_count(asked.served_tokens)} tokens with the smallest model "
            f"that is looked at takes {format_cost(least, unit)}.",
            hint="a larger budget, or fewer --serve-tokens",
        )
    return min(found, key=lambda one: one[0])


def _check_reached(asked: Asked) -> None:
    """Refuse a loss that no size reaches."""
    law, lowest = asked.law, asked.search.lowest_loss()
    if asked.loss > lowest:
        return
    floor = f"the loss that the law gives to the largest model and the most tokens that are looked at, {lowest:.4g}"
    if isinstance(law, PublishedLaw):
        floor = f"the law's floor E = {law.coefficients.E:.4g}, which no size and no tokens reach"
    elif law.average is None and "E" in law.coefficients and asked.loss <= law.coefficients["E"]:
        low, high = law.intervals["E"]["95"]
        floor = f"the law's floor E = {law.coefficients['E']:.4g} (95%: {low:.4g} to {high:.4g}), which no size and no tokens reach"
    raise UsageError(
        f"A loss of {asked.loss:.4g} is not above {floor}.",
        hint=f"--loss {_above(lowest)}",
    )


def _above(lowest: float) -> str:
    return f"{lowest + 0.1 * abs(lowest):.3g}"


def _plans(
    asked: Asked, ways: Sequence[Way], sizes: Mapping[Way, Sized]
) -> tuple[list[Plan], list[LeftRoute]]:
    """Return each route's plan, and why others have none; `sizes` are of routes whose size is known already."""
    plans: list[Plan] = []
    left: list[LeftRoute] = []
    for way in ways:
        plan = asked.search.plan(way, asked.loss, asked.served_tokens, sizes.get(way))
        reason = _why_not(asked, way, plan, plans)
        if reason is not None:
            left.append(LeftRoute(name=way.name, title=way.title, reason=reason))
        elif plan is not None:
            plans.append(plan)
    if not any(way.name == "grow" for way in ways):
        reason = "no trained model was named: --donor runs/NAME"
        left.append(LeftRoute(name="grow", title="grow from a donor", reason=reason))
    if not plans:
        raise UsageError(
            f"No size that is looked at reaches a loss of {asked.loss:.4g} under this law.",
            hint=f"--loss {_above(asked.loss)}",
        )
    return plans, left


def _why_not(asked: Asked, way: Way, plan: Plan | None, plans: Sequence[Plan]) -> str | None:
    if plan is None and way.start is not None:
        return f"the cheapest size for this loss is not above the donor's {format_count(way.start.num_params)} parameters: there is nothing to grow."
    if plan is not None and way.start is not None and plan.saving_frac < _LEAST_SAVING:
        return (
            f"a model of {format_count(plan.sized.num_params)} parameters reaches the donor's loss of {way.start.loss:.4g} after "
            f"{plan.saving_frac:.1%} of its tokens: there is next to nothing to save."
        )
    if plan is None:
        return f"it would have to reach {asked.loss - way.rise.value:.4g} before compression, below what the law gives."
    if way is PUBLISHED_COMPRESSION and plan.sized.num_params < _LEAST_PUBLISHED:
        return (
            f"what papers say of 4 bits is of 7 B parameters and says nothing of {format_count(plan.sized.num_params)}; --receipts takes "
            "what was measured."
        )
    if way.name == "smaller" and plans:
        change = abs(plan.sized.num_params / plans[0].sized.num_params - 1)
        if change < _SAME_SIZE:
            return f"serving {format_count(asked.served_tokens)} tokens moves the cheapest size by {change:.1%} only."
    return None
