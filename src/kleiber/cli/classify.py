"""`kleiber classify`: which class files are of, or what arrives in pieces."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kleiber.cli.options import Json, parse_choice, parse_whole
from kleiber.cli.output import Output
from kleiber.errors import UsageError

if TYPE_CHECKING:
    from kleiber.infer.classification import Answer, Classifier

__all__ = ["EXAMPLE", "classify"]

EXAMPLE = "kleiber classify runs/digits sample.npy"
_COMMAND = "kleiber classify runs/digits sample.npy"
_ENGINES = ("torch", "compiled", "onnxruntime", "openvino", "auto")


def classify(
    run: Annotated[Path, typer.Argument(help="A run folder whose task is classification.")],
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Text, images, sounds, tables or arrays; - is standard input."
        ),
    ],
    *,
    top: Annotated[str, typer.Option("--top", metavar="WHOLE", help="Likeliest classes to show.")] = "3",
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="NAME",
            help=f"Computes it: {', '.join(_ENGINES)}; auto takes what measures fastest.",
        ),
    ] = "torch",
    stream: Annotated[
        bool, typer.Option("--stream", help="Answer after each piece of text or sound, as it arrives.")
    ] = False,
    chunk_ms: Annotated[
        str | None,
        typer.Option("--chunk-ms", metavar="WHOLE", help="Of sound, between two answers of a stream; 100."),
    ] = None,
    json_: Json = False,
) -> None:
    """Say which class each file is of, with probabilities.

    A file of text is one text; each row of a table is a sample, and so is each entry of an array (.npy). With --stream a file, or
    standard input (text in UTF-8; sound as 16-bit samples of one channel at the run's rate), is read piece by piece, for as long
    as it lasts. With --json: run, engine, precision, answers: of each the input, predicted, confidence_frac and top. Of a stream:
    is_exact, num_answers and the last answer.
    """
    num = parse_whole(top, "--top", _COMMAND, minimum=1)
    name: Any = parse_choice(engine, "--engine", _COMMAND, _ENGINES)
    if chunk_ms is not None and not stream:
        raise UsageError(
            "--chunk-ms has no effect without --stream.", hint=f"{_COMMAND} --stream --chunk-ms 100"
        )
    num_ms = parse_whole(chunk_ms or "100", "--chunk-ms", _COMMAND, minimum=1, maximum=60_000)
    from kleiber.infer.classification import open_classifier

    out = Output(json_)
    classifier = open_classifier(run, engine=name, on_progress=lambda what: out.notice(f"{what}."))
    found = {
        "run": str(run),
        "engine": classifier.predictor.engine,
        "precision": classifier.predictor.precision,
    }
    if stream:
        out.document(found | _streamed(out, classifier, files, num_ms, num))
    else:
        out.document(found | {"answers": _answered(out, classifier, files, num)})


def _answered(out: Output, classifier: Classifier, files: list[str], num: int) -> list[dict[str, Any]]:
    """Print a row a sample; return what a program reads."""
    from kleiber.infer.classification.batches import answered

    documents, rows = [], []
    with out.progress() as bar:
        task = bar.add_task("classifying", total=None, note="")
        for name, answer in answered(classifier, files, sys.stdin.buffer):
            documents.append({"input": name} | answer.document(num))
            rows.append((name, *_cells(answer, num)))
            bar.advance(task)
    headers = ("input", *(f"{place}." for place in range(1, min(num, len(classifier.classes)) + 1)))
    out.table(headers, rows, words=range(len(headers)))
    return documents


def _cells(answer: Answer, num: int) -> tuple[str, ...]:
    return tuple(f"{name} {prob:.1%}" for name, prob in answer.top(num))


def _streamed(out: Output, classifier: Classifier, files: list[str], num_ms: int, num: int) -> dict[str, Any]:
    """Print a line a piece; return what a program reads."""
    from kleiber.infer.streaming import open_stream
    from kleiber.infer.streaming.pieces import pieces_of

    if len(files) != 1:
        raise UsageError(
            "--stream reads one file, or standard input.",
            got=files,
            hint=f"kleiber classify {classifier.folder} - --stream",
        )
    stream = open_stream(classifier)
    if not stream.is_exact:
        out.notice("the model keeps no state: each answer is that to the last window it reads.")
    answer, num_answers = None, 0
    for place, piece in pieces_of(classifier, files[0], sys.stdin.buffer, num_ms=num_ms):
        stream.push(piece)
        answer = stream.answer()
        if answer is not None:
            num_answers += 1
            out.say("  ".join((place, *_cells(answer, num))))
    return {
        "is_exact": stream.is_exact,
        "num_answers": num_answers,
        "answer": None if answer is None else answer.document(num),
    }
