"""What a recipe asks for must go together with its data and its model before a run begins."""

from __future__ import annotations

from kleiber.errors import RecipeError
from kleiber.models import Spec
from kleiber.models.seen_data import is_modelled, seen_by
from kleiber.models.weight_layers import LayeredSpec
from kleiber.runs import DataMeta, Recipe

__all__ = ["check_batches", "check_models_text"]


def check_models_text(recipe: Recipe, spec: Spec) -> None:
    """Refuse language modelling with a model that predicts no tokens.

    Raises:
        RecipeError: The task is lm, and the family has classes or values to predict.
    """
    if recipe.task.name == "lm" and not is_modelled(seen_by(spec)):
        raise RecipeError(
            f"the task lm predicts the next token of a text, and {spec.family} does not.",
            got=recipe.model.family,
            hint="--set model.family=gpt   or --set task.name=classification --set data.source=digits",
        )


def check_batches(recipe: Recipe, spec: Spec, meta: DataMeta) -> None:
    """Refuse batches that the training split cannot fill, or that are too small for what is done to them.

    Args:
        recipe: Its full batch, where it asks for one, is settled.
        spec: Of its model.
        meta: Of its data.

    Raises:
        RecipeError: A batch would hold a sample twice; or mixup, a contrast of pairs or the norm of a batch has one sample to
            work on.
    """
    train = recipe.train
    if recipe.unit == "sample" and train.batch_size > meta.num_train_tokens:
        raise RecipeError(
            f"train.batch_size must be at most the {meta.num_train_tokens:,} training samples of '{meta.source}': a step "
            "would take some of them twice.",
            got=train.batch_size,
            hint="--set train.is_full_batch=true   takes them all",
        )
    needs_two = _needs_two(recipe, spec)
    if train.batch_size == train.accumulation and needs_two:
        raise RecipeError(
            f"{needs_two} needs two samples or more in a micro-batch, and train.batch_size / train.accumulation is one.",
            got=f"{train.batch_size} / {train.accumulation}",
            hint="--set train.batch_size=64 --set train.accumulation=1",
        )


def _needs_two(recipe: Recipe, spec: Spec) -> str | None:
    """Return what has nothing to work on in a single sample."""
    if any(one.name == "mixup" for one in recipe.data.augment):
        return "mixup"
    if recipe.task.name == "contrastive":
        return "contrastive"
    is_normed = isinstance(spec, LayeredSpec) and spec.min_batch > 1
    return f"norm batch of {spec.family} that leaves one number a channel" if is_normed else None
