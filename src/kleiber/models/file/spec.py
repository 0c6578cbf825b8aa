"""A module of the user's own file on data of a shape: where its code is, what it is called with, where its weights are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from kleiber.errors import RecipeError, nearest
from kleiber.models.file.named import file_hash, name_module
from kleiber.models.traced_spec import TracedSpec
from kleiber.runs import DataShape

__all__ = ["FileSpec"]

_HINT = "file:path=my_model.py,name=Net"
_KEYS = ("path", "name", "init", "weights", "file_hash")


class FileSpec(TracedSpec):
    """A class or function of a Python file that gives a `torch.nn.Module`.

    It is not counted in closed form: the module is built without memory, and a step is traced.
    """

    example_shape: ClassVar[DataShape] = DataShape(
        inputs="images", channels=3, height=32, width=32, num_outputs=10
    )
    """Data that the family is planned on when none is named."""

    family: Literal["file"] = "file"
    path: str = Field(min_length=1)
    """The file; it is run when the module is built."""
    name: str = Field(min_length=1)
    """The class in it, or a function that returns a module."""
    init: dict[str, Any] = Field(default_factory=dict)
    """Arguments that it is called with, by name."""
    weights: str | None = Field(default=None, min_length=1)
    """A state dict, `.safetensors` or `.npz`, that training starts from; None starts from random weights."""
    file_hash: str | None = None
    """Of the file; settled when the run starts, so that a file that changes later is another recipe."""
    shape: DataShape
    """What is read."""

    def __hash__(self) -> int:
        """Return a hash of all fields; pydantic's own cannot take a mapping."""
        return hash(self.model_dump_json())

    @classmethod
    def of_size(cls, size: Mapping[str, Any], shape: DataShape) -> Self:
        """Return the spec of a module that a user names in a recipe or a command; its file is run.

        Args:
            size: `path`, `name`, `init`, `weights`, and `file_hash`.
            shape: Of the data.

        Raises:
            RecipeError: An unknown key, no path or name, a file that fails, has changed since the recipe was settled, or has no
                such class; arguments that it does not take; no weights where the recipe says.
            MissingExtraError: The file needs Keras, which is not installed.
        """
        for key in size:
            if key not in _KEYS:
                raise RecipeError(
                    f"file size: unknown key '{key}'. {nearest(key, _KEYS)}", got=dict(size), hint=_HINT
                )
        for key in ("path", "name"):
            if key not in size:
                raise RecipeError(
                    f"file needs the {key} of a module: a Python file, and a class in it.", hint=_HINT
                )
        spec = cls.of({**size, "shape": shape}, "file size", RecipeError)
        spec = spec.model_copy(update={"file_hash": _same_hash(spec)})
        from kleiber.models.file.code import user_module_of  # noqa: PLC0415 - torch takes a second to import

        user_module_of(spec)
        name_module(spec.path, spec.name)
        if spec.weights is not None and not Path(spec.weights).is_file():
            raise RecipeError(
                f"the weights {spec.weights} are no file.", hint="model.weights: net.safetensors"
            )
        return spec

    @property
    def title(self) -> str:
        """As it is typed: `my_model.py:Net`."""
        return f"{self.path}:{self.name}"

    @property
    def depth(self) -> int:
        """Hidden matrices; 1 of a module without any."""
        return len(self.hidden_shapes()) or 1

    @property
    def width(self) -> int:
        """Rows of the last hidden matrix; 1 of a module without any."""
        shapes = self.hidden_shapes()
        return shapes[-1][0] if shapes else 1


def _same_hash(spec: FileSpec) -> str:
    found = file_hash(spec.path)
    if spec.file_hash not in (None, found):
        raise RecipeError(
            f"{spec.path} has changed since the recipe was settled.",
            got=found,
            hint="--set model.file_hash=null   takes it as it is now",
        )
    return found
