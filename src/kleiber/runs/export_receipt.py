"""The receipt of an export: the files of a model in another format, and the proof that they are the same model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, computed_field

from kleiber.runs.document import Document
from kleiber.runs.record import Environment, InputScale

__all__ = ["Agreement", "ExportFormat", "ExportReceipt", "ExportedArray", "ExportedFile", "GreedyText"]

ExportFormat = Literal["hf", "onnx", "openvino", "gguf"]
"""Folders of transformers; graphs of ONNX; OpenVINO's .xml and .bin; one file for llama.cpp."""


class ExportedArray(Document):
    """What goes into an exported graph or comes out of it."""

    name: str
    type: str
    """Of its numbers: `float32`, `int64`."""
    shape: tuple[int | str, ...]
    """A name stands for a size that is free."""


class ExportedFile(Document):
    """A file of the export."""

    name: str
    num_bytes: int
    sha256: str
    holds: str
    """A sentence's part: what it is for."""
    inputs: tuple[ExportedArray, ...] = ()
    """Of a graph, in order."""
    outputs: tuple[ExportedArray, ...] = ()


class GreedyText(Document):
    """Text that both wrote, the likeliest token each time."""

    num_prompts: int
    prompt_tokens: int
    """Of each prompt."""
    num_tokens: int
    """That each wrote, over all prompts."""
    num_same: int
    """Tokens that are the same up to the first that is not, over all prompts."""


class Agreement(Document):
    """The exported model beside the original on the same real inputs."""

    inputs: str
    """Where they are from."""
    num_samples: int
    reference: str
    """What the difference is from: the same weights in torch."""
    largest_difference: float
    """Of any output, absolute."""
    largest_output: float
    """Of the reference, absolute: what a difference is seen beside."""
    tolerance_frac: float
    """Most that the difference may be, as a part of the largest output."""
    rounding_difference: float | None = None
    """Of the reference from the original, absolute: what fewer bits changed, exported or not. None where none were asked."""
    num_same_answer: int | None = None
    """Samples, or tokens of text, of which the largest output is the same; None where outputs are no scores."""
    num_answers: int | None = None
    """Of as many."""
    greedy: GreedyText | None = None
    """Of language models."""

    @computed_field  # type: ignore[prop-decorator] # mypy does not follow decorated properties
    @property
    def difference_frac(self) -> float:
        """The largest difference as a part of the largest output."""
        return (
            self.largest_difference / self.largest_output if self.largest_output else self.largest_difference
        )

    @computed_field  # type: ignore[prop-decorator] # mypy does not follow decorated properties
    @property
    def is_met(self) -> bool:
        """Whether the difference is a number, and within what it may be."""
        return self.difference_frac <= self.tolerance_frac


class ExportReceipt(Document):
    """One export: `receipt.json` beside its files."""

    version: Literal[1] = 1
    source: str
    """The folder of the original, as it was typed."""
    model_hash: str
    """Of the original's config and weights."""
    format: ExportFormat
    precision: str
    """How its weights are stored and multiplied."""
    num_params: int
    checked_with: str
    """The package that read the files back, with its version."""
    agreement: Agreement
    files: tuple[ExportedFile, ...]
    classes: tuple[str, ...] = ()
    """Names of the outputs, by number."""
    input_scales: dict[str, InputScale] = Field(default_factory=dict)
    """What goes in must be given as (x - offset) / scale: the files do not do it."""
    not_carried_over: tuple[str, ...] = ()
    """What the original has and the files do not, a sentence each."""
    notes: tuple[str, ...] = ()
    """What was stored or computed otherwise than asked, a sentence each."""
    environment: Environment
    created_at: str
