"""What the answer to a budget rests on, and why a budget buys nothing, in sentences."""

from __future__ import annotations

from kleiber.cost import ASSUMED_EFFICIENCY_FRAC
from kleiber.cost.flops import FLOP_CONVENTIONS
from kleiber.errors import UsageError
from kleiber.models.gpt import GPTSpec
from kleiber.runs import CONVENTIONS
from kleiber.scaling import Law
from kleiber.study.optimum import SizedRun
from kleiber.study.question import Question
from kleiber.units import format_bytes, format_count, format_flops, format_seconds

__all__ = ["assumptions_of", "no_room", "too_small"]


def too_small(asked: Question) -> UsageError:
    """Return the error of a budget that does not last for a step of the smallest model."""
    smallest, step_tokens = asked.line.specs[0], asked.usage.batch_size * asked.context
    served = asked.budget.inference_tokens
    needed = asked.flops_per_token(smallest) * (step_tokens + served / 3)
    needs = [format_flops(needed)]
    for spend in asked.spends:
        if spend.time_s is not None:
            needed_s = needed / asked.flops_per_s(smallest)
            amount = (getattr(asked.budget, spend.name) or 0.0) * needed_s / spend.time_s
            needs.append(f"{amount:.2g} USD" if spend.name == "usd" else format_seconds(needed_s))
    serving = f" and serving {format_count(served)}" if served else ""
    return UsageError(
        f"A budget of {asked.budget.sentence} is too small for any gpt: the smallest, {_named(smallest)}, needs "
        f"{' or '.join(needs)} for one step of {format_count(step_tokens)} tokens{serving}.",
        hint="a larger budget, a smaller --vocab-size, or --set train.batch_size=1",
    )


def no_room(asked: Question) -> UsageError:
    """Return the error of a memory in which no model fits."""
    smallest = asked.line.specs[0]
    return UsageError(
        f"No gpt fits in {format_bytes(asked.memory_limit_bytes or 0.0)}: the smallest, {_named(smallest)}, needs "
        f"{format_bytes(asked.memory_of(smallest))} with {asked.micro_batch} x {asked.context} tokens at once.",
        hint="more memory, a smaller --vocab-size or --context, or --set train.accumulation=8",
    )


def _named(spec: GPTSpec) -> str:
    return f"{format_count(spec.count().total)} parameters with a vocabulary of {spec.vocab_size}"


def assumptions_of(asked: Question, best: SizedRun, fitting: SizedRun | None) -> tuple[str, ...]:
    """Return what the figures rest on, a sentence each."""
    return (
        *_law_says(asked, best),
        *_cost_says(asked),
        *_edge_says(asked, best),
        *_memory_says(asked, best, fitting),
    )


def _law_says(asked: Question, best: SizedRun) -> list[str]:
    law, size = asked.law, best.num_params.by(asked.law.convention)
    counted = f"its N counts {CONVENTIONS[law.convention]}"
    if isinstance(law, Law):
        sizes = [row.num_params.by(law.convention) for row in law.rows]
        low, high = float(min(sizes)), float(max(sizes))
        says = [
            f"The law is {law.hash} of form {law.form}, fitted to {law.num_rows} runs; {counted}.",
            *_taken_as(law),
            *law.notes,
        ]
    else:
        low, high = law.fitted_params
        says = [
            f"The law is that of {law.title}; {counted}.",
            "Its loss is that of its own text and tokenizer: the optimum carries over better than the loss.",
        ]
    if not low <= size <= high:
        factor = size / high if size > high else low / size
        side = "above" if size > high else "below"
        says.append(
            f"The law was fitted on {format_count(low)} to {format_count(high)} parameters; "
            f"this is {factor:.2g} times {side}."
        )
    return says


def _taken_as(law: Law) -> list[str]:
    """Return what is assumed of the inputs that a gpt of the dial does not say."""
    taken = {"U": "Each training token is taken as new.", "S": "A gpt of the dial is dense: S is 1."}
    return [sentence for name, sentence in taken.items() if name in law.shape.inputs]


def _cost_says(asked: Question) -> list[str]:
    says = [f"FLOPs: {FLOP_CONVENTIONS['causal']}."]
    if asked.rate is None:
        dtype, _ = asked.device.peak(asked.usage.precision)
        says.append(
            f"Time is assumed at {ASSUMED_EFFICIENCY_FRAC:.0%} of the {dtype} peak of {asked.device.title}, "
            "not measured; small models reach less."
        )
    price, listed = asked.usd_per_hour, asked.device.usd_per_hour
    if price is not None:
        says.append(f"Money is {price:g} USD an hour for one {asked.device.name}: the price given.")
    elif listed is not None:
        source = f"list price of {asked.device.price_date}, check yours"
        says.append(f"Money is {listed:g} USD an hour for one {asked.device.name}: {source}.")
    if asked.budget.inference_tokens:
        says.append(
            f"The budget also pays for serving {format_count(asked.budget.inference_tokens)} tokens, each at a third "
            "of the operations of training on one and at the same rate; serving in small batches is slower."
            if asked.budget.has_compute
            else f"The tokens take into account that {format_count(asked.budget.inference_tokens)} will be served."
        )
    return says


def _edge_says(asked: Question, best: SizedRun) -> list[str]:
    if not asked.budget.has_compute:
        return ["Memory alone is limited: the tokens are those for which this size is compute-optimal."]
    total = best.num_params.total
    if total <= asked.line.specs[0].count().total:
        return [
            "This is the smallest gpt with this vocabulary: a smaller one would be better on this budget."
        ]
    if total >= 0.99 * asked.line.specs[-1].count().total:
        return ["This is the largest gpt of the dial: a larger one would be better on this budget."]
    return []


def _memory_says(asked: Question, best: SizedRun, fitting: SizedRun | None) -> list[str]:
    says = [
        f"Memory is of {asked.micro_batch} x {asked.context} tokens at once on a device"
        + (
            f", spread as {asked.layout.name}."
            if asked.memory is None and asked.layout.num_devices > 1
            else "."
        )
    ]
    limit = asked.memory_limit_bytes
    if limit is None:
        return [*says, f"Whether it fits is not known: {asked.device.name} has no memory size of its own."]
    if best.fits:
        return says
    says.append(f"It does not fit: {format_bytes(best.memory_bytes)} of {format_bytes(limit)} a device.")
    if fitting is None:
        says.append("No gpt fits with this batch and context.")
        return says
    worse = fitting.loss / best.loss - 1
    says.append(
        f"The largest that fits has {format_count(fitting.num_params.total)} parameters; "
        f"trained for as long, its loss is {worse:.2%} higher."
    )
    return says
