"""A transformers model on data of a shape: where its config is, and whether its weights are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from kleiber.cost.layouts import BlockShape
from kleiber.errors import RecipeError, nearest
from kleiber.models.traced_spec import TracedSpec
from kleiber.runs import DataShape

__all__ = ["HFSpec"]

_HINT = "hf:PATH   or   hf:PATH,pretrained=true"


class HFSpec(TracedSpec):
    """A model of transformers; its sizes are those of its config, and so is whatever the data does not say.

    Unlike the other families it is not counted in closed form: transformers builds it without memory, and a step is traced.
    """

    example_shape: ClassVar[DataShape] = DataShape(inputs="tokens", vocab_size=1024, context=128)
    """Data that the family is planned on when none is named; `usual_shape` asks a config."""
    config_key: ClassVar[str] = "kleiber_hf"
    """Of a saved model's `config.json`: this spec, which transformers leaves aside."""

    family: Literal["hf"] = "hf"
    path: str = Field(min_length=1)
    """A folder with a `config.json`, that file, or a name that the hub knows."""
    pretrained: bool = Field(default=False, strict=True)
    """Whether it starts from the weights beside the config."""
    sizes: tuple[tuple[str, Annotated[int, Field(strict=True, ge=1)]], ...] = ()
    """Numbers of the config that are others here, by name: of a model that was made smaller than the one in `path`."""
    shape: DataShape
    """What is read: tokens, images, or pairs of texts."""

    @classmethod
    def of_size(cls, size: Mapping[str, Any], shape: DataShape) -> Self:
        """Return the spec of a config on data of a shape.

        Args:
            size: `path`, `pretrained`, and `sizes`.
            shape: Of the data: the head follows from it.

        Raises:
            RecipeError: An unknown key, no path, a config that cannot be read or has no head for such data, or sizes of it
                that do not suit the data.
            MissingExtraError: transformers is not installed.
        """
        for key in size:
            if key not in (keys := ("path", "pretrained", "sizes")):
                raise RecipeError(
                    f"hf size: unknown key '{key}'. {nearest(key, keys)}",
                    got=dict(size),
                    hint=_HINT,
                )
        if "path" not in size:
            raise RecipeError("hf needs the path of a config, or a name that the hub knows.", hint=_HINT)
        spec = cls.of({**size, "shape": shape}, "hf size", RecipeError)
        from kleiber.models.hf.fitted import fitted  # noqa: PLC0415 - transformers takes seconds to import

        fitted(spec)
        return spec

    @classmethod
    def usual_shape(cls, size: Mapping[str, Any]) -> DataShape:
        """Return the data that a config was made for.

        Raises:
            RecipeError: No path, or a config that cannot be read.
        """
        from kleiber.models.hf.usual import usual_shape  # noqa: PLC0415 - transformers takes seconds to import

        if "path" not in size:
            raise RecipeError("hf needs the path of a config, or a name that the hub knows.", hint=_HINT)
        return usual_shape(str(size["path"]))

    def blocks(self) -> BlockShape | None:
        """Return what layouts must divide; None of what has no heads of attention."""
        from kleiber.models.hf.fitted import fitted  # noqa: PLC0415 - transformers takes seconds to import

        return fitted(self).architecture.blocks()

    def notes(self) -> tuple[str, ...]:
        """Return what of the config was changed to suit the data, a sentence each."""
        from kleiber.models.hf.fitted import fitted  # noqa: PLC0415 - transformers takes seconds to import

        return fitted(self).notes

    @property
    def depth(self) -> int:
        """Repeated blocks, those of an encoder and a decoder added up; 1 where the config names none."""
        from kleiber.models.hf.facts import depth_of  # noqa: PLC0415 - transformers takes seconds to import

        return depth_of(self)

    @property
    def width(self) -> int:
        """Features of a block, those of the last stage where stages differ; 1 where the config names none."""
        from kleiber.models.hf.facts import width_of  # noqa: PLC0415 - transformers takes seconds to import

        return width_of(self)
