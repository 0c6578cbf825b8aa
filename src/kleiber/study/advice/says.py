"""Why the first route is first, and what the figures rest on, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kleiber.cost.flops import FLOP_CONVENTIONS
from kleiber.runs import CONVENTIONS
from kleiber.scaling import Law
from kleiber.study.advice.document import Amount, BreakEven, Cost, Elsewhere, Question, Route
from kleiber.study.advice.losses import compared_members
from kleiber.study.advice.meter import Unit, format_cost
from kleiber.study.advice.routes import Asked
from kleiber.units import format_count

__all__ = ["assumptions_of", "break_even_says", "cost_in", "why"]


def cost_in(cost: Cost, unit: Unit) -> Amount:
    """Return a cost in the unit of the ranking."""
    found = {"flops": cost.flops, "s": cost.time_s, "usd": cost.usd}[unit]
    assert found is not None  # noqa: S101 - money is no unit without a price
    return found


def why(
    routes: Sequence[Route], unit: Unit, elsewhere: Sequence[Elsewhere], served_tokens: float
) -> Iterator[str]:
    """Yield why the first route is first, and from where on another would be."""
    first, others = routes[0], routes[1:]
    if not others:
        yield f"{_start(first.title)} is the only route that was compared."
        return
    second = others[0]
    ours, theirs = (cost_in(one.total, unit).value for one in (first, second))
    yield (
        f"{_start(first.title)} costs {format_cost(ours, unit)}, {1 - ours / theirs:.0%} less than the next, {second.title}; it is the "
        f"cheapest in {first.cheapest_frac:.0%} of the draws of what is not known."
    )
    against = next((one for one in others if one.name == "optimum"), second)
    yield _traded(first, against, unit)
    changes = [(one.served_tokens, one.title) for one in elsewhere if one.title != first.title]
    above = next(((tokens, title) for tokens, title in changes if tokens > served_tokens), None)
    below = next(((tokens, title) for tokens, title in reversed(changes) if tokens < served_tokens), None)
    for change, side in ((below, "fewer"), (above, "more")):
        if change is not None:
            yield f"With {side} served tokens, {format_count(change[0])}, the cheapest would be: {change[1]}."


def _traded(first: Route, other: Route, unit: Unit) -> str:
    parts = []
    for what, ours, theirs in (("train", first.train, other.train), ("serve", first.serve, other.serve)):
        gap = cost_in(ours, unit).value - cost_in(theirs, unit).value
        if abs(gap) > 0:
            parts.append(f"{format_cost(abs(gap), unit)} {'more' if gap > 0 else 'less'} to {what}")
    size = first.num_params / other.num_params
    scale = f"{size:.2g} times the parameters" if size >= 1 else f"{1 / size:.2g} times fewer parameters"
    tokens = first.num_tokens / other.num_tokens
    return f"Beside {other.title} it has {scale} and trains on {tokens:.2g} times the tokens: {' and '.join(parts) or 'the same cost'}."


def break_even_says(one: BreakEven) -> str:
    """Return a sentence on where two routes cost the same."""
    if one.served_tokens is None:
        tail = "" if one.none_frac > 0.99 else f", in {one.none_frac:.0%} of the draws"
        return f"{_start(one.first)} costs less than {one.other} however many tokens are served{tail}."
    ends = one.served_tokens.interval_80
    within = "" if ends is None else f" (80%: {_end(ends[0])} to {_end(ends[1])})"
    side = "fewer" if one.first_wins == "above" else "more"
    rest = f"; in {one.none_frac:.0%} of the draws at no number" if one.none_frac > 0.01 else ""
    return f"With {side} than {format_count(one.served_tokens.value)} served tokens{within}, {one.other} costs less than {one.first}{rest}."


def _end(value: float | None) -> str:
    return "no end" if value is None else format_count(value)


def _start(title: str) -> str:
    return title[0].upper() + title[1:]


def assumptions_of(asked: Asked, question: Question) -> Iterator[str]:
    """Yield what the figures rest on."""
    law = asked.law
    if isinstance(law, Law):
        yield f"The law is {law.hash}, form {law.form}, of {law.num_rows} runs; its N counts {CONVENTIONS[law.convention]}."
        if law.average is not None:
            names = ", ".join(one.candidate for one in compared_members(law.average))
            yield f"Routes are compared under {names}: what auto found, as far as it weighs size against tokens."
        yield from law.notes
    else:
        yield f"The law is that of {law.title}; its N counts {CONVENTIONS[law.convention]}."
    yield (
        f"Models are gpts of the dial's shape with a vocabulary of {question.vocab_size} and sequences of {question.context} tokens "
        f"(--vocab-size, --context). FLOPs: {FLOP_CONVENTIONS['causal']}."
    )
    yield (
        f"Requests read {question.prompt_tokens} tokens and write {question.new_tokens} (--prompt-tokens, --new-tokens), {question.serve_batch} "
        f"at once (--serve-batch), in {question.precision}; served tokens are those read and those written."
    )
    if question.unique_tokens is None:
        yield "Every token that is trained on is taken to be a new one; a law of form repeated, with --unique-tokens, counts repeats."
    yield asked.speeds.says
    if question.num_devices > 1:
        yield f"{question.num_devices} devices are taken to share the work without loss; kleiber plan counts their communication."
    price, device = question.usd_per_hour, asked.place.device
    if price is not None and asked.place.usd_per_hour is None:
        yield f"Money is {price:g} USD an hour for one {device.name}: list price of {device.price_date}, check yours (--usd-per-hour)."
    elif price is not None:
        yield f"Money is {price:g} USD an hour for one {device.name}: the price given."
    yield (
        "Intervals are over draws of the law's refits and one run's noise, of the speed of training and of serving, and of what compression "
        "and growth do; a size stays as planned and trains until the loss is reached."
    )
