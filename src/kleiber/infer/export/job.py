"""What a format is given, and what it says of the files it wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from typing import Literal, TypeAlias

from kleiber.infer.decoding.decoder import Stepper
from kleiber.infer.export.agreement import Predict
from kleiber.infer.export.original import Original
from kleiber.runs.export_receipt import ExportedArray

__all__ = ["TOLERANCES", "Accuracy", "ExportPrecision", "Job", "Part", "Written", "package"]

ExportPrecision: TypeAlias = Literal["fp32", "f16", "int8", "int4"]

Accuracy = Literal["fp32", "f16", "bits"]
"""How near the outputs of a format can come to those of the same weights in torch: they compute in fp32, hold weights or
computations in fp16, or round what goes into products to 8 bits as well."""

TOLERANCES: dict[Accuracy, float] = {"fp32": 1e-4, "f16": 1e-2, "bits": 0.1}
"""Largest difference that is taken for the same model where nobody says another, as a part of the largest output."""


@dataclass(frozen=True)
class Job:
    """A model on its way into a format."""

    original: Original
    """With the weights and forms of the precision that is asked for."""
    precision: ExportPrecision | None
    """None is as stored."""
    num_threads: int


@dataclass(frozen=True)
class Part:
    """A file of an export."""

    name: str
    holds: str
    """A sentence's part: what it is for."""
    inputs: tuple[ExportedArray, ...] = ()
    outputs: tuple[ExportedArray, ...] = ()


@dataclass(frozen=True)
class Written:
    """What a format wrote, opened again from its files."""

    parts: tuple[Part, ...]
    precision: str
    """How weights are stored and multiplied."""
    accuracy: Accuracy
    checked_with: str
    """The package that reads the files, with its version."""
    stepper: Stepper | None = None
    """Of a language model."""
    predict: Predict | None = None
    """Whole inputs to all outputs: of all others, and of a language model that has a graph for it."""
    notes: tuple[str, ...] = ()
    not_carried_over: tuple[str, ...] = field(default=())


def package(name: str) -> str:
    """Return an installed package with its version.

    Example:
        >>> package("numpy").split()[0]
        'numpy'
    """
    return f"{name} {metadata.version(name)}"
