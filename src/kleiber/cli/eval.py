"""`kleiber eval`: the measures of a model on data, as an engine answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kleiber.cli.options import Json, ModuleCode, OtherRecipe, Seed, parse_choice, parse_whole
from kleiber.cli.output import Output
from kleiber.errors import UsageError
from kleiber.units import format_count, format_loss, format_measure

if TYPE_CHECKING:
    from kleiber.infer.bench.evaluation import Evaluation
    from kleiber.infer.bench.lm_eval_tasks import HarnessResult
    from kleiber.infer.precision import Precision
    from kleiber.infer.text_model import AskedEngine
    from kleiber.runs import Estimate

__all__ = ["EXAMPLE", "evaluate"]

EXAMPLE = "kleiber eval runs/small --engine openvino --precision int8"
_COMMAND = "kleiber eval runs/small"
_PRECISIONS = ("stored", "fp32", "int8", "int4")


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run, or a folder in the Hugging Face layout.")],
    *,
    engine: Annotated[
        Literal["torch", "compiled", "onnxruntime", "openvino", "llamacpp", "auto"],
        typer.Option(
            "--engine", metavar="torch|compiled|onnxruntime|openvino|llamacpp|auto", help="What answers."
        ),
    ] = "torch",
    precision: Annotated[
        str,
        typer.Option(
            "--precision", metavar="stored|fp32|int8|int4", help="Of the weights; stored is as they are."
        ),
    ] = "stored",
    split: Annotated[
        Literal["val", "test"],
        typer.Option("--split", metavar="val|test", help="Text that is modelled has no test split."),
    ] = "val",
    recipe: OtherRecipe = None,
    module: ModuleCode = None,
    threads: Annotated[
        str | None, typer.Option("--threads", metavar="WHOLE", help="Of the engine; torch's number.")
    ] = None,
    lm_eval: Annotated[
        str | None,
        typer.Option(
            "--lm-eval",
            metavar="TASK,TASK",
            help="Tasks of lm-evaluation-harness instead, where it and their data are at hand.",
        ),
    ] = None,
    limit: Annotated[
        str | None, typer.Option("--limit", metavar="WHOLE", help="Samples of each task of --lm-eval.")
    ] = None,
    own_tasks: Annotated[
        Path | None,
        typer.Option(
            "--own-tasks", metavar="FOLDER", help="With tasks of one's own for --lm-eval, in its YAML."
        ),
    ] = None,
    seed: Seed = "0",
    json_: Json = False,
) -> None:
    """Measure a model on its run's data or another: perplexity, bits per byte, accuracy and their like, with intervals.

    With --json: run, engine, precision, computes_in, source, eval_hash, split, num_tokens, unit, loss, metrics; with
    --lm-eval: run, engine, precision, tasks.
    """
    out = Output(json_)
    word = parse_choice(precision, "--precision", _COMMAND, _PRECISIONS)
    asked: Any = None if word == "stored" else word
    num_threads = None if threads is None else parse_whole(threads, "--threads", _COMMAND, minimum=1)
    most = (
        None if limit is None else parse_whole(limit, "--limit", f"{_COMMAND} --lm-eval hellaswag", minimum=1)
    )
    number = parse_whole(seed, "--seed", _COMMAND)
    if lm_eval is not None:
        _harness(
            out,
            run,
            lm_eval,
            engine,
            asked,
            num_threads=num_threads,
            most=most,
            seed=number,
            own_tasks=own_tasks,
        )
        return
    if own_tasks is not None:
        raise UsageError(
            "--own-tasks is of --lm-eval.",
            got=str(own_tasks),
            hint=f"{_COMMAND} --lm-eval NAME --own-tasks {own_tasks}",
        )
    if most is not None:
        raise UsageError(
            "--limit is of --lm-eval; a split is measured whole.", got=limit, hint=f"{_COMMAND} --split val"
        )
    from kleiber.infer.bench.evaluation import evaluate as measure
    from kleiber.runs import read_recipe

    other = None if recipe is None else read_recipe(recipe)
    with out.progress() as bar:
        task = bar.add_task("eval", total=None, note="")

        def tell(stage: str) -> None:
            bar.update(task, note=stage)

        found = measure(
            run,
            engine=engine,
            precision=asked,
            split=split,
            recipe=other,
            module=module,
            num_threads=num_threads,
            on_progress=tell,
        )
    _print(out, found)
    out.document(found.model_dump(mode="json"))


def _print(out: Output, found: Evaluation) -> None:
    rows = [["loss", format_loss(found.loss.value), _reach(found.loss, format_loss)]]
    rows += [
        [name, format_measure(one.value), _reach(one, format_measure)] for name, one in found.metrics.items()
    ]
    out.table(["", f"{found.split} split", "95% interval"], rows)
    out.say(
        f"- {format_count(found.num_tokens)} {found.unit}s of {found.source}; {found.engine} computes in {found.computes_in}."
    )


def _harness(
    out: Output,
    run: Path,
    tasks: str,
    engine: AskedEngine,
    precision: Precision | None,
    *,
    num_threads: int | None,
    most: int | None,
    seed: int,
    own_tasks: Path | None,
) -> None:
    names = [name.strip() for name in tasks.split(",")]
    if not all(names):
        raise UsageError(
            "--lm-eval takes names of tasks with commas between them.",
            got=tasks,
            hint=f"{_COMMAND} --lm-eval hellaswag,arc_easy",
        )
    from kleiber.infer.bench.lm_eval_tasks import require_harness, run_tasks
    from kleiber.infer.text_model import open_text_model

    require_harness()
    model = open_text_model(run, engine=engine, precision=precision, num_threads=num_threads)
    found = run_tasks(model, names, max_samples=most, seed=seed, own_tasks=own_tasks)
    _print_tasks(out, found)
    out.document(
        {
            "run": str(run),
            "engine": model.decoder.engine,
            "precision": precision or "stored",
            "tasks": [one.model_dump(mode="json") for one in found],
        }
    )


def _print_tasks(out: Output, found: tuple[HarnessResult, ...]) -> None:
    out.table(
        ["task", "measure", "value", "95% interval"],
        [
            [one.task, name, format_measure(value.value), _reach(value, format_measure)]
            for one in found
            for name, value in one.metrics.items()
        ],
    )


def _reach(estimate: Estimate, show: Any) -> str:
    return f"{show(estimate.low)} to {show(estimate.high)}"
