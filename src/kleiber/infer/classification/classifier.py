"""A run whose task is classification, behind an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from kleiber.errors import UsageError
from kleiber.infer.classification.answer import Answer, class_names, probabilities
from kleiber.infer.classification.reading import Reader, reader_of
from kleiber.infer.engines import EngineName, open_predictor
from kleiber.infer.fastest_predictor import fastest_predictor
from kleiber.infer.predictor import Predictor
from kleiber.models import load
from kleiber.models.family import FamilyModule
from kleiber.models.stored import read_activations, read_forms
from kleiber.runs import DataShape, Record, RunFolder

__all__ = ["Classifier", "open_classifier"]

_BATCH = 32
"""Samples that go through the model at once: enough for its speed, and little memory."""


@dataclass(frozen=True)
class Classifier:
    """A trained classifier and what it knows of its data."""

    folder: Path
    """Of the run."""
    record: Record
    module: FamilyModule
    """fp32, in evaluation mode."""
    predictor: Predictor
    """The module behind an engine."""

    @cached_property
    def reader(self) -> Reader:
        """What makes inputs of files as the run's own data was made."""
        return reader_of(self.folder, self.record)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, by label."""
        return class_names(self.record.data)

    def answers(self, inputs: Sequence[npt.NDArray[Any]]) -> list[Answer]:
        """Return what it says of each input; they are prepared, as `reader` gives them, and have no axis of a batch."""
        found: list[Answer] = []
        for start in range(0, len(inputs), _BATCH):
            found += self.answers_of(self.predictor(np.stack(inputs[start : start + _BATCH])))
        return found

    def answers_of(self, outputs_BO: npt.NDArray[np.floating]) -> list[Answer]:
        """Return what outputs of the model say."""
        probs_BK = probabilities(outputs_BO, self.record.recipe.task)
        return [Answer(self.classes, probs_K) for probs_K in probs_BK]


def open_classifier(
    folder: Path | str,
    *,
    engine: EngineName | Literal["auto"] = "torch",
    num_threads: int | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Classifier:
    """Return the classifier of a run folder, compressed or not.

    Args:
        folder: Of the run.
        engine: Computes it; `auto` measures those that are installed, once for models of these sizes on this machine.
        num_threads: None takes torch's number.
        on_progress: Is told what takes long.

    Raises:
        RunFolderError: There is no run or no model, or it does not load.
        UsageError: The run's task is another, or an unknown engine.
        MissingExtraError: The engine's package is not installed.
        RecipeError: The module cannot be exported for the engine.
    """
    run = RunFolder(Path(folder))
    record = run.read_record()
    if record.recipe.task.name != "classification":
        raise UsageError(
            f"{folder} was trained for the task {record.recipe.task.name}, and only classification tells classes.",
            hint="kleiber generate RUN   for text; a run with task.name=classification for classes",
        )
    path = run.find_model()
    module, _ = load(path, record.data.shape)
    module = module.eval().requires_grad_(requires_grad=False)
    forms = read_forms(path, module)
    if engine in ("onnxruntime", "auto") and record.data.shape.inputs == "images":
        # Its int8 convolutions would have to see real samples first; the weights that the forms stand for need none.
        forms = {}
    example = [_example(record.data.shape)]
    given: dict[str, Any] = {
        "forms": forms,
        "activations": read_activations(path),
        "num_threads": num_threads,
    }
    if engine == "auto":
        predictor, _ = fastest_predictor(module, example, **given, on_progress=on_progress)
    else:
        predictor = open_predictor(engine, module, example, **given)
    return Classifier(run.path, record, module, predictor)


def _example(shape: DataShape) -> torch.Tensor:
    """Return one sample of zeros: exporting a module takes its shape."""
    if shape.inputs == "tokens":
        return torch.zeros(1, shape.context or 1, dtype=torch.long)
    sizes = {
        "images": (shape.channels, shape.height, shape.width),
        "series": (shape.context, shape.num_features),
    }.get(shape.inputs, (shape.num_features,))
    return torch.zeros(1, *(size or 1 for size in sizes))
