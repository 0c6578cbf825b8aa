"""An advice as people read it: the ranking, training and serving apart, why, and from where on another route is cheaper."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kleiber.cli.output import Output
from kleiber.cost import known_devices
from kleiber.study.advice.document import Advice, Route, Within
from kleiber.study.advice.meter import Unit, format_cost
from kleiber.study.advice.says import break_even_says, cost_in
from kleiber.units import format_bytes, format_count, format_flops, format_seconds

__all__ = ["plan_command", "print_advice"]


def print_advice(out: Output, advice: Advice) -> None:
    """Print routes, the cheapest first, and what there is to know about them."""
    asked = advice.question
    where = f"{asked.num_devices} x {asked.device}" if asked.num_devices > 1 else asked.device
    bought = (
        "" if asked.budget is None else f", the lowest that {format_cost(asked.budget, advice.unit)} buys"
    )
    out.say(
        f"Loss {advice.loss:.4g} nats/token{bought}; {format_count(asked.served_tokens)} tokens served; on {where}."
    )
    out.table(_headers(advice), _ranking(advice))
    out.say("Training and serving apart:")
    out.table(["", "", "FLOPs", "time", "money", "80% interval"], _apart(advice), words=(0, 1))
    out.say(f"Served in {asked.precision}, {asked.serve_batch} at once:")
    out.table(["", "weights", "cache", "fits a device", "a token"], _served(advice))
    for sentence in (*advice.why, *(break_even_says(one) for one in advice.break_evens)):
        out.say(sentence)
    out.say(_carried_out(advice))
    out.say(f"Its plan: {plan_command(advice)}")
    out.say("")
    for sentence in _notes(advice):
        out.say(f"- {sentence}")


def _headers(advice: Advice) -> list[str]:
    budget = ["loss"] if advice.question.budget is not None else []
    return ["route", "size", "tokens", "total", "80% interval", "best in", *budget]


def _ranking(advice: Advice) -> Iterator[list[str]]:
    for place, one in enumerate(advice.routes, start=1):
        total = cost_in(one.total, advice.unit)
        within = one.loss_within_budget
        budget = [] if advice.question.budget is None else ["-" if within is None else f"{within:.4f}"]
        yield [
            f"{place} {one.title}",
            format_count(one.num_params),
            format_count(one.num_tokens),
            format_cost(total.value, advice.unit),
            _between(total.interval_80, advice.unit),
            f"{one.cheapest_frac:.0%}",
            *budget,
        ]


def _between(ends: Within | None, unit: Unit) -> str:
    if ends is None:
        return "-"
    low, high = ("no end" if end is None else format_cost(end, unit) for end in ends)
    return f"{low} to {high}"


def _apart(advice: Advice) -> Iterator[list[str]]:
    for one in advice.routes:
        for title, what, cost in ((one.title, "train", one.train), ("", "serve", one.serve)):
            yield [
                title,
                what,
                format_flops(cost.flops.value),
                format_seconds(cost.time_s.value),
                "-" if cost.usd is None else format_cost(cost.usd.value, "usd"),
                _between(cost_in(cost, advice.unit).interval_80, advice.unit),
            ]


def _served(advice: Advice) -> Iterator[list[str]]:
    for one in advice.routes:
        token = next((said.predicted for said in one.predictions if said.quantity == "latency_s"), None)
        yield [
            one.title,
            format_bytes(one.memory.weight_bytes),
            format_bytes(one.memory.cache_bytes),
            _fits(one),
            "-" if token is None else format_seconds(token),
        ]


def _fits(route: Route) -> str:
    memory = route.memory
    if memory.fits is None:
        return "not known"
    return "yes" if memory.fits else f"no, {memory.num_devices} hold it"


def plan_command(advice: Advice) -> str:
    """Return the command that plans the first route's training in full."""
    asked, first = advice.question, advice.routes[0]
    words = [
        "kleiber plan",
        first.model,
        f"--tokens {first.num_tokens:.4g}".replace("e+", "e"),
        f"--vocab-size {asked.vocab_size} --context {asked.context}",
    ]
    if asked.device in known_devices():
        words.append(f"--device {asked.device}")
    if asked.num_devices > 1:
        words.append(f"--num-devices {asked.num_devices}")
    return " ".join(words)


def _carried_out(advice: Advice) -> str:
    """Return what will be measured if the first route is trained as planned, whatever its loss turns out to be."""
    said = {(one.quantity, one.stage): one for one in advice.routes[0].predictions}
    loss, time = said["val_loss", "trained"], said["total_time_s", "trained"]
    parts = (
        (f"a loss of {loss.predicted:.4g}", loss.interval_80, "{:.4g}".format),
        (f"after {format_seconds(time.predicted)} of training", time.interval_80, format_seconds),
    )
    found = [text if ends is None else f"{text} ({_ends(ends, show)})" for text, ends, show in parts]
    return f"Trained as planned, it is foretold {' '.join(found)}."


def _ends(ends: Within, show: Callable[[float], str]) -> str:
    low, high = ("no end" if end is None else show(end) for end in ends)
    return f"80%: {low} to {high}"


def _notes(advice: Advice) -> Iterator[str]:
    """Yield warnings, what was left out, and what all of it rests on."""
    yield from advice.warnings
    for one in advice.routes:
        for sentence in one.warnings:
            yield f"{one.title}: {sentence}"
    for left in advice.left_out:
        yield f"{left.title} was left out: {left.reason}"
    for one in advice.routes:
        if one.name in {"grow", "compress"}:  # the others follow from the law and the device alone
            yield f"{one.title}: {one.rests_on}"
        if one.donor is not None:
            yield f"{one.title}: its donor took {one.donor.train_flops:.3g} FLOP, spent already and not counted."
    yield from advice.assumptions
