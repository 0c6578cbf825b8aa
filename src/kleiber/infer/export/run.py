"""Exports a model: its files are written aside, read back, compared with the original, and only then put in place."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch

from kleiber.errors import UsageError, nearest
from kleiber.infer.decoding.torch_stepper import TorchStepper
from kleiber.infer.export.agreement import (
    Outputs,
    greedy_agreement,
    largest,
    largest_difference,
    require_agreement,
    same_answers,
    whole_logits,
)
from kleiber.infer.export.gguf_format import write_gguf_format
from kleiber.infer.export.hf_format import write_hf
from kleiber.infer.export.job import TOLERANCES, ExportPrecision, Job, Part, Written
from kleiber.infer.export.onnx_format import write_onnx
from kleiber.infer.export.openvino_format import write_openvino
from kleiber.infer.export.original import Original
from kleiber.infer.precision import in_precision
from kleiber.models.config_file import model_hash
from kleiber.models.stored import AS_COMPUTED, LowRank, Masked
from kleiber.runs import environment, now
from kleiber.runs.export_receipt import Agreement, ExportedFile, ExportFormat, ExportReceipt
from kleiber.runs.files import write_folder
from kleiber.tasks.evaluation import evaluating

__all__ = ["FORMATS", "PRECISIONS", "RECEIPT", "export_model", "require_export"]

FORMATS: dict[ExportFormat, Callable[[Job, Path], Written]] = {
    "hf": write_hf,
    "onnx": write_onnx,
    "openvino": write_openvino,
    "gguf": write_gguf_format,
}
"""What writes each format into an empty folder and opens it again."""

PRECISIONS: dict[ExportFormat, tuple[ExportPrecision, ...]] = {
    "hf": ("fp32", "f16"),
    "onnx": ("fp32", "int8", "int4"),
    "openvino": get_args(ExportPrecision),
    "gguf": get_args(ExportPrecision),
}
"""What each format holds."""

RECEIPT = "receipt.json"


def export_model(
    original: Original,
    to: ExportFormat,
    folder: Path,
    *,
    precision: ExportPrecision | None = None,
    tolerance_frac: float | None = None,
    num_threads: int | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> ExportReceipt:
    """Write a model in a format, with the proof that it is the same model: `receipt.json` beside its files.

    Args:
        original: As `open_original` gives it; left as it is.
        to: The format.
        folder: Is made; what does not agree leaves nothing behind.
        precision: Of the weights; None is as stored. Fewer bits are rounded to nearest, and what that changes is told apart from
            what the format changes.
        tolerance_frac: Most that an output may differ from that of the same weights in torch, as a part of the largest output;
            None is what the precision allows.
        num_threads: Of the check; None takes torch's number.
        on_progress: Is told each stage.

    Raises:
        UsageError: An unknown format, a precision that it does not hold, a folder that holds something, a tolerance below 0.
        RecipeError: The format cannot hold the model.
        MissingExtraError: A package of the format is not installed.
        GateError: What was written does not agree with the original.
        StorageError: The disk refused.
    """
    tell = on_progress or (lambda _: None)
    require_export(to, folder, precision, tolerance_frac)
    rounded = _in_precision(original, precision)
    job = Job(rounded, precision, num_threads or torch.get_num_threads())
    receipts: list[ExportReceipt] = []

    def fill(place: Path) -> None:
        tell(f"writing {to}")
        written = FORMATS[to](job, place)
        tell("comparing it with the original")
        agreement = _agreement(original, job, written, tolerance_frac)
        require_agreement(agreement, f"{original.typed} as {to}")
        receipt = _receipt(original, job, to, (written, agreement), place)
        receipt.write(place / RECEIPT)
        receipts.append(receipt)

    write_folder(folder, fill)
    return receipts[0]


def require_export(
    to: ExportFormat, folder: Path, precision: ExportPrecision | None, tolerance_frac: float | None
) -> None:
    """Refuse what can be told to fail before anything is read; arguments as of `export_model`.

    Raises:
        UsageError: An unknown format, a precision that it does not hold, a folder that holds something, a tolerance below 0.
    """
    if to not in FORMATS:
        raise UsageError(f"unknown format '{to}'. {nearest(to, FORMATS)}", hint="--format onnx")
    if precision is not None and precision not in PRECISIONS[to]:
        raise UsageError(
            f"the format {to} is written in {', '.join(PRECISIONS[to])}.",
            got=precision,
            hint=f"--precision {PRECISIONS[to][0]}",
        )
    if tolerance_frac is not None and not (math.isfinite(tolerance_frac) and tolerance_frac >= 0):
        raise UsageError("the tolerance must be 0 or more.", got=tolerance_frac, hint="--tolerance 0.001")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} holds something already: an export is written into a folder of its own.",
            hint=f"-o {folder}-2   or remove it first",
        )


def _in_precision(original: Original, precision: ExportPrecision | None) -> Original:
    """Return the model with the weights of a precision."""
    if precision in (None, "f16"):
        return original
    module = copy.deepcopy(original.module)
    forms = in_precision(module, original.forms, precision)  # type: ignore[arg-type] # f16 is taken care of
    activations = AS_COMPUTED if precision == "fp32" else original.activations
    return replace(original, module=module, forms=forms, activations=activations)


def _outputs(original: Original) -> Outputs:
    """Return what a module in torch answers to the real inputs."""
    with evaluating(original.module):
        said = original.module(*map(torch.from_numpy, original.inputs))
    return tuple(one.numpy() for one in (said if isinstance(said, tuple) else (said,)))


def _agreement(original: Original, job: Job, written: Written, tolerance_frac: float | None) -> Agreement:
    reference = _outputs(job.original)
    inputs = original.inputs
    differences, answers = [], []
    if written.predict is not None:
        answers.append(written.predict(inputs))
    if written.stepper is not None:
        answers.append((whole_logits(written.stepper, inputs[0]),))
    differences = [largest_difference(said, reference) for said in answers]
    has_scores = original.writes_text or bool(original.classes) or original.input_names[-1] == "target"
    same = same_answers(answers[-1][0], reference[0]) if has_scores else (None, None)
    is_rounded = job.original.module is not original.module and job.precision != "fp32"
    return Agreement(
        inputs=original.inputs_from,
        num_samples=len(inputs[0]),
        reference=_reference_words(job, is_rounded=is_rounded),
        largest_difference=max(differences),
        largest_output=largest(reference),
        tolerance_frac=TOLERANCES[written.accuracy] if tolerance_frac is None else tolerance_frac,
        rounding_difference=largest_difference(reference, _outputs(original)) if is_rounded else None,
        num_same_answer=same[0],
        num_answers=same[1],
        greedy=None
        if written.stepper is None
        else greedy_agreement(
            written.stepper, TorchStepper(job.original.module, None, job.num_threads), inputs[0]
        ),
    )


def _reference_words(job: Job, *, is_rounded: bool) -> str:
    if is_rounded:
        return f"the weights rounded to {job.precision}, in torch in fp32"
    return (
        "the weights as they are stored, in torch in fp32"
        if job.original.forms
        else "the model in torch in fp32"
    )


def _receipt(
    original: Original, job: Job, to: ExportFormat, proven: tuple[Written, Agreement], place: Path
) -> ExportReceipt:
    written, agreement = proven
    return ExportReceipt(
        source=original.typed,
        model_hash=model_hash(original.folder),
        format=to,
        precision=written.precision,
        num_params=original.spec.count().total,
        checked_with=written.checked_with,
        agreement=agreement,
        files=tuple(_file(part, place) for part in (*written.parts, *_others(written, place))),
        classes=original.classes,
        input_scales=dict(original.input_scales),
        not_carried_over=(*_left_behind(original, job, to), *written.not_carried_over),
        notes=written.notes,
        environment=environment(job.num_threads),
        created_at=now(),
    )


_KNOWN_FILES = {
    "config.json": "sizes, as transformers reads them",
    "tokenizer.json": "the tokenizer",
    "tokenizer_config.json": "its special tokens",
    "generation_config.json": "the tokens that end a text",
}


def _others(written: Written, place: Path) -> Iterator[Part]:
    """Yield the files beside those that a format speaks of."""
    known = {part.name for part in written.parts}
    for path in sorted(place.iterdir()):
        if path.name not in known:
            yield Part(path.name, _KNOWN_FILES.get(path.name, "beside the model"))


def _file(part: Part, place: Path) -> ExportedFile:
    path = place / part.name
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return ExportedFile(
        name=part.name,
        num_bytes=path.stat().st_size,
        sha256=digest,
        holds=part.holds,
        inputs=part.inputs,
        outputs=part.outputs,
    )


def _left_behind(original: Original, job: Job, to: ExportFormat) -> Iterator[str]:
    """Yield what no format, or not this one, takes over."""
    if original.activations.cache_bits is not None:
        yield (
            f"A cache of {original.activations.cache_bits} bits: how keys and values are held is a setting of the program that "
            "runs the model."
        )
    has_ranges = original.activations.input_ranges or original.activations.has_dynamic_inputs
    if has_ranges and (to in ("hf", "gguf") or job.precision in ("fp32", "f16")):
        yield "Inputs of layers in 8 bits: products take them as they are computed."
    kinds = {type(form) for form in job.original.forms.values()}
    if Masked in kinds:
        yield "That zeros are left out of the file: they are stored as numbers, and are still 0."
    if LowRank in kinds and to in ("hf", "gguf"):
        yield "That weights are in two factors: their products are stored."
    if job.original.forms and to == "hf":
        yield "That weights are in few bits: they are stored as the numbers that they stand for."
    if original.input_scales:
        yield "The normalization of inputs: (x - offset) / scale, with what input_scales says."
