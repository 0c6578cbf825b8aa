"""Laws, allocations and comparisons as people read them and as documents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kleiber.cli.output import Output
from kleiber.units import format_count, format_flops, format_loss

if TYPE_CHECKING:
    from kleiber.scaling import Allocation, Comparison, Law

__all__ = [
    "allocation_document",
    "comparison_document",
    "law_document",
    "print_allocations",
    "print_comparison",
    "print_conventions",
    "print_groups",
    "print_law",
]

_MOST_COLUMNS = 3
_KEYS = (
    "form",
    "estimator",
    "floor",
    "coefficients",
    "intervals",
    "objective",
    "num_rows",
    "convention",
    "loss_unit",
    "noise",
    "e_determined",
    "undetermined",
    "notes",
)
_UNITS = {"nats/token": "losses in nats a token", "accuracy": "accuracies as parts of 1"}


def print_law(out: Output, law: Law) -> None:
    """Print the coefficients with their intervals, and what a reader must know."""
    out.say(law.shape.equation)
    out.say(
        f"over {law.num_rows} rows; N counts {law.convention} parameters; {_UNITS[law.loss_unit]}; "
        f"Huber objective {law.objective:.5g}"
    )
    out.table(
        ["", "value", "80% interval", "95% interval"],
        (
            [name, _value(law, name), *(f"{low:.4g} to {high:.4g}" for low, high in _levels(law, name))]
            for name in law.coefficients
        ),
    )
    out.say(_scatter(law))
    for note in law.notes:
        out.say(f"note: {note}")


def _scatter(law: Law) -> str:
    """Return how far single runs fall from the law: no forecast of one run is nearer than its seed lets it be."""
    noise, of = law.noise, "" if law.loss_unit == "accuracy" else " of the loss"
    total = f"A run falls {_deviation(law, noise.total_frac)}{of} from the law (one standard deviation)"
    if not noise.num_repeats:
        return f"{total}: its seed and the form's misfit together."
    return (
        f"{total}: {_deviation(law, noise.seed_frac)} by its seed, the floor of any forecast's error, "
        f"and {_deviation(law, noise.misfit_frac)} where the form does not fit."
    )


def _deviation(law: Law, value: float) -> str:
    return f"{value:.2g}" if law.loss_unit == "accuracy" else f"{value:.2%}"


def print_conventions(out: Output, law: Law, exponents: Mapping[Any, float]) -> None:
    """Print how the optimum moves with what N counts, where the rows tell more than one count."""
    if len(exponents) > 1:
        shown = ", ".join(f"{a:.3f} by {name}" for name, a in exponents.items())
        out.say(
            f"N_opt grows as C^a, C = 6 N D with the same N: a is {shown}; this law counts {law.convention}."
        )


def print_groups(out: Output, laws: Mapping[str, Law]) -> None:
    """Print laws of one form in one table: a column a group with intervals, of many groups a line each without."""
    first = next(iter(laws.values()))
    is_wide = len(laws) <= _MOST_COLUMNS
    out.say(
        f"{first.shape.equation}; N counts {first.convention} parameters; {_UNITS[first.loss_unit]}"
        f"{'; 80% intervals' if is_wide else ''}"
    )
    if is_wide:
        counts = ["rows", *(str(law.num_rows) for law in laws.values())]
        lines = [
            [name, *(f"{_value(law, name)} ({_range(law, name)})" for law in laws.values())]
            for name in first.coefficients
        ]
        out.table(["", *laws], [counts, *lines])
    else:
        out.table(
            ["", "rows", *first.coefficients],
            (
                [name, str(law.num_rows), *(_value(law, one) for one in first.coefficients)]
                for name, law in laws.items()
            ),
        )
    for name, law in laws.items():
        out.say(f"{name}: {_scatter(law)}")
        for note in law.notes:
            out.say(f"note: {name}: {note}")


def print_comparison(out: Output, names: tuple[str, str], found: Comparison) -> None:
    """Print whether two laws differ, and where they cross."""
    first, second = names
    out.say(f"{second} less {first} at {found.tokens_per_param:.3g} tokens a parameter, C = 6 N D:")
    out.table(
        ["compute", first, second, "difference", "95% interval", "better"],
        (
            [
                format_flops(one.flops),
                format_loss(one.first_loss),
                format_loss(one.second_loss),
                f"{one.difference:+.4f}",
                f"{one.interval_95[0]:+.4f} to {one.interval_95[1]:+.4f}",
                (second if one.difference < 0 else first) if one.is_real else "not shown",
            ]
            for one in found.differences
        ),
        words=(0, 5),
    )
    out.say(_crossing(found))


def _crossing(found: Comparison) -> str:
    crossing = found.crossing
    looked = f"{format_flops(crossing.low_flops)} to {format_flops(crossing.high_flops)}"
    share = f"{crossing.crosses_frac:.0%} of the pairs of refits do"
    if crossing.flops is None:
        return f"They do not cross from {looked}; {share}."
    interval = (
        f"80% interval {format_flops(crossing.interval_80[0])} to {format_flops(crossing.interval_80[1])}"
        if crossing.interval_80
        else "which is not sure"
    )
    return f"They cross at {format_flops(crossing.flops)}, {interval}; {share} from {looked}."


def print_allocations(out: Output, found: Sequence[Allocation]) -> None:
    """Print what each estimator would train on each budget, side by side."""
    out.say("Best size and tokens on a budget of C = 6 N D, by estimator; N_opt grows as C^a:")
    out.table(
        ["estimator", "a", "80% interval", "budget", "N", "80% interval", "D"],
        (row for one in found for row in _rows(one)),
    )
    for one in found:
        for note in one.notes:
            out.say(f"note: {note}")


def _rows(one: Allocation) -> list[list[str]]:
    if math.isnan(one.size_exponent):
        return [[one.estimator, "none", "", "", "", "", ""]]
    low, high = one.size_exponent_80
    head = [one.estimator, f"{one.size_exponent:.3f}", f"{low:.3f} to {high:.3f}"]
    budgets = [
        [
            format_flops(budget.flops),
            format_count(budget.num_params),
            f"{format_count(budget.num_params_80[0])} to {format_count(budget.num_params_80[1])}",
            format_count(budget.num_tokens),
        ]
        for budget in one.budgets
    ]
    return [[*(head if k == 0 else ["", "", ""]), *budget] for k, budget in enumerate(budgets)]


def law_document(law: Law) -> dict[str, Any]:
    """Return what a program reads of a law; its rows and refits are in the file."""
    document = law.model_dump(mode="json", include=set(_KEYS))
    found = {key: document[key] for key in _KEYS}
    if law.average is not None:
        bare: Any = {"__all__": {"samples"}}
        found["average"] = law.average.model_dump(mode="json", exclude={"members": bare, "rivals": bare})
    return found


def comparison_document(found: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values."""
    return {
        "tokens_per_param": found.tokens_per_param,
        "differences": [vars(one) | {"is_real": one.is_real} for one in found.differences],
        "crossing": vars(found.crossing),
    }


def allocation_document(one: Allocation) -> dict[str, Any]:
    """Return an allocation as JSON values."""
    return {
        "estimator": one.estimator,
        "size_exponent": one.size_exponent,
        "size_exponent_80": one.size_exponent_80,
        "budgets": [vars(budget) for budget in one.budgets],
        "notes": one.notes,
    }


def _value(law: Law, name: str) -> str:
    unknown = name in law.undetermined or (name == "E" and not law.e_determined)
    return "not determined" if unknown else f"{law.coefficients[name]:.4g}"


def _range(law: Law, name: str) -> str:
    low, high = law.intervals[name]["80"]
    return f"{low:.4g} to {high:.4g}"


def _levels(law: Law, name: str) -> list[tuple[float, float]]:
    return [law.intervals[name]["80"], law.intervals[name]["95"]]
