"""`kleiber compress`: a smaller, faster model, with a receipt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kleiber.cli.options import Json, ModuleCode, OtherRecipe, Seed, parse_positive, parse_whole
from kleiber.cli.output import Output
from kleiber.errors import UsageError

if TYPE_CHECKING:
    from kleiber.compress import SearchSettings
    from kleiber.compress.asked import Asked
    from kleiber.compress.steps import AnyStep
    from kleiber.infer.engines import EngineName

__all__ = ["EXAMPLE", "compress"]

EXAMPLE = "kleiber compress runs/small shrink:params=0.5 recover:frac=0.05 quantize:bits=4,group_size=32"


def compress(
    source: Annotated[
        str,
        typer.Argument(
            help="A run; or, with --recipe to say task and data, a folder in the Hugging Face layout or my_model.py:Net."
        ),
    ],
    steps: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STEP]...",
            help="What to do, in order: shrink, prune, factorize, quantize, recover, each as NAME:KEY=VALUE,KEY=VALUE. "
            "Without any, what meets the bounds is searched for.",
        ),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="The new run; without it the source's name and -small."
        ),
    ] = None,
    recipe: OtherRecipe = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", metavar="FILE", help="Of my_model.py:Net: a state dict, .safetensors or .npz."
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option("--init", metavar="JSON", help="What my_model.py:Net is called with, by name."),
    ] = None,
    module: ModuleCode = None,
    max_quality_loss: Annotated[
        str | None,
        typer.Option(
            "--max-quality-loss",
            metavar="1%|1pt",
            help="Of perplexity or accuracy; 1pt is a point of accuracy.",
        ),
    ] = None,
    max_bytes: Annotated[
        str | None,
        typer.Option("--max-bytes", metavar="25%|10MB", help="On disk: a part of the original's, or a size."),
    ] = None,
    max_latency_ms: Annotated[
        str | None,
        typer.Option(
            "--max-latency-ms",
            metavar="20|80%",
            help="At batch 1: milliseconds, or a part of the original's.",
        ),
    ] = None,
    min_speedup: Annotated[
        str | None,
        typer.Option(
            "--min-speedup", metavar="TIMES", help="At batch 1, against the original on the same engine."
        ),
    ] = None,
    engine: Annotated[
        Literal["auto", "torch", "onnxruntime", "openvino"],
        typer.Option(
            "--engine",
            metavar="auto|torch|onnxruntime|openvino",
            help="What runs it; auto measures all and takes the fastest.",
        ),
    ] = "auto",
    calibration: Annotated[
        str,
        typer.Option("--calibration", metavar="SAMPLES", help="Of the training split, that steps look at."),
    ] = "128",
    tries: Annotated[
        str, typer.Option("--tries", metavar="WHOLE", help="Pipelines that a search tries at most.")
    ] = "16",
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            metavar="PART",
            help="Tokens that all tries of a search train on, as a part of what the original was trained on.",
        ),
    ] = "0.1",
    seed: Seed = "0",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what stands in the folder and start again.")
    ] = False,
    json_: Json = False,
) -> None:
    """Make a trained model smaller and faster, and prove it on this machine.

    The receipt has both models side by side: bytes on disk, peak memory, latency and throughput by engine, and quality on
    the same samples, each with its interval. With bounds, a result that misses one is refused and the closest is named.
    The same command goes on where it was cut off; each step is kept.

    With --json: the receipt, and folder.
    """
    out = Output(json_)
    asked = _asked(
        recipe,
        {
            "max_quality_loss": max_quality_loss,
            "max_bytes": max_bytes,
            "max_latency_ms": max_latency_ms,
            "min_speedup": None
            if min_speedup is None
            else parse_positive(min_speedup, "--min-speedup", EXAMPLE, example="2"),
        },
        engine,
        parse_whole(calibration, "--calibration", EXAMPLE, minimum=1),
        parse_whole(seed, "--seed", EXAMPLE),
    )
    from kleiber.cli.receipt_table import print_receipt
    from kleiber.compress import compress as run_steps
    from kleiber.compress import forget, parse_step, search

    typed = [parse_step(step) for step in steps or ()]
    settings = _settings(source, typed, tries, budget)
    place = _source(source, output, asked, weights=weights, init=init, module=module)
    folder = _folder(place, typed, output)
    # A search without a bound is refused, and takes nothing with it.
    if fresh and (typed or asked.gate.bounds):
        forget(folder)

    def tell(stage: str) -> None:
        out.say(f"{stage} ...")

    if typed:
        receipt = run_steps(place, typed, folder, asked=asked, on_progress=tell)
    else:
        receipt = search(place, folder, asked=asked, settings=settings, on_progress=tell)
    print_receipt(out, receipt)
    out.say(f"\n{folder}/model holds the model; {folder}/receipt.json the receipt.")
    out.document(receipt.model_dump(mode="json") | {"folder": str(folder)})


def _source(
    source: str,
    output: Path | None,
    asked: Asked,
    *,
    weights: Path | None,
    init: str | None,
    module: str | None,
) -> Path:
    """Return the folder of the original: a module in a file is written as one, beside what will be made of it."""
    from kleiber.models.file.named import is_module, name_module, split_module

    if module is not None:
        name_module(*split_module(module))
    if not is_module(source):
        for option, given in (("--weights", weights), ("--init", init)):
            if given is not None:
                raise UsageError(
                    f"{option} is for a module in a file, which is written my_model.py:Net.",
                    got=source,
                    hint=f"my_model.py:Net {option} ...",
                )
        if module is not None:
            _require_code(Path(source), module)
        return Path(source)
    if weights is None or asked.recipe is None:
        raise UsageError(
            f"{source} is a module without weights, task and data: they must be said.",
            hint=f"kleiber compress {source} --weights net.safetensors --recipe recipe.yaml quantize:bits=8",
        )
    from kleiber.compress.brought import bring

    path, name = split_module(source)
    place = (
        Path("runs") / f"{Path(path).stem}-{name}"
        if output is None
        else output.with_name(f"{output.name}-original")
    )
    return bring(source, place, asked.recipe, weights=weights, init=_arguments(init))


def _require_code(source: Path, module: str) -> None:
    """Refuse code for a model that has none of its own: it would have no effect."""
    from kleiber.models import ARCHITECTURES
    from kleiber.models.config_file import read_architecture
    from kleiber.runs import RunFolder

    if ARCHITECTURES.get(read_architecture(RunFolder(source).find_model())) != "file":
        raise UsageError(
            f"--module is the code of a source that was made from a module in a file, and {source} was not.",
            got=module,
            hint=f"kleiber compress {source} quantize:bits=8",
        )


def _arguments(init: str | None) -> dict[str, object]:
    try:
        found = json.loads(init or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError("--init takes a mapping in JSON.", got=init, hint="""--init '{"width": 24}'""")
    return found


def _settings(source: str, steps: list[AnyStep], tries: str, budget: str) -> SearchSettings:
    from kleiber.compress import SearchSettings

    settings = SearchSettings.of(
        {
            "max_tries": parse_whole(tries, "--tries", EXAMPLE, minimum=1),
            "budget_frac": parse_positive(budget, "--budget", EXAMPLE, example="0.1"),
        },
        "search",
        UsageError,
    )
    if steps and settings != SearchSettings():
        raise UsageError(
            "--tries and --budget are of a search, and steps were given, which are taken as they are.",
            hint=f"kleiber compress {source} --max-quality-loss 1%",
        )
    return settings


def _folder(source: Path, steps: list[AnyStep], output: Path | None) -> Path:
    """Return where the result goes, after all that can be told before anything there is touched."""
    from kleiber.compress import require_apart, require_sound
    from kleiber.runs import RunFolder

    RunFolder(source).find_model()
    named = source if source.name not in ("", "..") else source.resolve()
    folder = output or named.with_name(f"{named.name}-small")
    require_apart(source, folder)
    if steps:
        require_sound(steps)
    return folder


def _asked(
    recipe: Path | None,
    bounds: dict[str, str | float | None],
    engine: EngineName | Literal["auto"],
    samples: int,
    seed: int,
) -> Asked:
    from kleiber.compress.asked import Asked
    from kleiber.compress.gate import Gate
    from kleiber.compress.speed import Measuring, require_engine
    from kleiber.runs import read_recipe

    if engine == "auto":
        measuring = Measuring()
    else:
        require_engine(engine)
        measuring = Measuring(engines=(engine,))
    return Asked(
        gate=Gate.typed(**bounds),
        measuring=measuring,
        num_calibration=samples,
        seed=seed,
        recipe=None if recipe is None else read_recipe(recipe),
    )
