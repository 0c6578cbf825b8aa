"""What a person typed after `kleiber plan`, opened: a model that can say what it costs, and how it will be used."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kleiber.cost import VAL_SEQUENCES
from kleiber.cost.flops import FlopConvention
from kleiber.cost.optimizers import optimizer_of
from kleiber.cost.usage import OptimizerName, Precision, Usage
from kleiber.errors import RecipeError, UsageError
from kleiber.models import FAMILIES, resolve_spec, shape_of
from kleiber.models.gpt import GPTSpec
from kleiber.runs import Recipe, RunFolder, read_recipe
from kleiber.study.job import MAX_STEPS, Job
from kleiber.study.measured_step import SubjectArguments
from kleiber.study.model_cost import CostedModel, costed_family, costed_subject
from kleiber.study.place import Place
from kleiber.study.planned_data import as_typed, of_data, size_recipe

__all__ = ["Asked", "Planned", "default_usage", "open_planned", "shorthand"]

_TOKENS_A_DEVICE = 32_768
"""A default batch keeps an accelerator busy with so many."""
_SAMPLES_A_DEVICE = 256
"""The same of images and the like."""
_MAX_BATCH = 10**9
"""Of `Usage`."""


@dataclass(frozen=True)
class Asked:
    """What was typed; None is what was left out."""

    text: str
    inputs: tuple[str, ...] = ()
    init: str | None = None
    loss: str | None = None
    mode: Literal["train", "infer"] = "train"
    batch_size: int | None = None
    context: int | None = None
    vocab_size: int | None = None
    optimizer: OptimizerName | None = None
    precision: Precision | None = None
    accumulation: int | None = None
    is_checkpointed: bool = False
    convention: FlopConvention = "causal"
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """A model, how it is used, and how to open it again where it is measured or drawn."""

    model: CostedModel
    usage: Usage
    job: Job
    """As the recipe says; empty of what is no recipe."""
    recipe: Recipe | None
    """Of a built-in family."""
    arguments: SubjectArguments


def open_planned(asked: Asked, place: Place, job: Job) -> Planned:
    """Return what `asked` names.

    Args:
        asked: A size or recipe of a built-in family, a run's folder, a transformers config, a class in a file.
        place: Where it will run: the precision and the batch that are not asked for depend on it.
        job: How long it is; empty takes the recipe's steps.

    Raises:
        RecipeError: It names no model, or an option does not suit it.
    """
    if not asked.text.strip():
        raise UsageError("MODEL must not be empty.", hint="kleiber plan gpt:depth=12")
    run = RunFolder(Path(asked.text))
    if run.recipe_path.is_file():
        asked = replace(asked, text=str(run.recipe_path))
    if _is_recipe(asked.text) or asked.text.partition(":")[0] in FAMILIES:
        return _open_family(asked, place, job)
    for option, value in (("--vocab-size", asked.vocab_size), ("--set", " ".join(asked.sets) or None)):
        if value is not None:
            raise UsageError(
                f"{option} is for recipes and sizes of built-in families; {asked.text} says its own.",
                got=value,
                hint="kleiber plan gpt:depth=12 --vocab-size 50257",
            )
    return _open_subject(asked, place, job)


def _is_recipe(text: str) -> bool:
    """Return whether a file is one of ours and not a config of transformers."""
    path = Path(text)
    if path.suffix in {".yaml", ".yml"}:
        return True
    if path.suffix != ".json" or not path.is_file():
        return False
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(raw, dict) and bool(raw.keys() & Recipe.model_fields.keys()) and "model_type" not in raw


def _open_family(asked: Asked, place: Place, job: Job) -> Planned:
    for option, value in (("--init", asked.init), ("--loss", asked.loss)):
        if value is not None:
            raise UsageError(
                f"{option} is for a class in a file; a family knows what it takes.",
                got=value,
                hint="--context 512 --batch 8",
            )
    recipe = _planned_recipe(asked)
    spec = resolve_spec(recipe)
    usage = _recipe_usage(asked, place, recipe)
    has_validation = usage.mode == "train" and place.is_here
    model = costed_family(
        asked.text,
        spec,
        batch_size=usage.batch_size,
        convention=asked.convention,
        val_batch=min(VAL_SEQUENCES, recipe.data.val_tokens // recipe.data.context) if has_validation else 0,
        task=recipe.task.name,
        is_here=place.is_here,
    )
    arguments = SubjectArguments(asked.text, mode=asked.mode, spec=spec, task=recipe.task.name)
    has_length = usage.mode == "train" and job == Job() and recipe.train.num_steps < MAX_STEPS
    steps = Job(steps=recipe.train.num_steps) if has_length else job
    return Planned(model, usage, steps, recipe, arguments)


def _planned_recipe(asked: Asked) -> Recipe:
    """Return the recipe that was typed, with what its data looks like."""
    late = [text for text in asked.sets if text.startswith("data.shape.")]
    early = [text for text in asked.sets if text not in late]
    if not _is_recipe(asked.text):
        recipe = size_recipe(asked.text, asked.inputs).with_values(early)
    else:
        recipe = _with_donor(read_recipe(Path(asked.text)).with_values(early))
        shape = as_typed(asked.inputs, shape_of(recipe))
        recipe = recipe.with_shape(shape) if asked.inputs else of_data(recipe)
    for key, option, value in (
        ("context", "--context", asked.context),
        ("vocab_size", "--vocab-size", asked.vocab_size),
    ):
        if value is None:
            continue
        seen = recipe.data.shape
        if seen is not None and getattr(seen, key) is None:
            raise UsageError(
                f"{option} is for text, and {asked.text} reads {seen.inputs}.",
                got=value,
                hint="--input 3x32x32",
            )
        late.insert(0, f"data.{key}={value}" if seen is None else f"data.shape.{key}={value}")
    return recipe.with_values(late)


def _with_donor(recipe: Recipe) -> Recipe:
    """Return a recipe that goes on from a model with that model."""
    if recipe.recover is None:
        return recipe
    from kleiber.train.recover.filled import with_donor  # noqa: PLC0415 - imports torch, which others are planned without

    return with_donor(recipe)


def default_usage(asked: Asked, place: Place, *, context: int) -> Usage:
    """Return how a built-in family is used when its size is still open: as a recipe's defaults and `asked` say.

    Args:
        asked: What was typed.
        place: Where.
        context: Tokens of a sequence.
    """
    return _recipe_usage(asked, place, Recipe().with_values([f"data.context={context}", *asked.sets]))


def _recipe_usage(asked: Asked, place: Place, recipe: Recipe) -> Usage:
    train = recipe.train
    has_batch = _is_recipe(asked.text) or place.is_here or any("batch_size" in text for text in asked.sets)
    batch = train.batch_size if has_batch else _busy_batch(place, recipe.tokens_per_sample)
    return _usage(asked, place, batch, train.accumulation, optimizer_of(train.optimizer))


def shorthand(spec: GPTSpec) -> str:
    """Return the size that is this very spec: depth and width, and what does not follow from them.

    Example:
        >>> shorthand(GPTSpec.from_dial({"depth": 2, "head_dim": 16}, vocab_size=1024, context=128))
        'gpt:depth=2,width=128,num_heads=8,num_kv_heads=8,head_dim=16'
    """
    raw = spec.model_dump(mode="json", exclude={"family", "vocab_size", "context"})
    dial = {"depth": spec.depth, "width": spec.width}
    usual = GPTSpec.from_dial(dial, spec.vocab_size, spec.context).model_dump(mode="json")
    size = dial | {key: value for key, value in raw.items() if usual[key] != value}
    return f"{spec.family}:" + ",".join(f"{key}={json.dumps(value)}" for key, value in size.items())


def _open_subject(asked: Asked, place: Place, job: Job) -> Planned:
    arguments = SubjectArguments(
        text=asked.text,
        inputs=asked.inputs,
        init=asked.init,
        batch_size=asked.batch_size,
        context=asked.context,
        mode=asked.mode,
        loss=asked.loss,
    )
    model = costed_subject(arguments.open(), convention=asked.convention, is_here=place.is_here)
    usage = _usage(asked, place, model.batch_size, 1, "adamw")
    return Planned(model, usage, job, None, arguments)


def _usage(asked: Asked, place: Place, batch: int, accumulation: int, optimizer: OptimizerName) -> Usage:
    if asked.mode == "infer":
        for option, value in (
            ("--optimizer", asked.optimizer),
            ("--accumulation", asked.accumulation),
            ("--checkpointing", asked.is_checkpointed or None),
        ):
            if value is not None:
                raise UsageError(f"{option} is for training.", got="--mode infer", hint="--mode infer")
        accumulation = 1
    return Usage(
        mode=asked.mode,
        batch_size=asked.batch_size or batch,
        accumulation=asked.accumulation or accumulation,
        optimizer=asked.optimizer or optimizer,
        precision=asked.precision or _precision(place),
        is_checkpointed=asked.is_checkpointed,
    )


def _busy_batch(place: Place, tokens_per_sample: int) -> int:
    samples = _SAMPLES_A_DEVICE if tokens_per_sample == 1 else max(1, _TOKENS_A_DEVICE // tokens_per_sample)
    return min(_MAX_BATCH, place.num_devices * samples)


def _precision(place: Place) -> Precision:
    """Return what the device's products are fastest in, of what training takes."""
    if place.is_here:
        return "fp32"
    peaks = place.device.peak_flops_per_s
    known: tuple[Precision, ...] = ("bf16", "fp16", "fp32")
    for precision in known:
        if precision in peaks:
            return precision
    raise RecipeError(f"{place.device.name} has no rate for training.", hint="--peak-flops-per-s 3e14")
