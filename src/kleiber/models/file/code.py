"""The code of a user's module: run once for each version of its file."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import torch
from torch import nn

from kleiber.errors import RecipeError
from kleiber.models.file.named import file_hash
from kleiber.models.file.spec import FileSpec
from kleiber.models.foreign.family import example_of
from kleiber.models.foreign.keras_model import is_keras
from kleiber.models.foreign.user_file import UserModule, open_user_module
from kleiber.models.foreign.user_module import size_lazily_

__all__ = ["built", "user_module_of"]

_BATCH = 2


def user_module_of(spec: FileSpec) -> UserModule:
    """Return what a spec names, ready to be built.

    Raises:
        RecipeError: The file cannot be read or fails, has no such class, or that takes other arguments.
    """
    return _opened(spec.path, spec.name, json.dumps(spec.init), file_hash(spec.path))


@functools.lru_cache(maxsize=32)
def _opened(path: str, name: str, init: str, _hash: str) -> UserModule:
    return open_user_module(Path(path), name, init, option="--set model.init=")


def built(spec: FileSpec) -> nn.Module:
    """Return the user's module with random weights, on the current default device; lazy layers are sized by the data.

    Raises:
        RecipeError: It cannot be built, is one of Keras, holds no parameters, or holds some that are not fp32.
    """
    module = user_module_of(spec).build()
    if is_keras(module):
        raise RecipeError(
            f"{spec.title} is a model of Keras, which keeps its weights in its own layers.",
            hint="a torch.nn.Module, with the weights by its names",
        )
    size_lazily_(module, example_of(spec.shape, _BATCH))
    _require_fp32(module, spec)
    return module


def _require_fp32(module: nn.Module, spec: FileSpec) -> None:
    params = dict(module.named_parameters())
    if not params:
        raise RecipeError(f"{spec.title} holds no parameters.", hint="layers are attributes of the module")
    for name, param in params.items():
        if param.dtype != torch.float32:
            raise RecipeError(
                f"{spec.title}: {name} must be float32, as all parameters here are.",
                got=str(param.dtype).removeprefix("torch."),
                hint=f"def make(): return {spec.name}().float()   and name make",
            )
