"""The command line: which commands there are, and how each of them ends."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from kleiber.cli import (
    advise,
    backtest,
    bench,
    calibrate,
    classify,
    compress,
    demo,
    export,
    fit,
    forecast,
    generate,
    ladder,
    plan,
    report,
    schema,
    serve,
    study,
    train,
    verify,
)
from kleiber.cli import eval as evaluation
from kleiber.cli.named_paths import require_named_paths
from kleiber.cli.waiting import let_threads_sleep
from kleiber.errors import Interrupted, KleiberError, UsageError

__all__ = ["app", "main", "run"]

COMMANDS: dict[str, tuple[str, Callable[..., None] | typer.Typer, str]] = {
    "demo": ("Start here", demo.demo, demo.EXAMPLE),
    "schema": ("Start here", schema.schema, schema.EXAMPLE),
    "plan": ("Parameter scale", plan.plan, plan.EXAMPLE),
    "calibrate": ("Parameter scale", calibrate.calibrate, calibrate.EXAMPLE),
    "ladder": ("Parameter scale", ladder.app, ladder.EXAMPLE),
    "fit": ("Parameter scale", fit.fit, fit.EXAMPLE),
    "backtest": ("Parameter scale", backtest.backtest, backtest.EXAMPLE),
    "forecast": ("Parameter scale", forecast.forecast, forecast.EXAMPLE),
    "verify": ("Parameter scale", verify.verify, verify.EXAMPLE),
    "study": ("Parameter scale", study.study, study.EXAMPLE),
    "advise": ("Parameter scale", advise.advise, advise.EXAMPLE),
    "train": ("Training methods", train.train, train.EXAMPLE),
    "compress": ("Inference efficiency", compress.compress, compress.EXAMPLE),
    "bench": ("Inference efficiency", bench.bench, bench.EXAMPLE),
    "eval": ("Inference efficiency", evaluation.evaluate, evaluation.EXAMPLE),
    "export": ("Inference efficiency", export.export, export.EXAMPLE),
    "generate": ("Inference efficiency", generate.generate, generate.EXAMPLE),
    "classify": ("Inference efficiency", classify.classify, classify.EXAMPLE),
    "serve": ("Inference efficiency", serve.serve, serve.EXAMPLE),
    "report": ("Trust", report.report, report.EXAMPLE),
}
"""Name: panel of the help, what runs, an example that works."""


class _InOrder(TyperGroup):
    """Lists commands as `COMMANDS` does; typer alone would put groups first."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is typer's
        return list(COMMANDS)


app = typer.Typer(
    name="kleiber",
    cls=_InOrder,
    help="What does a bigger model buy, what does it cost, and how do I get the cost back?",
    epilog=f"Example: {demo.EXAMPLE}",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

for _name, (_panel, _command, _example) in COMMANDS.items():
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_name, rich_help_panel=_panel, epilog=f"Example: {_example}")
    else:
        app.command(_name, rich_help_panel=_panel, epilog=f"Example: {_example}")(_command)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from kleiber import __version__

        typer.echo(f"kleiber {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")
    ] = False,
) -> None:
    # `main` has taken --debug away by now; it stands here for the help.
    del version, debug


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code: 0 done, 1 failed, 2 asked wrongly, 130 interrupted."""
    rest = [argument for argument in arguments if argument != "--debug"]
    try:
        command = typer.main.get_command(app)
        require_named_paths(command, rest)
        code = command.main(rest or ["--help"], prog_name="kleiber", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place where a command ends
        if len(rest) < len(arguments):
            traceback.print_exc()
        text, code = _ending(error)
        sys.stderr.write(text)
        return code
    if code == Interrupted.exit_code:  # typer has caught Ctrl-C
        sys.stderr.write("stopped.\n")
    return int(code or 0)


def _ending(error: BaseException) -> tuple[str, int]:
    """Return what a person reads of an error, and the exit code."""
    if isinstance(error, Interrupted):  # no error: the user asked for it
        return f"{error}\n", error.exit_code
    if isinstance(error, KleiberError):
        return f"error: {error}\n", error.exit_code
    if isinstance(error, typer.TyperException):
        return f"error: {_explain(error)}\n", UsageError.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "stopped.\n", Interrupted.exit_code
    fault = f"error: {type(error).__name__}: {error}. This is a fault in Kleiber."
    return (
        f"{fault}\n  try: the same command with --debug, and report what it prints\n",
        KleiberError.exit_code,
    )


def _explain(error: typer.TyperException) -> str:
    """Return typer's complaint in our form: one sentence, then the command's example."""
    message = error.format_message().replace("Value error, ", "")
    message += "" if message.endswith(("?", ".")) else "."
    command = getattr(getattr(error, "ctx", None), "command", None)
    example = (getattr(command, "epilog", None) or app.info.epilog or "").removeprefix("Example: ")
    return str(UsageError(message, hint=example))


def run() -> NoReturn:
    """Run the command that the shell asked for."""
    let_threads_sleep(os.environ)
    sys.exit(main(sys.argv[1:]))
