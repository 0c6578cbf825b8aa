"""Graphs of ONNX, for ONNX Runtime and whatever else reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from kleiber.infer.decoding.cached_forward import cached_heads
from kleiber.infer.export.agreement import Outputs
from kleiber.infer.export.graphs import Graph, decode_graph, forward_graph, write_text_files
from kleiber.infer.export.job import Job, Part, Written, package
from kleiber.infer.export.steppers import OnnxText
from kleiber.infer.lowering import to_bytes
from kleiber.infer.sessions import require, session_of
from kleiber.runs.files import write_bytes

__all__ = ["write_onnx"]

_FORWARD, _DECODE = "model.onnx", "decoder_with_past.onnx"


def write_onnx(job: Job, folder: Path) -> Written:
    """Write the graph of whole inputs, and of a language model the one that goes on from a cache; open them in ONNX Runtime.

    Raises:
        RecipeError: The model cannot be exported, or is larger than a file of ONNX can be.
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
    """
    require("onnxruntime", "onnx", "A model in the format onnx")
    forward = forward_graph(job, "onnxruntime")
    parts = [_written(forward, folder / _FORWARD, "whole inputs to outputs; any batch, any length of text")]
    stepper = None
    if job.original.writes_text:
        decode = decode_graph(job, "onnxruntime")
        parts.append(_written(decode, folder / _DECODE, "new tokens and what was read before to logits"))
        stepper = OnnxText(folder / _DECODE, cached_heads(job.original.module), job.num_threads)
    write_text_files(job.original, folder)
    return Written(
        parts=tuple(parts),
        precision=forward.lowered.precision,
        accuracy="fp32" if forward.lowered.precision == "fp32" else "bits",
        checked_with=package("onnxruntime"),
        stepper=stepper,
        predict=_Session(folder / _FORWARD, job.num_threads),
        notes=(*forward.lowered.notes, *_foreign(forward)),
    )


def _written(graph: Graph, path: Path, holds: str) -> Part:
    write_bytes(path, to_bytes(graph.lowered.model))
    return Part(path.name, holds, graph.signature.inputs, graph.signature.outputs)


def _foreign(graph: Graph) -> tuple[str, ...]:
    """Return a sentence of the operations that are not ONNX's own."""
    names = sorted({node.op_type for node in graph.lowered.model.graph if node.domain == "com.microsoft"})
    return (f"It has operations that ONNX Runtime alone knows: {', '.join(names)}.",) if names else ()


class _Session:
    """A graph of whole inputs in ONNX Runtime."""

    def __init__(self, path: Path, num_threads: int) -> None:
        self._session = session_of(path.read_bytes(), num_threads)
        self._names = [one.name for one in self._session.get_inputs()]

    def __call__(self, arrays: Sequence[npt.NDArray[Any]]) -> Outputs:
        """Return all outputs."""
        return tuple(self._session.run(None, dict(zip(self._names, arrays, strict=True))))
