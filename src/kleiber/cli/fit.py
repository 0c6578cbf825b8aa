"""`kleiber fit`: rows into a law, or laws of groups beside each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kleiber.cli.fit_sweeps import FORM, check_of_losses, fit_sweeps, parse_runs
from kleiber.cli.law_tables import (
    allocation_document,
    comparison_document,
    law_document,
    print_allocations,
    print_comparison,
    print_conventions,
    print_groups,
    print_law,
)
from kleiber.cli.options import Json, Seed, parse_positive, parse_real, parse_whole
from kleiber.cli.output import Output
from kleiber.cli.row_options import (
    ROWS_PANEL,
    TABLE_PANEL,
    Count,
    DropHighest,
    LossUnit,
    TableColumns,
    Where,
    check_written,
    parse_columns,
    parse_list,
)
from kleiber.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    from kleiber.runs import Row
    from kleiber.scaling import Law

__all__ = ["EXAMPLE", "fit", "print_law"]

EXAMPLE = "kleiber fit runs/demo/ladder -o law.json"
_COMMAND = "kleiber fit runs/demo/ladder"


def fit(
    rows: Annotated[
        list[Path],
        typer.Argument(
            metavar="ROWS", help="Run folders, folders of runs, tables: CSV, TSV, JSON lines, parquet."
        ),
    ],
    *,
    params_column: Annotated[
        str | None,
        typer.Option("--params-column", metavar="NAME", help="Parameters.", rich_help_panel=TABLE_PANEL),
    ] = None,
    tokens_column: Annotated[
        str | None,
        typer.Option("--tokens-column", metavar="NAME", help="Training tokens.", rich_help_panel=TABLE_PANEL),
    ] = None,
    loss_column: Annotated[
        str | None,
        typer.Option(
            "--loss-column", metavar="NAME", help="Loss, in nats a token.", rich_help_panel=TABLE_PANEL
        ),
    ] = None,
    columns: TableColumns = None,
    loss_unit: LossUnit = "nats",
    vocab_size: Annotated[
        str | None,
        typer.Option(
            "--vocab-size",
            metavar="WHOLE",
            help="Entries of the tokenizer: losses above guessing are refused.",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = None,
    where: Where = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="COLUMN", help="Fit groups apart; two are compared.", rich_help_panel=ROWS_PANEL
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--form",
            metavar="NAME",
            help="chinchilla, tied, kaplan, quadratic, repeated, ...; auto: chosen by backtest; hyperparameters: best learning rate and batch, from sweeps.",
        ),
    ] = "chinchilla",
    for_factor: Annotated[
        str | None,
        typer.Option(
            "--for-factor",
            metavar="NUMBER",
            help="For --form auto: compute of the run to come over that of the dearest row; without it 10.",
        ),
    ] = None,
    chance: Annotated[
        str | None,
        typer.Option("--chance", metavar="0..1", help="Accuracy of guessing, for --form accuracy."),
    ] = None,
    floor: Annotated[
        str | None,
        typer.Option(
            "--floor",
            metavar="NATS",
            help="Loss that remains, for --form kaplan, which does not fit it, and for auto, which tries it then; of English text about 0.4 nats a byte.",
        ),
    ] = None,
    estimators: Annotated[
        str | None,
        typer.Option(
            "--estimators",
            metavar="all|NAME,...",
            help="Set beside each other: projection, approach1, approach2, approach3.",
        ),
    ] = None,
    at_flops: Annotated[
        str | None,
        typer.Option("--at-flops", metavar="NUMBER,...", help="Budgets for --estimators, scales for --by."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="PARAMS@TOKENS,...",
            help="For --form hyperparameters: runs to come, whose best learning rate and batch are told.",
        ),
    ] = None,
    count: Count = "total",
    drop_highest: DropHighest = "0",
    bootstrap: Annotated[
        str, typer.Option("--bootstrap", metavar="WHOLE", help="Refits for the intervals, 100 or more.")
    ] = "400",
    seed: Seed = "0",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write the law here; with --by the comparison: .json for a report, or a chart: .html, .svg, .png.",
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Fit a law, such as L(N, D) = E + A/N^alpha + B/D^beta, to finished runs or to the rows of a table.

    A run that started with a forecast stays out: the law is tested on it.

    Best learning rate and batch over N and D: kleiber fit sweeps.csv --form hyperparameters --columns learning_rate=lr --at 1e9@20e9

    With --json: form, estimator, floor, coefficients (by name), intervals (80 and 95 of each), objective, num_rows,
    convention, loss_unit, noise (trunk_frac, run_frac, misfit_frac, num_repeats), e_determined, undetermined, notes, average (with --form auto: members and how they were
    backtested), size_exponents (by convention), allocations (with --estimators), law (the file written, or null). With --by: groups (such a document each), comparisons, and comparison (the file written, or null).
    With --form hyperparameters: form, num_sweeps, num_surfaces, convention, readings (each, shared: coefficients and intervals), notes, predictions (params, tokens, by reading learning_rate, batch and intervals) and law.
    """
    num_dropped = parse_whole(drop_highest, "--drop-highest", _COMMAND)
    num_bootstrap = parse_whole(bootstrap, "--bootstrap", _COMMAND, minimum=100, maximum=1_000_000)
    number = parse_whole(seed, "--seed", _COMMAND)
    vocabulary = None if vocab_size is None else parse_whole(vocab_size, "--vocab-size", _COMMAND, minimum=2)
    guessed = 0.0 if chance is None else parse_real(chance, "--chance", _COMMAND, maximum=1)
    budgets = [
        parse_positive(text, "--at-flops", _COMMAND, example="1e21") for text in parse_list(at_flops or "")
    ]
    remaining = 0.0 if floor is None else parse_positive(floor, "--floor", _COMMAND, example="1.2")
    if remaining and form not in ("kaplan", "auto"):
        raise UsageError(
            "--floor has no effect without --form kaplan or auto: other forms fit their own.",
            hint=f"{_COMMAND} --form kaplan --floor 1.2",
        )
    _check_asked(output, by, estimators, budgets)
    if at is not None and form != FORM:
        raise UsageError(
            f"--at has no effect without --form {FORM}.", hint=f"{_COMMAND} --form {FORM} --at 1e9@20e9"
        )
    factor = _for_factor(form, for_factor, chance)
    from kleiber import scaling

    named_estimators = _estimators(estimators, scaling.ALLOCATORS) if estimators else []

    named = {"params": params_column, "tokens": tokens_column, "loss": loss_column}
    table = parse_columns([*(columns or []), *(f"{field}={name}" for field, name in named.items() if name)])
    out = Output(json_)
    if form == FORM:
        check_of_losses(
            {
                "--by": by,
                "--estimators": estimators,
                "--chance": chance,
                "--vocab-size": vocabulary,
                "--drop-highest": num_dropped,
            }
        )
        asked = parse_runs(at or "")
        from kleiber.scaling.sweeps import read_sweeps

        sweeps = read_sweeps(
            rows, table, where=where, loss_unit=loss_unit, convention=count, on_notice=out.notice
        )
        fit_sweeps(
            out,
            sweeps,
            asked,
            convention=count,
            num_bootstrap=num_bootstrap,
            seed=number,
            output=output,
        )
        return
    reading: dict[str, Any] = {
        "where": where,
        "loss_unit": "accuracy" if form == "accuracy" else loss_unit,
        "vocab_size": vocabulary,
        "drop_highest": num_dropped,
        "on_notice": out.notice,
    }

    def law_of(found: list[Row]) -> Law:
        if form == "auto":
            return scaling.fit_auto(
                found,
                for_factor=factor,
                floor=remaining,
                convention=count,
                num_bootstrap=num_bootstrap,
                seed=number,
            )
        return scaling.fit(
            found,
            form=form,
            chance=guessed,
            floor=remaining,
            convention=count,
            num_bootstrap=num_bootstrap,
            seed=number,
        )

    if by:
        groups = scaling.read_groups(rows, by, table, **reading)
        if form == "auto":
            laws = scaling.fit_auto_groups(
                groups,
                for_factor=factor,
                floor=remaining,
                convention=count,
                num_bootstrap=num_bootstrap,
                seed=number,
            )
        else:
            laws = _laws_of(groups, law_of)
        _compare(out, by, laws, budgets, output)
        return
    found = scaling.read_rows(rows, table, **reading)
    law = law_of(found).model_copy(update={"excluded": scaling.read_excluded(rows)})
    if output:
        law.write(output)
    print_law(out, law)
    for one in law.excluded:
        out.say(f"Left out: {one.reason}")
    exponents = scaling.size_exponents(found) if form == "chinchilla" else {}
    print_conventions(out, law, exponents)
    document = law_document(law) | {"size_exponents": exponents}
    if estimators:
        allocated = scaling.allocations(
            found,
            budgets,
            estimators=named_estimators,
            convention=count,
            num_bootstrap=num_bootstrap,
            seed=number,
        )
        print_allocations(out, allocated)
        document["allocations"] = [allocation_document(one) for one in allocated]
    out.say(f"Written to {output}." if output else "Add -o law.json to keep it.")
    out.document(document | {"law": str(output) if output else None})


def _for_factor(form: str, text: str | None, chance: str | None) -> float:
    """Return the factor that auto is chosen for."""
    if form == "auto" and chance is not None:
        raise UsageError(
            "--chance has no effect with --form auto, which is of losses.", hint="--form accuracy"
        )
    if text is None:
        return 10.0
    if form != "auto":
        raise UsageError(
            "--for-factor has no effect without --form auto.", hint=f"{_COMMAND} --form auto --for-factor 30"
        )
    return parse_positive(text, "--for-factor", _COMMAND, example="30")


def _check_asked(output: Path | None, by: str | None, estimators: str | None, budgets: list[float]) -> None:
    if by and estimators:
        raise UsageError(
            "--by fits several laws, and --estimators is of one.",
            hint=f"""{_COMMAND} --where 'group == "a"' --estimators ...""",
        )
    if by:
        check_written(output, f"{_COMMAND} --by group")
    if estimators and not budgets:
        raise UsageError("--estimators needs budgets.", hint=f"{_COMMAND} --estimators all --at-flops 1e21")
    if budgets and not (by or estimators):
        raise UsageError(
            "--at-flops has no effect without --estimators or --by.",
            hint=f"{_COMMAND} --estimators all --at-flops 1e21",
        )


def _laws_of(groups: dict[str, list[Row]], law_of: Callable[[list[Row]], Law]) -> dict[str, Law]:
    """Return the law of each group; an error says which group it is about."""
    laws = {}
    for name, found in groups.items():
        try:
            laws[name] = law_of(found)
        except DataError as error:
            raise DataError(f"Group {name!r}: {error.message}", got=error.got, hint=error.hint) from None
    return laws


def _estimators(text: str, known: dict[str, str]) -> list[str]:
    """Return the estimators that were named; an unknown one is told before anything is fitted."""
    names = list(known) if text == "all" else parse_list(text)
    for name in names:
        if name not in known:
            raise UsageError(f"{name!r} is not an estimator. {nearest(name, known)}", hint="--estimators all")
    return names


def _compare(out: Output, by: str, laws: dict[str, Law], budgets: list[float], output: Path | None) -> None:
    """Print the laws of all groups; two are compared, of more each with the first."""
    from kleiber import scaling

    first, *others = laws
    is_one_form = len({law.form for law in laws.values()}) == 1  # auto may choose another for each
    if is_one_form:
        print_groups(out, laws)
        if not others:
            out.say(f"There is one group only, {first}: nothing to compare it with.")
    else:
        for name, law in laws.items():
            out.say(f"{name}:")
            print_law(out, law)
        out.say("Laws of different forms are not compared: --form chinchilla compares them.")
    is_comparable = (
        is_one_form and {"N", "D"} >= set(laws[first].shape.inputs) and laws[first].loss_unit == "nats/token"
    )
    found = {
        name: scaling.compare(laws[first], laws[name], budgets) for name in (others if is_comparable else [])
    }
    for name, comparison in found.items():
        print_comparison(out, (first, name), comparison)
    if output:
        _write(output, by, laws, list(found))
        out.say(f"Written to {output}.")
    out.document(
        {
            "groups": {name: law_document(law) for name, law in laws.items()},
            "comparisons": {f"{name} less {first}": comparison_document(one) for name, one in found.items()},
            "comparison": str(output) if output else None,
        }
    )


def _write(output: Path, by: str, laws: dict[str, Law], others: list[str]) -> None:
    from kleiber.scaling.comparison_document import Comparisons

    if not others:
        raise DataError(
            "Nothing is written: there are no two groups whose laws can be compared.",
            hint="--form chinchilla, and rows of two groups",
        )
    found = Comparisons.of_groups(by, laws, others)
    if output.suffix == ".json":
        found.write(output)
        return
    from kleiber.report.compare_chart import write_compare_chart

    write_compare_chart(found, output)
