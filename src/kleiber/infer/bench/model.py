"""A model that is benchmarked: where it is, what it reads, and what its quality is measured on."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data import Data, Split, open_data
from kleiber.data.corpus import Progress
from kleiber.data.random_batch import random_batch
from kleiber.errors import UsageError
from kleiber.infer.precision import Precision, in_precision
from kleiber.models import Spec, is_ours, load, shape_of
from kleiber.models.counting import Counted
from kleiber.models.family import FamilyModule
from kleiber.models.file.named import name_asked, name_module, split_module
from kleiber.models.hf.spec import HFSpec
from kleiber.models.seen_data import keeps_cache, seen_by, usual_task
from kleiber.models.stored import (
    Activations,
    Forms,
    LowRank,
    Quantized,
    read_activations,
    read_forms,
    stored_bytes,
)
from kleiber.runs import Recipe, RunFolder, TaskName
from kleiber.runs.bench_result import BenchModel
from kleiber.tasks import Task, task_of
from kleiber.tasks.evaluation import INPUT_ROLES, evaluated_split

__all__ = ["NUM_INPUTS", "Benched", "open_benched"]

NUM_INPUTS = 32
"""Real samples that are run; repeated where a batch is larger."""
_INT8, _INT4 = 8, 4


@dataclass(frozen=True)
class Benched:
    """A model as it is stored, with what goes into it."""

    document: BenchModel
    folder: Path
    """Of config and weights."""
    module: FamilyModule
    """fp32, in evaluation mode; its weights are those that its forms stand for."""
    spec: Spec
    forms: Forms
    activations: Activations
    inputs: tuple[npt.NDArray[Any], ...]
    """In the order of the module's arguments; of a language model tokens alone."""
    task_name: TaskName
    data: Data | None = None
    """None where inputs are made up."""
    task: Task | None = None
    split: Split = "val"
    """Where quality is measured."""

    @property
    def name(self) -> str:
        """Unique in the benchmark."""
        return self.document.name

    @property
    def writes_text(self) -> bool:
        """Whether it goes on from text token by token."""
        return keeps_cache(self.spec)

    def held(self, precision: Precision | None) -> tuple[FamilyModule, Forms]:
        """Return a copy of the module in a precision, and how its weights are held then.

        Raises:
            UsageError: Fewer bits of a model that is stored in few bits already.
        """
        module = copy.deepcopy(self.module)
        return module, in_precision(module, self.forms, precision)

    def counted(self, precision: Precision | None) -> Counted:
        """Return what counts its calls in a precision.

        Raises:
            UsageError: As of `held`.
        """
        module, forms = self.held(precision)
        return Counted.of(module, self.spec, forms, self.activations)

    def limit_precision(self, precision: Precision | None) -> Precision:
        """Return the precision whose peak bounds a call: as asked, or what most stored weights are nearest to.

        Weights in up to 4 bits are int4, others in codes int8.
        """
        if precision is not None:
            return precision
        sizes: dict[Precision, int] = {"fp32": 0, "int8": 0, "int4": 0}
        for name, param in self.module.named_parameters():
            form = self.forms.get(name)
            factor = form.right_KC if isinstance(form, LowRank) else form
            bits = factor.num_bits if isinstance(factor, Quantized) else 32
            sizes["fp32" if bits > _INT8 else "int8" if bits > _INT4 else "int4"] += param.numel()
        return max(sizes, key=lambda one: sizes[one])


@dataclass(frozen=True)
class _Facts:
    """What of a model's document is not read off the model."""

    path: str
    name: str
    data: str | None = None
    eval_hash: str | None = None
    notes: tuple[str, ...] = ()


def open_benched(
    source: Path,
    *,
    name: str,
    recipe: Recipe | None = None,
    module: str | None = None,
    has_quality: bool = True,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Benched:
    """Return a model with real inputs where it is a run or data is named, else with made-up ones of its shape.

    Args:
        source: A run folder, or a folder with a model.
        name: What the benchmark calls it.
        recipe: Task and data, where it is no run or others are meant.
        module: `my_model.py:Net`, of a folder that holds weights of such a module: its code is not run unasked.
        has_quality: Whether data is opened at all; without, inputs are made up.
        seed: Of made-up inputs.
        on_progress: Is told each stage.

    Raises:
        RunFolderError: There is no model, or it does not load.
        DataError: The data is missing.
        RecipeError: Model and data do not fit.
        UsageError: They are of different kinds.
    """
    if source.suffix == ".gguf":
        raise UsageError(
            f"{source} is a file of llama.cpp, whose calls cannot be counted: what is measured is the folder of a model.",
            hint="kleiber bench FOLDER --engine llamacpp   or kleiber generate FILE.gguf",
        )
    folder, run = RunFolder(source).find_model(), RunFolder(source)
    if module is not None:
        name_module(*split_module(module))
    if recipe is not None:
        name_asked(recipe.model)
    elif run.exists():
        recipe = run.read_record().recipe
    if recipe is None or not has_quality:
        shape = None if recipe is None else shape_of(recipe)
        if shape is None and not is_ours(folder):
            shape = HFSpec.usual_shape({"path": str(folder)})
        loaded, spec = load(folder, shape)
        facts = _Facts(str(source), name, notes=("Its inputs are made up.",))
        return _made_up(facts, folder, loaded, spec, seed)
    data = open_data(recipe.data, seed=recipe.train.seed, task=recipe.task, on_progress=on_progress)
    loaded, spec = load(folder, shape_of(recipe.with_shape(data.meta.shape)))
    if seen_by(spec).inputs != data.meta.shape.inputs:
        raise UsageError(
            f"{source} reads {seen_by(spec).inputs}, and data.source '{recipe.data.source}' holds "
            f"{data.meta.shape.inputs}.",
            hint="--recipe recipe.yaml   with data of the kind that the model was trained on",
        )
    split: Split = "val" if recipe.task.name == "lm" else evaluated_split(data)
    return _benched(
        _Facts(str(source), name, data.meta.source, data.meta.eval_hash),
        folder,
        loaded,
        spec,
        inputs=_inputs(data, split, recipe.task.name),
        task_name=recipe.task.name,
        data=data,
        task=task_of(recipe.task, data.meta),
        split=split,
    )


def _made_up(facts: _Facts, folder: Path, module: FamilyModule, spec: Spec, seed: int) -> Benched:
    shape = seen_by(spec)
    task = usual_task(shape)
    batch = random_batch(shape, task, NUM_INPUTS, seed=seed)
    arrays = (
        (batch.tokens[:, :-1],)
        if task == "lm"
        else tuple(batch.arrays[role] for role in (*INPUT_ROLES, "source", "target") if role in batch.arrays)
    )
    return _benched(facts, folder, module, spec, inputs=arrays, task_name=task)


def _benched(facts: _Facts, folder: Path, module: FamilyModule, spec: Spec, **known: Any) -> Benched:
    shape = seen_by(spec)
    document = BenchModel(
        name=facts.name,
        path=facts.path,
        family=spec.family,
        num_params=sum(param.numel() for param in module.parameters()),
        stored_bytes=stored_bytes(folder),
        unit="token" if keeps_cache(spec) else "image" if shape.inputs == "images" else "sample",
        context=shape.context if keeps_cache(spec) else None,
        data=facts.data,
        eval_hash=facts.eval_hash,
        notes=facts.notes,
    )
    return Benched(
        document=document,
        folder=folder,
        module=module.eval().requires_grad_(requires_grad=False),
        spec=spec,
        forms=read_forms(folder, module),
        activations=read_activations(folder),
        **known,
    )


def _inputs(data: Data, split: Split, task: TaskName) -> tuple[npt.NDArray[Any], ...]:
    """Return the first samples of a split, as the module's arguments; of text the last token is only predicted."""
    batch = next(iter(data.batches(split, 0, NUM_INPUTS)))
    if task == "lm":
        return (np.ascontiguousarray(batch.tokens[:, :-1], np.int64),)
    if "source" in batch.arrays:
        return batch.arrays["source"], np.ascontiguousarray(batch.arrays["target"][:, :-1])
    return tuple(batch.arrays[role] for role in INPUT_ROLES if role in batch.arrays)
