"""Graphs of ONNX for a model of any family, and the files that stand beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kleiber.infer.decoding.cached_forward import cached_heads
from kleiber.infer.export.hf_format import write_tokenizer
from kleiber.infer.export.job import Job
from kleiber.infer.export.original import Original
from kleiber.infer.export.signature import Axes, Signature, signature_of, write_signature
from kleiber.infer.export.text_graph import (
    INPUT_IDS,
    MASK,
    POSITIONS,
    past_names,
    present_names,
    text_graph,
)
from kleiber.infer.lowering import Lowered, export, lower
from kleiber.infer.lowering.lower import Target
from kleiber.runs.files import write_text

__all__ = ["Graph", "decode_graph", "forward_graph", "write_text_files"]

_TOWERS = ("image_embeddings", "text_embeddings", "scale")
"""What two towers return."""


@dataclass(frozen=True)
class Graph:
    """A graph for an engine, and what it takes and gives."""

    lowered: Lowered
    signature: Signature


def forward_graph(job: Job, target: Target) -> Graph:
    """Return the graph of whole inputs: those of the module, named as the data names them, to its outputs.

    The batch is free, and so is the length of tokens.
    """
    original = job.original
    inputs = [torch.from_numpy(one) for one in original.inputs]
    names = (INPUT_IDS,) if original.writes_text else original.input_names
    model = export(original.module, inputs)
    axes = {name: _axes(name, value) for name, value in zip(names, model.graph.inputs, strict=True)}
    outputs = _TOWERS if len(model.graph.outputs) == len(_TOWERS) else (_output_name(original),)
    return _lowered(job, target, model, signature_of(model, axes, outputs), tuple(inputs))


def decode_graph(job: Job, target: Target) -> Graph:
    """Return the graph of a language model that goes on from what was read, as `text_graph` has it."""
    depth = cached_heads(job.original.module).depth
    model = text_graph(job.original.module)
    axes: Mapping[str, Axes] = {
        INPUT_IDS: ("batch", "tokens"),
        MASK: ("batch", "past + tokens"),
        POSITIONS: ("batch", "tokens"),
        **dict.fromkeys(past_names(depth), ("batch", None, "past", None)),
    }
    return _lowered(job, target, model, signature_of(model, axes, ("logits", *present_names(depth))), ())


def write_text_files(original: Original, folder: Path) -> None:
    """Write what other programs want beside a graph: the tokenizer, and of a language model its config and what ends texts."""
    write_tokenizer(original, folder)
    if original.writes_text:
        write_text(folder / "config.json", json.dumps(original.config(), indent=2) + "\n")


def _lowered(
    job: Job, target: Target, model: Any, signature: Signature, samples: tuple[torch.Tensor, ...]
) -> Graph:
    original = job.original
    lowered = lower(model, target, forms=original.forms, activations=original.activations, samples=samples)
    # A product that was put in another's place has neither name nor shape.
    write_signature(lowered.model, signature)
    return Graph(lowered, signature)


def _axes(name: str, value: Any) -> Axes:
    """Return names of the first two axes of an input, and none of the others."""
    second = {"source": "source_tokens", "target": "target_tokens"}.get(name, "tokens")
    return ("batch", second, *[None] * len(value.shape))[: len(value.shape)]


def _output_name(original: Original) -> str:
    has_scores = original.writes_text or original.classes or original.input_names[-1] == "target"
    return "logits" if has_scores else "outputs"
