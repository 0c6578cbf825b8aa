"""Run folders with the data, the model and the record of a real one, whose weights are as they begin."""

from __future__ import annotations

import shutil

import torch

from kleiber.data import open_data
from kleiber.models import build, resolve_spec, save
from kleiber.runs import Recipe, RunFolder


def untrained_run(folder, make_record, *values):
    """Return a run's folder and its opened data; the head is large, so that answers differ."""
    recipe = Recipe().with_values(["task.name=classification", *values])
    data = open_data(recipe.data, seed=0, task=recipe.task)
    recipe = recipe.with_shape(data.meta.shape)
    spec = resolve_spec(recipe)
    module = build(spec)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.3
            )
    run = RunFolder(folder)
    save(module, spec, run.model_path)
    if data.tokenizer_path is not None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(data.tokenizer_path.parent / name, run.model_path / name)
    make_record(run="untrained", recipe=recipe, data=data.meta).write(run.record_path)
    return folder, data


def val_arrays(data, role):
    """Return the validation samples of a role, in order."""
    return next(data.batches("val", 0, data.meta.num_val_tokens)).arrays[role]
