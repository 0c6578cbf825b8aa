"""Somebody's module as a subject: built, and given its sizes where its first input gives them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from kleiber.errors import RecipeError
from kleiber.models.foreign.failures import explained
from kleiber.models.foreign.inputs import InputShape, make_inputs
from kleiber.models.foreign.keras_model import KerasModule, is_keras, keras_device
from kleiber.models.foreign.losses import find_loss
from kleiber.models.foreign.user_file import UserModule, open_user_module
from kleiber.models.subject import Inputs, Subject

__all__ = ["open_user_file", "size_lazily_"]


def open_user_file(
    text: str,
    path: Path,
    name: str,
    *,
    shapes: Sequence[InputShape],
    init: str | None = None,
    batch_size: int | None = None,
    loss: str | None = None,
) -> Subject:
    """Return what the file at `path` calls `name`, as a subject; the file is run.

    Args:
        text: As typed.
        path: A file of Python source.
        name: A class or function in it.
        shapes: What the module takes; the first dimension of the first is the batch.
        init: Arguments of the class or function, a JSON object.
        batch_size: Samples; without it those of `shapes`.
        loss: A name of `LOSSES`.

    Raises:
        RecipeError: As `open_user_module`; no shapes; an unknown loss.
    """
    minimized, loss_name = find_loss(loss)
    user_module = open_user_module(path, name, init)
    if not shapes:
        raise RecipeError(
            f"{text} needs the shape of what its forward takes, one --input an argument.",
            hint=f"kleiber plan {text} --input 8x3x32x32   (or 8x128:int64 for token ids)",
        )
    is_text = len(shapes[0].size) == 2 and shapes[0].dtype == "int64"
    return Subject(
        name=text,
        build=partial(_build, user_module, shapes),
        inputs=partial(make_inputs, shapes),
        loss=minimized,
        loss_name=loss_name,
        batch_size=batch_size or shapes[0].size[0],
        tokens_per_sample=shapes[0].size[1] if is_text else None,
    )


def _build(user_module: UserModule, shapes: Sequence[InputShape]) -> nn.Module:
    with keras_device(torch.get_default_device()):
        module = user_module.build()
        size_lazily_(module, make_inputs(shapes, shapes[0].size[0]))
    return (KerasModule(module) if is_keras(module) else module).train()


@torch.no_grad()
def size_lazily_(module: nn.Module, example: Inputs) -> None:
    """Run a module with lazy layers once, so that they take their sizes from what reaches them.

    Raises:
        RecipeError: It does not take the example.
    """
    is_unsized = not module.built if is_keras(module) else any(map(is_lazy, module.parameters()))
    if not is_unsized:
        return
    module.eval()  # a running mean and a batch of one are left alone
    with explained(module, example):
        module(*example.args, **example.kwargs)
