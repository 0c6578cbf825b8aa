"""Arrays of samples as an archive holds them: `x_train`, `y_train` and their like.

Shapes: N samples, C channels, H height, W width, T steps, F columns, K values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.prepared import Prepared, PreparedMeta
from kleiber.data.sample_checks import check_finite
from kleiber.data.source import Part, Source
from kleiber.errors import DataError
from kleiber.runs import DataShape, TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["Arrays", "array_source", "class_names", "given_classes", "prepare_arrays"]

Arrays = dict[str, npt.NDArray[Any]]

_SPLITS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
"""What may stand after `x_` and `y_`."""

_ROLES = ("images", "features", "series")
"""By axes of an array that is no picture: 2 are features, 3 a series."""


def prepare_arrays(target: Path, archives: Sequence[Arrays], recipe: DataRecipe) -> PreparedMeta:
    """Write `SPLIT_ROLE.npy` and `SPLIT_y.npy` for each split.

    Raises:
        DataError: An array has a shape that says nothing, or splits differ in it.
    """
    (archive,) = archives
    digest, shapes = hashlib.sha256(), {}
    for split, names in _SPLITS.items():
        name = next((name for name in names if f"x_{name}" in archive), None)
        if name is None:
            continue
        role, x = _samples(f"x_{name}", archive[f"x_{name}"], recipe.source)
        y = _answers(archive, name, len(x), recipe.source)
        check_finite(x, np.arange(len(x)), f"data.source '{recipe.source}': x_{name}")
        np.save(target / f"{split}_{role}.npy", x)
        np.save(target / f"{split}_y.npy", y)
        digest.update(f"{role} {x.shape} {x.dtype} {y.dtype} ".encode())
        digest.update(np.ascontiguousarray(x).data)
        digest.update(y.tobytes())
        shapes[f"x_{name}"] = x.shape[1:]
    if len(set(shapes.values())) > 1:
        raise DataError(
            f"data.source '{recipe.source}': samples must have one shape, and "
            + ", ".join(f"{name} has {shape}" for name, shape in shapes.items())
            + ".",
            hint="save all splits with the same columns, or images of the same size",
        )
    return PreparedMeta(
        content_hash=digest.hexdigest()[:16],
        classes=given_classes(archive, recipe.source),
    )


def _samples(name: str, x: npt.NDArray[Any], source: str) -> tuple[str, npt.NDArray[Any]]:
    """Return the role of an array, and the array as that role has it.

    Bytes are pixels: [N, H, W], [N, H, W, C] with C 1 or 3, or [N, C, H, W]. Other numbers are columns [N, F], steps of columns
    [N, T, F], or with four axes pixels too.
    """
    if x.dtype.kind not in "buif":
        raise DataError(
            f"data.source '{source}': {name} must be of numbers, and is of {x.dtype}.",
            hint=f"numpy.savez('data.npz', {name}={name}.astype('float32'), ...)",
        )
    if not x.size:
        raise DataError(
            f"data.source '{source}': {name} is empty.", got=x.shape, hint="name an archive with samples"
        )
    if x.ndim == 4 or (x.ndim == 3 and x.dtype == np.uint8):
        pixels = x if x.dtype == np.uint8 else _as_float32(x)
        if x.ndim == 3:
            return "images", pixels[:, None]
        is_channels_last = x.shape[-1] in {1, 3} and x.shape[1] not in {1, 3}
        return "images", np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if is_channels_last else pixels
    if x.ndim in {2, 3}:
        return _ROLES[x.ndim - 1], _as_float32(x)
    raise DataError(
        f"data.source '{source}': {name} must be [N, F], [N, T, F], [N, H, W], [N, C, H, W] or [N, H, W, C].",
        got=x.shape,
        hint=f"{name}={name}.reshape(len({name}), -1)   are columns",
    )


def _as_float32(x: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return an array whose numbers are infinite where float32 has none so large: the check of them says so."""
    with np.errstate(over="ignore"):
        return x.astype(np.float32)


def _answers(archive: Arrays, name: str, num: int, source: str) -> npt.NDArray[Any]:
    y = archive.get(f"y_{name}")
    if y is None:
        raise DataError(
            f"data.source '{source}': x_{name} has no y_{name} beside it.",
            hint=f"numpy.savez('data.npz', x_{name}=x, y_{name}=y, ...)",
        )
    is_column = y.ndim == 1 or (y.ndim == 2 and (y.shape[1] == 1 or y.dtype.kind != "U"))
    if not is_column or len(y) != num or y.dtype.kind not in "buifU":
        raise DataError(
            f"data.source '{source}': y_{name} must hold a class or a number for each of the {num:,} samples.",
            got=f"{y.shape} of {y.dtype}",
            hint=f"numpy.savez('data.npz', x_{name}=x[:num], y_{name}=y[:num], ...)",
        )
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def array_source(prepared: Prepared, recipe: DataRecipe, task: TaskRecipe) -> Source:
    """Return the splits; whole numbers and names are classes, unless the task is regression.

    Raises:
        DataError: A split has a class by name that train has not, or answers of another kind than train's, or classes are asked
            for and there are none, or numbers and there are names.
    """
    role = next(role for role in _ROLES if prepared.has(f"train_{role}"))
    answers = {split: prepared.read(f"{split}_y") for split in _SPLITS if prepared.has(f"{split}_y")}
    _check_alike(answers, recipe.source, task)
    named, classes = _coded(answers, prepared.meta.classes, recipe.source)
    is_labels = named["train"].ndim == 1 and named["train"].dtype.kind in "bui" and task.name != "regression"
    if task.name == "classification" and not is_labels:
        y = named["train"]
        raise DataError(
            f"data.source '{recipe.source}': y_train must hold a whole number or a name for each sample, its class.",
            got=f"{y.shape} of {y.dtype}",
            hint=f"y_train=y_train.{'argmax(1)' if y.ndim == 2 else 'astype(int)'}, or --set task.name=regression",
        )
    parts = {}
    for split, y in named.items():
        samples = prepared.samples(**{role: f"{split}_{role}"})
        values = None if is_labels else y.reshape(len(y), -1).astype(np.float32)
        parts[split] = Part(samples, labels=y.astype(np.int64) if is_labels else None, values=values)
    names = class_names(classes, parts["train"].labels, recipe.source)
    train_values = parts["train"].values
    num_outputs = len(names) if train_values is None else train_values.shape[1]
    return Source(
        shape=_shape(role, prepared.samples(x=f"train_{role}").arrays["x"].shape[1:], num_outputs),
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        classes=names if is_labels else (),
        content_hash=prepared.meta.content_hash,
    )


def _check_alike(answers: Arrays, source: str, task: TaskRecipe) -> None:
    """Refuse splits whose answers are not of the kind of train's: as that kind they would be read wrong."""
    kinds = {split: (_kind_of(y, task), y.shape[1:]) for split, y in answers.items()}
    odd = next((split for split, kind in kinds.items() if kind != kinds["train"]), None)
    if odd is not None:
        raise DataError(
            f"data.source '{source}': y_{odd} must hold {kinds['train'][0]} as y_train does, of one shape.",
            got=f"{answers[odd].shape} of {answers[odd].dtype}",
        )
    if task.name == "regression" and kinds["train"][0] == "names":
        raise DataError(
            f"data.source '{source}': y_train must hold numbers, and it holds names.",
            hint="--set task.name=classification",
        )


def _kind_of(y: npt.NDArray[Any], task: TaskRecipe) -> str:
    if y.dtype.kind == "U":
        return "names"
    return "whole numbers" if y.dtype.kind in "bui" and task.name != "regression" else "numbers"


def _coded(answers: Arrays, classes: tuple[str, ...], source: str) -> tuple[Arrays, tuple[str, ...]]:
    """Return classes that are names as numbers, in the order of `classes` or sorted."""
    if answers["train"].dtype.kind != "U":
        return answers, classes
    known = classes or tuple(sorted({str(name) for name in answers["train"]}))
    numbers = {name: number for number, name in enumerate(known)}
    for split, y in answers.items():
        strange = sorted({str(name) for name in y} - set(known))
        if strange:
            raise DataError(
                f"data.source '{source}': y_{split} has classes that are not known: {', '.join(strange[:5])}.",
                hint=f"known are {', '.join(known[:5])}; mend the names, or add training samples",
            )
    return {split: np.array([numbers[str(name)] for name in y]) for split, y in answers.items()}, known


def given_classes(archive: Arrays, source: str) -> tuple[str, ...]:
    """Return the names that an archive gives to its classes, by label; none where it has no `classes`.

    Raises:
        DataError: They are no list of names.
    """
    names = archive.get("classes", np.empty(0))
    if names.ndim != 1:
        raise DataError(
            f"data.source '{source}': classes must be a name for each label.",
            got=names.tolist() if names.size < 9 else names.shape,
            hint="numpy.savez(..., classes=['a', 'b'])",
        )
    return tuple(map(str, names.tolist()))


def class_names(given: tuple[str, ...], labels: npt.NDArray[np.int64] | None, source: str) -> tuple[str, ...]:
    """Return the names that an archive gives to its classes; without them, the numbers up to the largest label.

    Args:
        given: By label.
        labels: Of the training samples [N]; None where they have none.
        source: What the user typed, for errors.

    Raises:
        DataError: There are no names, and a number below the largest label has no training sample: one label that is far
            out of range would make as many classes.

    Example:
        >>> class_names((), np.array([0, 2, 1]), "npz:a.npz")
        ('0', '1', '2')
    """
    if given or labels is None:
        return given
    present = np.unique(labels[labels >= 0])
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps):
        raise DataError(
            f"data.source '{source}' has labels out of range: without names, classes are numbered from 0 on, each with "
            f"training samples, and there is none of {gaps[0]}, but sample {int(labels.argmax())} has label {labels.max()}.",
            hint="mend the labels, or numpy.savez(..., classes=['a', 'b', 'c'])   where a class may have no sample",
        )
    return tuple(map(str, range(len(present))))


def _shape(role: str, size: tuple[int, ...], num_outputs: int) -> DataShape:
    if role == "images":
        channels, height, width = size
        return DataShape(
            inputs="images", channels=channels, height=height, width=width, num_outputs=num_outputs
        )
    if role == "series":
        return DataShape(inputs="series", context=size[0], num_features=size[1], num_outputs=num_outputs)
    return DataShape(inputs="features", num_features=size[0], num_outputs=num_outputs)
