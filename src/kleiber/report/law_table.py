"""The law as a reader sees it: the formula with its coefficients, their intervals and what they mean."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup, escape

from kleiber.report.tables import EMPTY, Cell, Table
from kleiber.report.words import Words
from kleiber.scaling import Law

__all__ = ["LawView", "law_view", "typeset"]

_GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "lambda": "λ"}


@dataclass(frozen=True)
class LawView:
    """The law as text."""

    formula: dict[str, str]
    """Coefficients as the formula shows them; E is its letter when the rows do not determine it."""
    equation: Markup | None
    """Of a law of another form than Chinchilla's; its coefficients stand in the table."""
    is_floor_known: bool
    about: str
    notes: tuple[str, ...]
    table: Table


def law_view(law: Law, words: Words) -> LawView:
    """Return what the page says of a law; an E that the rows do not determine is not printed as a number."""
    is_chinchilla = law.form == "chinchilla"
    formula = {name: _short(law.coefficients[name]) for name in law.coefficients}
    about = words(
        "law_about",
        count=law.num_rows,
        trunks=len({row.trunk for row in law.rows}),
        convention=words(f"law_source_convention_{law.convention}"),
    )
    head = ("coefficient", "value", "interval_80", "interval_95", "meaning")
    rows = tuple(_coefficient_row(name, law, words) for name in law.coefficients)
    return LawView(
        formula=formula | ({} if law.e_determined else {"E": "E"}),
        equation=None if is_chinchilla else typeset(law.shape.equation),
        is_floor_known=law.e_determined or "E" not in law.coefficients,
        about=about,
        notes=law.notes,
        table=Table(tuple(words(key) for key in head), rows, frozenset({4})),
    )


def _coefficient_row(name: str, law: Law, words: Words) -> tuple[Cell, ...]:
    intervals = law.intervals[name]
    meanings = {one.name: one.meaning for one in law.shape.coefficients}
    shown = name not in law.undetermined and (name != "E" or law.e_determined)
    value = _short(law.coefficients[name]) if shown else EMPTY
    ranges = (f"{_short(low)} – {_short(high)}" for low, high in (intervals["80"], intervals["95"]))
    return (
        Cell(_greek(name)),
        Cell(value),
        *(Cell(text) for text in ranges),
        Cell(words(f"meaning_{name}") if law.form == "chinchilla" else meanings[name]),
    )


def typeset(equation: str) -> Markup:
    """Return an equation with Greek letters, raised powers and lowered indices.

    Example:
        >>> str(typeset("L(N) = E + A/N^alpha + N_c")), str(typeset("x^(a/b) D^-exp(y)"))
        ('L(N) = E + A/N<sup>α</sup> + N<sub>c</sub>', 'x<sup>a/b</sup> D^-exp(y)')
    """
    text = _greek(str(escape(equation)))
    text = re.sub(r"(?<=\w)_(\w+)", r"<sub>\1</sub>", text)
    text = re.sub(r"\^(-?\w+\b(?:<sub>\w+</sub>)?)(?!\()", r"<sup>\1</sup>", text)
    text = re.sub(r"\^\(([^()]*)\)", r"<sup>\1</sup>", text)
    return Markup(text)  # noqa: S704 - escaped above


def _greek(text: str) -> str:
    return re.sub(r"\b(alpha|beta|gamma|delta|lambda)(?=\b|_)", lambda found: _GREEK[found[0]], text)


def _short(value: float) -> str:
    """Return three significant digits, without an exponent where it reads well.

    Example:
        >>> _short(0.34821), _short(2085.4), _short(3.14e7)
        ('0.348', '2,090', '3.14e+07')
    """
    return f"{float(f'{value:.3g}'):,g}"
