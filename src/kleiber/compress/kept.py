"""A subject on disk: the model in its forms, its tokenizer, and what it was trained for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kleiber.compress.subject import InputRange, Subject
from kleiber.data import save_tokenizer
from kleiber.models import load, save, size_of
from kleiber.models.stored import Activations, read_activations, read_forms, write_forms
from kleiber.runs import ModelRecipe

__all__ = ["read_subject", "write_subject"]


def write_subject(subject: Subject, folder: Path) -> None:
    """Write the model into `folder`, in the Hugging Face layout.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    save(subject.module, subject.spec, folder)
    save_tokenizer(subject.data, folder)
    write_forms(folder, subject.module, subject.forms, _activations(subject))


def read_subject(folder: Path, origin: Subject) -> Subject:
    """Return what `write_subject` wrote of a model that came from `origin`: the same data and task.

    Raises:
        RunFolderError: A file is missing or truncated.
    """
    module, spec = load(folder)
    held = read_activations(folder)
    return dataclasses.replace(
        origin,
        module=module.eval(),
        spec=spec,
        recipe=origin.recipe.model_copy(update={"model": ModelRecipe(**size_of(spec))}),
        forms=read_forms(folder, module),
        input_ranges={name: InputRange(low, high) for name, (low, high) in held.input_ranges.items()},
        has_dynamic_inputs=held.has_dynamic_inputs,
        cache_bits=held.cache_bits,
    )


def _activations(subject: Subject) -> Activations:
    return Activations(
        input_ranges={name: (seen.low, seen.high) for name, seen in subject.input_ranges.items()},
        has_dynamic_inputs=subject.has_dynamic_inputs,
        cache_bits=subject.cache_bits,
    )
