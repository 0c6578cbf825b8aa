"""What is exported: a model with its weights' forms, its tokenizer, and real inputs to prove agreement on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data import Data, open_data
from kleiber.data.data import Split
from kleiber.data.given_tokenizer import holds_tokenizer, open_tokenizer
from kleiber.data.stdlib import stdlib_files
from kleiber.data.text_tokenizer import TextTokenizer, saved_tokenizer
from kleiber.errors import RecipeError
from kleiber.infer.vocabulary import require_known_tokens
from kleiber.models import Spec, is_ours, load, save, shape_of
from kleiber.models.config_file import read_config
from kleiber.models.family import FamilyModule
from kleiber.models.file.named import name_asked, name_module, split_module
from kleiber.models.hf.spec import HFSpec
from kleiber.models.seen_data import is_modelled, keeps_cache, seen_by
from kleiber.models.stored import AS_COMPUTED, Activations, Forms, read_activations, read_forms
from kleiber.runs import Recipe, RunFolder
from kleiber.runs.record import InputScale
from kleiber.tasks.evaluation import INPUT_ROLES, evaluated_split

__all__ = ["NUM_SAMPLES", "Original", "open_original"]

NUM_SAMPLES = {"text": 4, "other": 32}
"""Inputs that are compared: sequences of a language model's whole context, or samples of anything else."""
_PAIR_ROLES = ("source", "target")


@dataclass(frozen=True)
class Original:
    """A model as it is read from its folder."""

    typed: str
    """The folder, as the user named it."""
    folder: Path
    """Of config and weights."""
    module: FamilyModule
    """fp32, in evaluation mode; its weights are those that its forms stand for."""
    spec: Spec
    inputs: tuple[npt.NDArray[Any], ...]
    """Real ones, in the order of the module's arguments."""
    input_names: tuple[str, ...]
    """What the data calls them."""
    inputs_from: str
    """A sentence's part: where they are from."""
    tokenizer: TextTokenizer | None = None
    forms: Forms = field(default_factory=dict)
    activations: Activations = AS_COMPUTED
    classes: tuple[str, ...] = ()
    input_scales: Mapping[str, InputScale] = field(default_factory=dict)

    @property
    def writes_text(self) -> bool:
        """Whether it is a language model, which goes on from text token by token."""
        return keeps_cache(self.spec)

    def config(self) -> dict[str, Any]:
        """Return the `config.json` that its family saves."""
        with tempfile.TemporaryDirectory(prefix="kleiber-config-") as place:
            save(self.module, self.spec, Path(place))
            return read_config(Path(place))


def open_original(
    source: Path,
    recipe: Recipe | None = None,
    *,
    module: str | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Original:
    """Return the model of a run or of a folder in the Hugging Face layout, with real inputs.

    Those are of the split that quality is measured on; of a language model without a run, this Python's own library is read by
    the model's tokenizer.

    Args:
        source: A run folder, or a folder with `config.json`.
        recipe: Task and data, where the source is no run or others are meant.
        module: `my_model.py:Net`, of a folder that holds weights of such a module: its code is not run unasked.
        on_progress: Is told each stage.

    Raises:
        RunFolderError: There is no model, or it does not load.
        RecipeError: A folder without a run came without a recipe and models no text, or model and data do not fit.
        DataError: The data or the tokenizer is missing, or the tokenizer is not the model's own.
    """
    tell = on_progress or (lambda _: None)
    folder, run = RunFolder(source).find_model(), RunFolder(source)
    if module is not None:
        name_module(*split_module(module))
    if recipe is not None:
        name_asked(recipe.model)
    elif run.exists():
        recipe = run.read_record().recipe
    if recipe is None:
        tell("reading the model")
        return _without_data(source, folder)
    tell("opening the data")
    data = open_data(recipe.data, seed=recipe.train.seed, task=recipe.task, on_progress=on_progress)
    tell("reading the model")
    return _with_data(source, folder, recipe.with_shape(data.meta.shape), data)


def _with_data(source: Path, folder: Path, recipe: Recipe, data: Data) -> Original:
    module, spec = load(folder, shape_of(recipe))
    if (reads := seen_by(spec).inputs) != data.meta.shape.inputs:
        raise RecipeError(
            f"{source} reads {reads}, and data.source '{recipe.data.source}' holds {data.meta.shape.inputs}.",
            hint="--recipe recipe.yaml   with data of the kind that the model was trained on",
        )
    split = evaluated_split(data)
    names, arrays = _samples(data, split, is_text=keeps_cache(spec))
    return Original(
        typed=str(source),
        folder=folder,
        module=module.eval().requires_grad_(requires_grad=False),
        spec=spec,
        inputs=arrays,
        input_names=names,
        inputs_from=f"the {split} split of {recipe.data.source}",
        tokenizer=_tokenizer(folder, seen_by(spec).vocab_size),
        forms=read_forms(folder, module),
        activations=read_activations(folder),
        classes=data.meta.classes,
        input_scales=data.meta.input_scales,
    )


def _samples(
    data: Data, split: Split, *, is_text: bool
) -> tuple[tuple[str, ...], tuple[npt.NDArray[Any], ...]]:
    """Return the first samples of a split, as the module's arguments, by name."""
    batch = next(iter(data.batches(split, 0, NUM_SAMPLES["text" if is_text else "other"])))
    if is_text:
        return ("tokens",), (np.ascontiguousarray(batch.tokens[:, :-1]),)
    names = tuple(role for role in (*INPUT_ROLES, *_PAIR_ROLES) if role in batch.arrays)
    arrays = [batch.arrays[name] for name in names]
    if names == _PAIR_ROLES:  # what the decoder reads is a step behind what it is to write
        arrays[1] = arrays[1][:, :-1]
    return names, tuple(map(np.ascontiguousarray, arrays))


def _without_data(source: Path, folder: Path) -> Original:
    """Return a language model, with the text that every machine has."""
    shape = None if is_ours(folder) else HFSpec.usual_shape({"path": str(folder)})
    module, spec = load(folder, shape)
    if not is_modelled(seen_by(spec)):
        raise RecipeError(
            f"{source} is a model without a run: its task and data must be said, for agreement is proven on real inputs.",
            hint=f"kleiber export {source} --recipe recipe.yaml --format onnx -o FOLDER",
        )
    tokenizer = open_tokenizer(str(folder))
    require_known_tokens(tokenizer, seen_by(spec).vocab_size, folder)
    context = seen_by(spec).context or 1
    return Original(
        typed=str(source),
        folder=folder,
        module=module.eval().requires_grad_(requires_grad=False),
        spec=spec,
        inputs=(_library_tokens(tokenizer, context),),
        input_names=("tokens",),
        inputs_from="modules of this Python's own library",
        tokenizer=tokenizer,
        forms=read_forms(folder, module),
        activations=read_activations(folder),
    )


def _library_tokens(tokenizer: TextTokenizer, context: int) -> npt.NDArray[np.int64]:
    """Return the beginnings of some modules of the standard library, as many tokens of each as the context has, [B, T]."""
    files, rows = stdlib_files(), []
    for name in files.names:
        text = (files.root / name).read_text(encoding="utf-8", errors="replace")
        ids = tokenizer.backend.encode(text[: 16 * context], add_special_tokens=False).ids
        if len(ids) >= context:
            rows.append(ids[:context])
        if len(rows) == NUM_SAMPLES["text"]:
            break
    return np.array(rows, np.int64)


def _tokenizer(folder: Path, num_known: int | None) -> TextTokenizer | None:
    if not holds_tokenizer(folder):
        return None
    is_saved = (folder / "tokenizer.json").is_file()
    tokenizer = saved_tokenizer(folder) if is_saved else open_tokenizer(str(folder))
    require_known_tokens(tokenizer, num_known, folder)
    return tokenizer
