"""What of a recipe follows from the model that it goes on from."""

from __future__ import annotations

from typing import Any

from kleiber.data.given_tokenizer import holds_tokenizer
from kleiber.errors import RecipeError
from kleiber.models import Spec, is_ours, resolve_spec, size_of
from kleiber.models.file.named import name_asked
from kleiber.models.seen_data import seen_by
from kleiber.runs import DataShape, ModelRecipe, Recipe
from kleiber.train.recover.donor import Donor

__all__ = ["with_donor"]

_NOT_THE_TOKENIZERS = {"shape", "context", "val_tokens", "augment", "num_workers", "horizon"}
"""Keys of the data that a tokenizer trained on it does not depend on."""


def with_donor(recipe: Recipe) -> Recipe:
    """Return a recipe that recovers a model with what the model says: its size, its context, its tokenizer, its hash.

    The tokenizer stays open where the data are those of the model's own run: they give the same one again.

    Raises:
        RecipeError: There is no model or no teacher, its files have changed since a hash was taken, or the recipe asks for a
            model of another size.
        RunFolderError: It does not load.

    Example:
        >>> with_donor(Recipe()) == Recipe()
        True
    """
    recover = recipe.recover
    if recover is None:
        return recipe
    name_asked(recipe.model)
    donor = Donor("recover.model", recover.model)
    hashes: dict[str, Any] = {"model_hash": _same_hash(donor, recover.model_hash)}
    if recover.teacher is not None:
        teacher = Donor("recover.teacher", recover.teacher)
        hashes["teacher_hash"] = _same_hash(teacher, recover.teacher_hash)
    spec = donor.load(DataShape(inputs="tokens"))[1] if is_ours(donor.folder) else None
    if spec is None or spec.family == "hf":
        model = ModelRecipe.model_validate({"family": "hf", "path": str(donor.folder), "pretrained": True})
    else:
        model = ModelRecipe(**size_of(spec))
    if "model" in recipe.model_fields_set:
        _require_model(recipe, model, spec, donor)
        model = recipe.model
    data = recipe.data.model_copy(update=_of_data(recipe, spec, donor))
    return recipe.model_copy(
        update={"model": model, "data": data, "recover": recover.model_copy(update=hashes)}
    )


def _same_hash(donor: Donor, known: str | None) -> str:
    found = donor.hash
    if known not in (None, found):
        raise RecipeError(
            f"{donor.key} '{donor.typed}' has changed since the recipe was settled.",
            got=found,
            hint=f"--set {donor.key}_hash=null   takes it as it is now",
        )
    return found


def _require_model(recipe: Recipe, model: ModelRecipe, spec: Spec | None, donor: Donor) -> None:
    """Refuse a size that is not the model's own."""
    if recipe.model == model:
        return
    if recipe.model.family == model.family:
        asked = recipe if spec is None else recipe.with_shape(seen_by(spec))
        if resolve_spec(asked) == resolve_spec(asked.model_copy(update={"model": model})):
            return
    raise RecipeError(
        f"model asks for another size than {donor.key} '{donor.typed}' has; what it is follows from its folder.",
        got={"family": recipe.model.family, **recipe.model.size},
        hint="a recipe without the key model",
    )


def _of_data(recipe: Recipe, spec: Spec | None, donor: Donor) -> dict[str, Any]:
    """Return the keys of the data that the recipe leaves to the model."""
    data = recipe.data
    found: dict[str, Any] = {}
    context = None if spec is None else seen_by(spec).context
    if context is not None and "context" not in data.model_fields_set:
        found["context"] = context
    reads_text = recipe.task.name in ("lm", "seq2seq") or data.field is not None
    if reads_text and data.tokenizer is None and holds_tokenizer(donor.folder) and not _is_own(recipe, donor):
        found["tokenizer"] = str(donor.folder)
    return found


def _is_own(recipe: Recipe, donor: Donor) -> bool:
    """Return whether the data are those that the model was trained on, whose tokenizer is the model's."""
    if donor.run is None:
        return False
    own = donor.run.read_record().recipe.data
    return own.model_dump(exclude=_NOT_THE_TOKENIZERS) == recipe.data.model_dump(exclude=_NOT_THE_TOKENIZERS)
