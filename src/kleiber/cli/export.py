"""`kleiber export`: a model in the format of another program, with the proof that it is the same model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kleiber.cli.options import Json, ModuleCode, OtherRecipe, parse_real
from kleiber.cli.output import Output
from kleiber.units import format_bytes, format_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kleiber.runs.export_receipt import ExportReceipt

__all__ = ["EXAMPLE", "export"]

EXAMPLE = "kleiber export runs/small --format gguf --precision int8 -o exports/small-gguf"
_COMMAND = "kleiber export runs/small --format onnx -o exports/small"


def export(
    run: Annotated[
        Path,
        typer.Argument(help="A run; or, with --recipe unless it models text, a folder with config.json."),
    ],
    *,
    to: Annotated[
        Literal["hf", "onnx", "openvino", "gguf"],
        typer.Option(
            "--format",
            metavar="hf|onnx|openvino|gguf",
            help="A folder of transformers, graphs of ONNX, OpenVINO's own files, or one file for llama.cpp.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Is made; holds nothing yet.")
    ],
    precision: Annotated[
        Literal["fp32", "f16", "int8", "int4"] | None,
        typer.Option(
            "--precision",
            metavar="fp32|f16|int8|int4",
            help="Of the weights, rounded to nearest where that is fewer bits; without it as they are stored.",
        ),
    ] = None,
    tolerance: Annotated[
        str | None,
        typer.Option(
            "--tolerance",
            metavar="PART",
            help="Most that an output may differ from that of the same weights in torch, as a part of the largest output; "
            "without it 0.0001 in fp32, 0.01 in f16, 0.1 in fewer bits.",
        ),
    ] = None,
    recipe: OtherRecipe = None,
    module: ModuleCode = None,
    json_: Json = False,
) -> None:
    """Write a model in the format of another program, and prove that it is the same model.

    The files are read back by that program and compared with the original on real inputs: the largest difference of outputs,
    the same answers, and of language models the same text written greedily. What differs by more than it may is refused and not
    written. receipt.json beside the files holds the figures, and what is not carried over.

    With --json: the receipt, and folder.
    """
    out = Output(json_)
    part = None if tolerance is None else parse_real(tolerance, "--tolerance", _COMMAND, maximum=1)
    from kleiber.infer.export import export_model, open_original
    from kleiber.infer.export.run import require_export
    from kleiber.runs import read_recipe

    require_export(to, output, precision, part)

    def tell(stage: str) -> None:
        out.say(f"{stage} ...")

    original = open_original(
        run, None if recipe is None else read_recipe(recipe), module=module, on_progress=tell
    )
    receipt = export_model(original, to, output, precision=precision, tolerance_frac=part, on_progress=tell)
    _print(out, receipt)
    out.say(f"\n{output} holds the files; {output}/receipt.json the receipt.")
    out.document(receipt.model_dump(mode="json") | {"folder": str(output)})


def _print(out: Output, receipt: ExportReceipt) -> None:
    out.table(
        ["file", "holds", "bytes"],
        [[one.name, one.holds, format_bytes(one.num_bytes)] for one in receipt.files],
        words=(0, 1),
    )
    out.table(["agreement", ""], list(_figures(receipt)))
    for sentence in receipt.notes:
        out.say(f"- {sentence}")
    for sentence in receipt.not_carried_over:
        out.say(f"- Not carried over: {sentence[0].lower()}{sentence[1:]}")


def _figures(receipt: ExportReceipt) -> Iterator[list[str]]:
    found = receipt.agreement
    yield ["weights", receipt.precision]
    yield ["read back by", receipt.checked_with]
    yield ["inputs", f"{found.num_samples} of {found.inputs}"]
    yield ["compared with", found.reference]
    yield [
        "largest difference",
        f"{found.largest_difference:.3g} of outputs up to {found.largest_output:.3g}",
    ]
    yield ["  as a part", f"{found.difference_frac:.2g}, at most {found.tolerance_frac:.2g}"]
    if found.rounding_difference is not None:
        yield ["fewer bits changed by themselves", f"{found.rounding_difference:.3g}"]
    if found.num_same_answer is not None and found.num_answers is not None:
        yield ["same answer", f"{format_count(found.num_same_answer)} of {format_count(found.num_answers)}"]
    if found.greedy is not None:
        yield ["same greedy text", f"{found.greedy.num_same} of {found.greedy.num_tokens} tokens"]
