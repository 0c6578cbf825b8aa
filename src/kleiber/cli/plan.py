"""`kleiber plan`: what any model will need, before anything is built, and what a budget buys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from kleiber.cli.options import Json, Sets, parse_choice, parse_positive, parse_whole
from kleiber.cli.output import Output
from kleiber.cli.typed import pasteable_hints
from kleiber.errors import UsageError

__all__ = ["EXAMPLE", "plan"]

EXAMPLE = "kleiber plan gpt:depth=12 --tokens 2.6e9 --device h100-sxm"

_USE, _PLACE, _LENGTH, _INVERSE, _SHOW = "How it is used", "Where", "How long", "What fits", "What is shown"


_PICTURES = (".svg", ".png", ".html")


def _option(name: str, metavar: str, help_: str, panel: str) -> Any:
    return typer.Option(name, metavar=metavar, help=help_, rich_help_panel=panel)


def plan(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A size such as gpt:depth=12 or resnet:depth=20, a recipe in YAML, a run, hf:PATH, my_model.py:Net, or a transformers config.json.",
        ),
    ],
    *,
    input_: Annotated[
        list[str] | None,
        _option(
            "--input",
            "SHAPE",
            "What a class takes: 8x3x32x32, or 8x128:int64, may be given again; of a family a sample: 3x32x32.",
            _USE,
        ),
    ] = None,
    init: Annotated[
        str | None, _option("--init", "JSON", "Arguments of a class: '{\"num_classes\": 10}'.", _USE)
    ] = None,
    loss: Annotated[str | None, _option("--loss", "NAME", "auto, cross_entropy, mse or mean.", _USE)] = None,
    mode: Annotated[str, _option("--mode", "MODE", "train or infer.", _USE)] = "train",
    batch: Annotated[
        str | None,
        _option("--batch", "WHOLE", "Samples a step (of text: sequences), over all devices.", _USE),
    ] = None,
    context: Annotated[str | None, _option("--context", "WHOLE", "Tokens in a sequence.", _USE)] = None,
    vocab_size: Annotated[str | None, _option("--vocab-size", "WHOLE", "Of a built-in family.", _USE)] = None,
    optimizer: Annotated[
        str | None,
        _option(
            "--optimizer",
            "NAME",
            "sgd, momentum, adagrad, rmsprop, rmsprop_momentum, adam, adamw or muon.",
            _USE,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        _option("--precision", "NAME", "fp32, bf16 or fp16; without it what is fastest there.", _USE),
    ] = None,
    accumulation: Annotated[
        str | None, _option("--accumulation", "WHOLE", "Micro-batches a step.", _USE)
    ] = None,
    checkpointing: Annotated[
        bool,
        typer.Option("--checkpointing", help="Blocks run forward again for backward.", rich_help_panel=_USE),
    ] = False,
    compiled: Annotated[
        bool, typer.Option("--compiled", help="With torch.compile on the device.", rich_help_panel=_USE)
    ] = False,
    sets: Sets = None,
    device: Annotated[
        str | None, _option("--device", "NAME", "Without it this machine; 'list' lists all.", _PLACE)
    ] = None,
    num_devices: Annotated[str | None, _option("--num-devices", "WHOLE", "How many.", _PLACE)] = None,
    parallel: Annotated[
        str | None,
        _option(
            "--parallel", "LAYOUT", "ddp=8, fsdp=8, or tp=2,pp=4,...; without it the best that fits.", _PLACE
        ),
    ] = None,
    usd_per_hour: Annotated[str | None, _option("--usd-per-hour", "USD", "Of one device.", _PLACE)] = None,
    peak_flops_per_s: Annotated[
        str | None, _option("--peak-flops-per-s", "NUMBER", "Describes a device by hand.", _PLACE)
    ] = None,
    bandwidth_bytes_per_s: Annotated[
        str | None, _option("--bandwidth-bytes-per-s", "NUMBER", "Of its memory.", _PLACE)
    ] = None,
    interconnect_bytes_per_s: Annotated[
        str | None, _option("--interconnect-bytes-per-s", "NUMBER", "Of its links to its neighbours.", _PLACE)
    ] = None,
    watts: Annotated[str | None, _option("--watts", "NUMBER", "Of one device.", _PLACE)] = None,
    tokens: Annotated[
        str | None, _option("--tokens", "NUMBER", "Of text; without it a recipe's steps.", _LENGTH)
    ] = None,
    samples: Annotated[
        str | None, _option("--samples", "NUMBER", "In a pass over the data.", _LENGTH)
    ] = None,
    epochs: Annotated[str | None, _option("--epochs", "NUMBER", "Passes over the data.", _LENGTH)] = None,
    budget_usd: Annotated[str | None, _option("--budget-usd", "USD", "What may be paid.", _INVERSE)] = None,
    budget_hours: Annotated[
        str | None, _option("--budget-hours", "NUMBER", "Hours of all devices side by side.", _INVERSE)
    ] = None,
    budget_flops: Annotated[str | None, _option("--budget-flops", "NUMBER", "Operations.", _INVERSE)] = None,
    memory_bytes: Annotated[
        str | None, _option("--memory-bytes", "NUMBER", "Of one device: the most that fits.", _INVERSE)
    ] = None,
    inference_tokens: Annotated[
        str | None, _option("--inference-tokens", "NUMBER", "Served over the model's life.", _INVERSE)
    ] = None,
    law: Annotated[
        str | None,
        _option(
            "--law",
            "LAW",
            "besiroglu (without it), hoffmann, or a fitted law.json of any form over size and tokens.",
            _INVERSE,
        ),
    ] = None,
    convention: Annotated[
        str, _option("--convention", "NAME", "FLOPs of attention: causal (half the square) or full.", _SHOW)
    ] = "causal",
    modules: Annotated[
        str | None,
        _option("--modules", "WHOLE", "Levels of modules to show; 2 with a picture, else 0.", _SHOW),
    ] = None,
    chart: Annotated[
        Path | None, _option("--chart", "FILE", "A picture: .svg, .png or .html.", _SHOW)
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Run real steps here, and file both in the ledger.", rich_help_panel=_SHOW
        ),
    ] = False,
    ledger: Annotated[Path, _option("--ledger", "FILE", "Where measured plans are filed.", _SHOW)] = Path(
        "runs/plans.jsonl"
    ),
    json_: Json = False,
) -> None:
    """Count parameters and FLOPs, and predict memory, disk, time, energy and money; or find what a budget buys.

    With --json: num_params (total, trainable, active, embedding, body, head), flops (of a step), train_flops, memory_bytes
    (weights, gradients, optimizer, activations, peak), fits, kv_cache_bytes, disk, step_time_s, time_by_kind,
    total_time_s, num_tokens, device, dtype, layout, energy_kwh, usd (or null), modules, moments, layouts, optimum,
    latencies (by engine, with --mode infer), room, measured, assumptions, spec, shape.
    """
    command = f"kleiber plan {model}"

    def whole(
        text: str | None, name: str, example: int, *, minimum: int = 1, maximum: int = 10**9
    ) -> int | None:
        if text is None:
            return None
        return parse_whole(text, name, command, minimum=minimum, maximum=maximum, example=example)

    def positive(text: str | None, name: str, example: str) -> float | None:
        return None if text is None else parse_positive(text, name, command, example=example)

    from kleiber.cost.flops import FLOP_CONVENTIONS
    from kleiber.cost.usage import OPTIMIZERS, PRECISIONS
    from kleiber.study.answer import answer
    from kleiber.study.job import Job
    from kleiber.study.limits import Limits
    from kleiber.study.place import place_of
    from kleiber.study.planned_model import Asked

    with pasteable_hints(ctx):
        if chart is not None and chart.suffix not in _PICTURES:
            raise UsageError("--chart writes .svg, .png or .html.", got=chart.name, hint="--chart plan.svg")
        levels = whole(modules, "--modules", 2, minimum=0)
        asked = Asked(
            text=model,
            inputs=tuple(input_ or ()),
            init=init,
            loss=loss,
            mode=cast("Any", parse_choice(mode, "--mode", command, ("train", "infer"))),
            batch_size=whole(batch, "--batch", 64),
            context=whole(context, "--context", 1024),
            vocab_size=whole(vocab_size, "--vocab-size", 50257, minimum=2),
            optimizer=cast(
                "Any", optimizer and parse_choice(optimizer, "--optimizer", command, tuple(OPTIMIZERS))
            ),
            precision=cast(
                "Any", precision and parse_choice(precision, "--precision", command, tuple(PRECISIONS))
            ),
            accumulation=whole(accumulation, "--accumulation", 2, maximum=10**6),
            is_checkpointed=checkpointing,
            convention=cast(
                "Any", parse_choice(convention, "--convention", command, tuple(FLOP_CONVENTIONS))
            ),
            sets=tuple(sets or ()),
        )
        place = place_of(
            device,
            num_devices=whole(num_devices, "--num-devices", 8, maximum=10**5),
            parallel=parallel,
            is_compiled=compiled,
            usd_per_hour=positive(usd_per_hour, "--usd-per-hour", "2.50"),
            peak_flops_per_s=positive(peak_flops_per_s, "--peak-flops-per-s", "3e14"),
            memory_bytes=positive(memory_bytes, "--memory-bytes", "80e9"),
            bandwidth_bytes_per_s=positive(bandwidth_bytes_per_s, "--bandwidth-bytes-per-s", "2e12"),
            interconnect_bytes_per_s=positive(interconnect_bytes_per_s, "--interconnect-bytes-per-s", "9e11"),
            watts=positive(watts, "--watts", "700"),
        )
        job = Job(
            tokens=positive(tokens, "--tokens", "2e9"),
            samples=positive(samples, "--samples", "50000"),
            epochs=positive(epochs, "--epochs", "3") or 1.0,
        )
        limits = Limits(
            usd=positive(budget_usd, "--budget-usd", "100"),
            hours=positive(budget_hours, "--budget-hours", "24"),
            flops=positive(budget_flops, "--budget-flops", "1e19"),
            memory_bytes=positive(memory_bytes, "--memory-bytes", "80e9")
            if peak_flops_per_s is None
            else None,
            inference_tokens=positive(inference_tokens, "--inference-tokens", "1e12") or 0.0,
        )
        found = answer(
            asked,
            place,
            job,
            limits,
            law=law,
            module_depth=(0 if chart is None else 2) if levels is None else levels,
            ledger=ledger if measure else None,
        )
    out = Output(json_)
    wrote = None
    if chart is not None:
        from kleiber.report.plan_chart import write_plan_chart

        wrote = write_plan_chart(found, chart)
    from kleiber.cli.plan_tables import print_plan

    print_plan(out, found)
    if wrote is not None:
        out.say(f"wrote {wrote}")
    out.document(found.model_dump(mode="json"))
