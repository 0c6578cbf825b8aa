"""OpenVINO's own files: a graph, and the weights beside it; language models keep what they read as a state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from kleiber.infer.decoding.cached_forward import cached_heads
from kleiber.infer.decoding.openvino_states import keep_states
from kleiber.infer.export.agreement import Outputs
from kleiber.infer.export.graphs import decode_graph, forward_graph, write_text_files
from kleiber.infer.export.job import Job, Part, Written, package
from kleiber.infer.export.steppers import ORDER, OpenVinoText
from kleiber.infer.export.text_graph import INPUT_IDS, past_names, present_names
from kleiber.infer.lowering import to_bytes
from kleiber.infer.sessions import openvino_core
from kleiber.runs.export_receipt import ExportedArray
from kleiber.runs.files import storage_errors

__all__ = ["write_openvino"]

_GRAPH, _WEIGHTS = "openvino_model.xml", "openvino_model.bin"
_NO_TOKENIZER = (
    "The tokenizer as a model of OpenVINO, which its text pipelines want: convert_tokenizer of the package "
    "openvino-tokenizers makes it of tokenizer.json."
)


def write_openvino(job: Job, folder: Path) -> Written:
    """Write a model for OpenVINO, and open it there.

    A language model takes `input_ids`, `attention_mask`, `position_ids` and `beam_idx`, as OpenVINO's own text pipelines do, and
    keeps keys and values from call to call.

    Raises:
        RecipeError: The model cannot be exported, or is larger than a file of ONNX can be.
        MissingExtraError: openvino, onnx or onnxscript is not installed.
    """
    core, original = openvino_core(), job.original
    lowered = (decode_graph if original.writes_text else forward_graph)(job, "openvino").lowered
    graph = core.read_model(to_bytes(lowered.model))
    if original.writes_text:
        heads = cached_heads(original.module)
        pairs = dict(zip(past_names(heads.depth), present_names(heads.depth), strict=True))
        keep_states(graph, heads, pairs, tokens=INPUT_IDS, order=ORDER)
    is_half = job.precision == "f16"
    _save(graph, folder / _GRAPH, is_half=is_half)
    write_text_files(original, folder)
    is_exact = lowered.precision == "fp32"
    return Written(
        parts=(
            Part(_GRAPH, "the graph", _arrays(graph.inputs), _arrays(graph.outputs)),
            Part(_WEIGHTS, "its weights"),
        ),
        precision="f16 weights" if is_half and is_exact else lowered.precision,
        accuracy=("f16" if is_half else "fp32") if is_exact else "bits",
        checked_with=package("openvino"),
        stepper=OpenVinoText(folder / _GRAPH, job.num_threads) if original.writes_text else None,
        predict=None if original.writes_text else _Compiled(folder / _GRAPH, job.num_threads),
        notes=lowered.notes,
        not_carried_over=(_NO_TOKENIZER,) if original.tokenizer is not None else (),
    )


def _save(graph: Any, path: Path, *, is_half: bool) -> None:
    import openvino  # noqa: PLC0415 - of an extra

    with storage_errors(path):
        openvino.save_model(graph, path, compress_to_fp16=is_half)


def _arrays(ports: Sequence[Any]) -> tuple[ExportedArray, ...]:
    return tuple(
        ExportedArray(
            name=str(port.get_any_name()),
            type=str(port.get_element_type().to_dtype()),
            shape=tuple(size.get_length() if size.is_static else "free" for size in port.get_partial_shape()),
        )
        for port in ports
    )


class _Compiled:
    """A graph of whole inputs in OpenVINO."""

    def __init__(self, path: Path, num_threads: int) -> None:
        settings = {"INFERENCE_NUM_THREADS": num_threads, "INFERENCE_PRECISION_HINT": "f32"}
        core = openvino_core()
        self._request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def __call__(self, arrays: Sequence[npt.NDArray[Any]]) -> Outputs:
        """Return all outputs."""
        results = self._request.infer(list(arrays))
        return tuple(results[index].copy() for index in range(len(results)))
