"""A subject on disk: the model in its forms, its tokenizer, and what it was trained for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kleiber.compress.subject import Subject
from kleiber.data import save_tokenizer
from kleiber.models import load, save, size_of
from kleiber.models.stored import read_activations, read_forms, write_forms
from kleiber.runs import ModelRecipe

__all__ = ["read_subject", "write_subject"]


def write_subject(subject: Subject, folder: Path) -> None:
    """Write the model into `folder`, in the Hugging Face layout.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    save(subject.module, subject.spec, folder)
    save_tokenizer(subject.data, folder)
    write_forms(folder, subject.module, subject.forms, subject.activations)


def read_subject(folder: Path, origin: Subject) -> Subject:
    """Return what `write_subject` wrote of a model that came from `origin`: the same data and task.

    Raises:
        RunFolderError: A file is missing or truncated.
    """
    module, spec = load(folder)
    return dataclasses.replace(
        origin,
        module=module.eval(),
        spec=spec,
        recipe=origin.recipe.model_copy(update={"model": ModelRecipe(**size_of(spec))}),
        forms=read_forms(folder, module),
        activations=read_activations(folder),
    )
