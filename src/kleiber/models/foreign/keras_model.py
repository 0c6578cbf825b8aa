"""Keras 3 on the torch backend: its models are modules, seen here through torch's eyes.

A Keras model keeps its layers outside of `named_modules`, holds its variables beside torch's parameters, and is told
by an argument whether it trains. On the meta device it computes shapes but no gradients; on fake tensors both.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kleiber.errors import MissingExtraError, RecipeError, UsageError

__all__ = ["KerasModule", "check_backend", "is_keras", "keras_device", "keras_on_torch", "missing_keras"]

_SEED = "seed_generator_state"


@contextmanager
def keras_on_torch() -> Iterator[None]:
    """Let Keras choose torch if it is imported inside and the user has not chosen."""
    is_unset = "KERAS_BACKEND" not in os.environ
    if is_unset:
        os.environ["KERAS_BACKEND"] = "torch"
    try:
        yield
    finally:
        if is_unset:
            del os.environ["KERAS_BACKEND"]


def check_backend() -> None:
    """Refuse Keras on anything but torch.

    Raises:
        RecipeError: Keras runs on another backend.
    """
    keras = sys.modules.get("keras")
    backend = keras.backend.backend() if keras is not None else "torch"
    if backend != "torch":
        raise _wrong_backend(backend)


def missing_keras(error: BaseException) -> UsageError | None:
    """Return what to say of a failed import, if it was that of Keras or of a backend that the user chose for it."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    if error.name == "keras":
        return MissingExtraError.of("keras", "keras", "This file")
    chosen = os.environ.get("KERAS_BACKEND", "torch")
    frames = traceback.extract_tb(error.__traceback__)
    is_from_keras = any("keras" in Path(frame.filename).parts for frame in frames)
    return _wrong_backend(chosen) if is_from_keras and chosen != "torch" else None


@contextmanager
def keras_device(device: torch.device) -> Iterator[None]:
    """Let Keras, if it is there, make and expect its tensors on `device`: it does not follow torch's default."""
    keras = sys.modules.get("keras")
    with nullcontext() if keras is None else keras.device(str(device)):
        yield


def _wrong_backend(backend: str) -> RecipeError:
    return RecipeError(
        "A Keras model needs the torch backend.", got=backend, hint="KERAS_BACKEND=torch kleiber plan ..."
    )


def is_keras(module: object) -> bool:
    """Return whether this is a Keras layer or model, without importing Keras."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(module, keras.Layer)


class KerasModule(nn.Module):
    """A built Keras model with its layers as parts, that trains when it is in training mode.

    Args:
        model: Built: its variables exist.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = (
            model,
        )  # in a tuple, so that torch does not register all of its parameters in one heap
        self.layers = nn.ModuleDict(dict(_named_layers(model)))
        inside = {id(param) for param in self.layers.parameters()}
        own = {v.path: v.value for v in model.weights if id(v.value) not in inside}
        self.own = nn.ParameterDict(own)
        for part in self.modules():
            if isinstance(part, nn.ParameterDict):
                for name in [name for name in part if name.endswith(_SEED)]:
                    del part[name]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model returns."""
        model = self._model[0]
        self._follow_parameters()
        with keras_device(_device_of(*args, *kwargs.values())):
            return model(*args, training=self.training, **kwargs)

    def _follow_parameters(self) -> None:
        """Let Keras's variables hold torch's parameters: those may have been replaced since, by fakes for one."""
        current = {
            name: param
            for part in self.modules()
            if isinstance(part, nn.ParameterDict)
            for name, param in part.items()
        }
        for variable in self._model[0].weights:
            variable._value = current[variable.path]  # noqa: SLF001 - Keras has no public way that keeps the parameter


def _device_of(*values: Any) -> torch.device:
    found = (value.device for value in values if isinstance(value, torch.Tensor))
    return next(found, torch.get_default_device())


def _named_layers(model: Any, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield every layer by its name, the parts of a nested model before itself: who comes first owns a parameter."""
    num_named: Counter[str] = Counter()
    for layer in model.layers:
        name = prefix + _name(layer, num_named)
        if getattr(layer, "layers", None):
            yield from _named_layers(layer, f"{name}/")
        for part in layer.modules():
            if is_keras(part):
                _ = part.torch_params  # made when first asked for
        yield name, layer


def _name(layer: Any, num_named: Counter[str]) -> str:
    """Return the name the user chose, or Keras's own numbered from 0: Keras counts on from model to model."""
    kind = re.sub(r"_\d+$", "", layer.name)
    if kind.replace("_", "") != type(layer).__name__.lower():
        return str(layer.name).replace(".", "_")
    num_named[kind] += 1
    return kind if num_named[kind] == 1 else f"{kind}_{num_named[kind] - 1}"
