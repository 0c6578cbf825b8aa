"""`kleiber fit --form hyperparameters`: sweeps into laws of the best learning rate and batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kleiber.cli.options import parse_positive
from kleiber.cli.output import Output
from kleiber.cli.row_options import parse_list
from kleiber.errors import UsageError
from kleiber.units import format_count

if TYPE_CHECKING:
    from kleiber.runs import Convention
    from kleiber.scaling.hyperparameters import HyperparameterLaw
    from kleiber.scaling.sweeps import Sweep

__all__ = ["FORM", "check_of_losses", "fit_sweeps", "parse_runs"]

FORM = "hyperparameters"
_COMMAND = f"kleiber fit sweeps.csv --form {FORM}"
_LABELS = {"each": "each sweep's own best", "shared": "one bowl for all sweeps"}
_SHORT = {"each": "own best", "shared": "one bowl"}
_EQUATION = (
    "rate = rate_level N^rate_by_size D^rate_by_tokens; batch = batch_level N^batch_by_size D^batch_by_tokens"
)


def check_of_losses(given: Mapping[str, object]) -> None:
    """Refuse options that mean something for laws of losses alone.

    Raises:
        UsageError: One of them was given.
    """
    for name, value in given.items():
        if value:
            raise UsageError(
                f"{name} has no effect with --form {FORM}, which is of learning rates and batches.",
                hint=_COMMAND,
            )


def parse_runs(text: str) -> list[tuple[float, float]]:
    """Return size and tokens of each run that `--at` names.

    Raises:
        UsageError: One is not PARAMS@TOKENS.
    """
    runs = []
    for part in parse_list(text):
        size, separator, tokens = part.partition("@")
        if not separator:
            raise UsageError("--at takes PARAMS@TOKENS.", got=part, hint=f"{_COMMAND} --at 1e9@20e9")
        runs.append(
            (
                parse_positive(size, "--at", _COMMAND, example="1e9@20e9"),
                parse_positive(tokens, "--at", _COMMAND, example="1e9@20e9"),
            )
        )
    return runs


def fit_sweeps(
    out: Output,
    sweeps: Sequence[Sweep],
    asked: Sequence[tuple[float, float]],
    *,
    convention: Convention,
    num_bootstrap: int,
    seed: int,
    output: Path | None,
) -> None:
    """Fit both readings, print them and what they say of the runs asked for, and write them where asked."""
    from kleiber.scaling.hyperparameters import HyperparameterLaws, fit_hyperparameters, fit_shared_bowl

    each = fit_hyperparameters(sweeps, num_bootstrap=num_bootstrap, seed=seed)
    shared = fit_shared_bowl(sweeps, num_bootstrap=num_bootstrap, seed=seed)
    notes = _notes(sweeps, each, shared)
    laws = HyperparameterLaws(
        convention=convention,
        max_params=max(one.num_params for one in sweeps),
        max_tokens=max(one.num_tokens for one in sweeps),
        each=each,
        shared=shared,
        notes=notes,
    )
    if output:
        laws.write(output)
    readings = {"each": each} | ({"shared": shared} if shared else {})
    out.say(_EQUATION)
    out.say(
        f"over {len(sweeps)} sweeps of {sum(len(one.loss) for one in sweeps)} runs; N counts {convention} parameters; "
        "the batch in the unit of its column"
    )
    _print_coefficients(out, readings)
    for note in notes:
        out.say(f"note: {note}")
    predictions = [_prediction(readings, size, tokens) for size, tokens in asked]
    if predictions:
        _print_predictions(out, predictions, laws.max_params, laws.max_tokens)
    out.say(f"Written to {output}." if output else "Add -o hyperparameters.json to keep it.")
    out.document(
        {
            "form": FORM,
            "num_sweeps": len(sweeps),
            "num_surfaces": each.num_surfaces,
            "convention": convention,
            "readings": {
                name: {"coefficients": law.coefficients, "intervals": law.intervals}
                for name, law in readings.items()
            },
            "notes": list(notes),
            "predictions": predictions,
            "law": str(output) if output else None,
        }
    )


def _notes(
    sweeps: Sequence[Sweep], each: HyperparameterLaw, shared: HyperparameterLaw | None
) -> tuple[str, ...]:
    edges = [one.name for one in sweeps if one.is_lowest_at_edge]
    notes = []
    if edges:
        notes.append(
            f"{len(edges)} of {len(sweeps)} sweeps are lowest at the edge of what they tried: {'; '.join(edges)}."
        )
    if each.num_surfaces < each.num_sweeps:
        notes.append(
            f"{each.num_sweeps - each.num_surfaces} of {each.num_sweeps} sweeps show no bowl of their own: "
            "their lowest run stands for their best."
        )
    if shared is None:
        notes.append("No one bowl fits all sweeps: they are read by their own best alone.")
    return tuple(notes)


def _print_coefficients(out: Output, readings: Mapping[str, HyperparameterLaw]) -> None:
    for name, law in readings.items():
        out.say(f"By {_LABELS[name]}:")
        out.table(
            ["", "value", "80% interval", "95% interval"],
            (
                [
                    coefficient,
                    f"{value:.4g}",
                    *(_interval(law.intervals[coefficient][level]) for level in ("80", "95")),
                ]
                for coefficient, value in law.coefficients.items()
            ),
        )


def _prediction(
    readings: Mapping[str, HyperparameterLaw], num_params: float, num_tokens: float
) -> dict[str, Any]:
    found: dict[str, Any] = {"params": num_params, "tokens": num_tokens}
    for name, law in readings.items():
        found[name] = {
            "learning_rate": law.learning_rate(num_params, num_tokens),
            "batch": law.batch(num_params, num_tokens),
            "intervals": law.intervals_at(num_params, num_tokens),
        }
    return found


def _print_predictions(
    out: Output, predictions: Sequence[Mapping[str, Any]], max_params: float, max_tokens: float
) -> None:
    out.table(
        ["run", "reading", "best", "value", "80% interval", "95% interval"],
        (
            [
                f"{format_count(one['params'])} @ {format_count(one['tokens'])}",
                _SHORT[reading],
                what.split("_")[-1],
                f"{one[reading][what]:.3g}",
                *(_interval(one[reading]["intervals"][what][level]) for level in ("80", "95")),
            ]
            for one in predictions
            for reading in _SHORT
            if reading in one
            for what in ("learning_rate", "batch")
        ),
        words=(0, 1, 2),
    )
    for one in predictions:
        factors = (one["params"] / max_params, one["tokens"] / max_tokens)
        if max(factors) > 1:
            out.say(
                f"note: {format_count(one['params'])} @ {format_count(one['tokens'])} has {factors[0]:.3g} times the "
                f"parameters and {factors[1]:.3g} times the tokens of the largest sweep."
            )


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g}"
