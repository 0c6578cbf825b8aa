"""Model families: a size gives a spec, the spec counts itself and builds a module. Nothing here imports torch."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic.fields import FieldInfo

from kleiber.errors import RecipeError, nearest
from kleiber.models.config_file import read_architecture, read_config
from kleiber.models.convnet.spec import ConvNetSpec
from kleiber.models.dual.spec import DualSpec
from kleiber.models.encoder.spec import EncoderSpec
from kleiber.models.file.named import is_module, split_module
from kleiber.models.file.spec import FileSpec
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.hf.spec import HFSpec
from kleiber.models.inception.spec import InceptionSpec
from kleiber.models.mlp.spec import MLPSpec
from kleiber.models.resnet.spec import ResNetSpec
from kleiber.models.rnn.spec import RNNSpec
from kleiber.models.seq2seq.spec import Seq2SeqSpec
from kleiber.models.vit.spec import ViTSpec
from kleiber.runs import DataShape, ModelRecipe, Recipe
from kleiber.runs.recipe import parse_scalar

if TYPE_CHECKING:
    from kleiber.models.family import FamilyModule

__all__ = [
    "ARCHITECTURES",
    "BROUGHT",
    "FAMILIES",
    "Spec",
    "build",
    "is_ours",
    "load",
    "parse_size",
    "resolve_spec",
    "save",
    "shape_of",
    "size_of",
]

Spec: TypeAlias = (
    GPTSpec
    | RNNSpec
    | EncoderSpec
    | ViTSpec
    | Seq2SeqSpec
    | DualSpec
    | MLPSpec
    | ConvNetSpec
    | InceptionSpec
    | ResNetSpec
    | HFSpec
    | FileSpec
)
"""The union of the families' specs."""

FAMILIES: dict[str, type[Spec]] = {
    "mlp": MLPSpec,
    "convnet": ConvNetSpec,
    "inception": InceptionSpec,
    "resnet": ResNetSpec,
    "rnn": RNNSpec,
    "gpt": GPTSpec,
    "encoder": EncoderSpec,
    "vit": ViTSpec,
    "seq2seq": Seq2SeqSpec,
    "dual": DualSpec,
    "hf": HFSpec,
    "file": FileSpec,
}
"""By the name of their folder here, each with `spec.py`, `module.py` and `convert.py`."""

BROUGHT = frozenset({"hf", "file"})
"""Families whose sizes stand in somebody else's file: no dial turns them."""

ARCHITECTURES: dict[str, str] = {
    "KleiberMLP": "mlp",
    "KleiberConvNet": "convnet",
    "KleiberInception": "inception",
    "KleiberResNet": "resnet",
    "ResNetForImageClassification": "resnet",
    "KleiberRNN": "rnn",
    "KleiberGPT": "gpt",
    "Qwen3ForCausalLM": "gpt",
    "Qwen3MoeForCausalLM": "gpt",
    "BertForSequenceClassification": "encoder",
    "ViTForImageClassification": "vit",
    "PegasusForConditionalGeneration": "seq2seq",
    "MarianMTModel": "seq2seq",
    "CLIPModel": "dual",
    "KleiberFile": "file",
}
"""Family of each architecture that `config.json` may name."""


def parse_size(text: str) -> ModelRecipe:
    """Return the model that the command line's shorthand names: `FAMILY:KEY=VALUE,...`.

    Raises:
        RecipeError: An unknown family, or a part that is not KEY=VALUE. The family checks the keys.

    Example:
        >>> parse_size("gpt:depth=12,width=768").size
        {'depth': 12, 'width': 768}
        >>> parse_size("hf:models/bert,pretrained=true").size
        {'path': 'models/bert', 'pretrained': True}
        >>> parse_size("file:my_model.py:Net").size
        {'path': 'my_model.py', 'name': 'Net'}
    """
    family, _, rest = text.partition(":")
    _family(family)
    if family == "hf" and "=" not in rest.partition(",")[0]:
        rest = f"path={rest}"
    first, comma, others = rest.partition(",")
    if family == "file" and "=" not in first and is_module(first):
        rest = "path={},name={}".format(*split_module(first)) + comma + others
    size: dict[str, object] = {}
    for part in rest.split(",") if rest else ():
        key, separator, value = (piece.strip() for piece in part.partition("="))
        if not (key and separator and value) or key in size or key == "family":
            raise RecipeError(
                f"A size is written FAMILY:KEY=VALUE,KEY=VALUE with each key once; '{part}' is not KEY=VALUE.",
                got=text,
                hint="gpt:depth=12,width=768",
            )
        size[key] = parse_scalar(value)
    return ModelRecipe.model_validate({"family": family, **size})


def resolve_spec(recipe: Recipe) -> Spec:
    """Return the spec of a recipe's model, with what its data looks like.

    That is `data.shape`, which a run resolves; without one, the vocabulary and context that the recipe asks for where text
    is modelled, else the family's usual example.

    Raises:
        RecipeError: An unknown family, an unknown key, an absurd number, or data that the family cannot read.
    """
    return _family(recipe.model.family).of_size(recipe.model.size, shape_of(recipe))


def shape_of(recipe: Recipe) -> DataShape:
    """Return what a recipe's model sees, as `resolve_spec` says."""
    data, example = recipe.data, _family(recipe.model.family).example_shape
    if data.shape is not None:
        return data.shape
    sizes = {"vocab_size": data.vocab_size, "context": data.context}
    asked = DataShape(inputs="tokens", **sizes)
    return (
        asked
        if recipe.task.name == "lm" and example.inputs == "tokens" and example.num_outputs is None
        else example
    )


def _family(name: str) -> type[Spec]:
    if name not in FAMILIES:
        raise RecipeError(
            f"unknown family '{name}'. {nearest(name, FAMILIES)}", hint="gpt:depth=12,width=768"
        )
    return FAMILIES[name]


def size_of(spec: Spec) -> dict[str, Any]:
    """Return the size that gives this very spec on the same data; parts that it has none of are left out.

    Example:
        >>> spec = resolve_spec(Recipe(model=parse_size("gpt:depth=2")))
        >>> resolve_spec(Recipe(model=ModelRecipe(**size_of(spec)))) == spec
        True
    """
    size = spec.model_dump(mode="json", exclude={"vocab_size", "context", "shape"})
    fields = type(spec).model_fields
    return {
        key: value
        for key, value in size.items()
        if value is not None and (value or value is False or _default(fields[key]) != getattr(spec, key))
    }


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})


def build(spec: Spec, *, seed: int = 0) -> FamilyModule:
    """Return a module with freshly initialized weights [fp32, CPU]; the same seed gives the same weights."""
    module: FamilyModule = _part(spec.family, "module").build(spec, seed=seed)
    return module


def save(module: FamilyModule, spec: Spec, folder: Path) -> None:
    """Write `config.json` and `model.safetensors`, in the Hugging Face layout where the family has one.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    _part(spec.family, "convert").save(module, spec, folder)


def load(folder: Path, shape: DataShape | None = None) -> tuple[FamilyModule, Spec]:
    """Return the module [fp32, CPU] and spec in a folder that `save` or transformers wrote.

    Args:
        folder: Holds config and weights.
        shape: Of the data that a model of no family of ours is to read: transformers builds it, with a head that fits. None
            refuses such a model.

    Raises:
        RunFolderError: A file is missing or truncated, or the architecture is not one of ours.
        RecipeError: transformers cannot build the model on such data.
    """
    if shape is not None and not is_ours(folder):
        foreign = HFSpec.of_size({"path": str(folder), "pretrained": True}, shape)
        return build(foreign), foreign
    is_hf = HFSpec.config_key in read_config(folder)
    family = "hf" if is_hf else ARCHITECTURES.get(read_architecture(folder), "gpt")
    loaded: tuple[FamilyModule, Spec] = _part(family, "convert").load(folder)
    return loaded


def is_ours(folder: Path) -> bool:
    """Return whether a model's folder says its family by itself.

    Raises:
        RunFolderError: The config cannot be read.
    """
    return HFSpec.config_key in read_config(folder) or read_architecture(folder) in ARCHITECTURES


def _part(family: str, name: str) -> Any:
    """Return a module of a family's folder: torch takes a second to import, so nothing above does."""
    return importlib.import_module(f"kleiber.models.{family}.{name}")
