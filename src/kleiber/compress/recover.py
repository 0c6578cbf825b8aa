"""The step `recover`: retraining, with the structure that the steps before made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from kleiber.compress.calibration import Calibration
from kleiber.compress.subject import Subject
from kleiber.data import save_tokenizer
from kleiber.data.given_tokenizer import open_tokenizer
from kleiber.errors import RecipeError
from kleiber.infer.decoding import open_decoder
from kleiber.infer.sampled_text import sampled_text
from kleiber.models import load, save
from kleiber.models.hf.spec import HFSpec
from kleiber.models.stored import read_forms, write_forms
from kleiber.runs import (
    DataRecipe,
    Document,
    OptimizerRecipe,
    Recipe,
    RecoverRecipe,
    ScheduleRecipe,
    TrainRecipe,
)
from kleiber.runs.recover_recipe import DivergenceName
from kleiber.train import Progress, train
from kleiber.train.recover.donor import Donor

__all__ = ["Recover"]

_USUAL_FRAC = 0.05
_RATE_FRAC, _CUT_RATE_FRAC = 0.3, 1.0
"""Of the original's peak rates: where all units are still there it need not find its way anew, where some were cut out it must
(docs/log.md has both at both)."""
_WARM_UP, _CHECKPOINTS, _VALIDATIONS, _LOGS = 10, 10, 4, 40
"""Parts of all steps: of warm-up, between checkpoints, validations and logs."""
_ORIGINAL = "original"


class Recover(Document):
    """Trains a model on, its zeros, codes, factors and sizes as they are, from the model that came in at first.

    The length is one of `frac`, `tokens` and `steps`; without any, a twentieth of what the original was trained on.
    """

    help_line = "recover:frac=0.05   recover:steps=500,lr=0.001   recover:teacher=null   recover:lora_rank=8"

    name: Literal["recover"] = "recover"
    frac: float | None = Field(default=None, gt=0, le=1)
    """Of the tokens that the recipe of the original trains on; samples where a sample is the unit."""
    tokens: float | None = Field(default=None, ge=1)
    """Tokens; samples where a sample is the unit."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps."""
    batch_size: int | None = Field(default=None, ge=1)
    """Samples a step; None is as many as the original had. Fewer are more steps on the same tokens."""
    lr: float | None = Field(default=None, gt=0, lt=10)
    """Peak learning rate; that of the matrices keeps its ratio to it. None is the original's where units were cut out, else
    0.3 times that."""
    teacher: str | None = Field(default=_ORIGINAL, min_length=1)
    """The `original`, or the folder of another model; None learns from the data alone."""
    is_data_free: bool = Field(default=False, strict=True)
    """Whether it learns from texts that the teacher writes, in place of the data."""
    keeps_zeros: bool = Field(default=True, strict=True)
    """Whether zeros of quantized weights stay zero; false brings more where they were not pruned before."""
    lora_rank: int | None = Field(default=None, ge=1)
    """Only so many directions of each matrix are trained and merged at the end; None trains all."""
    lora_alpha: float = Field(default=16.0, gt=0)
    teacher_weight: float = Field(default=1.0, gt=0, le=1)
    """Of the divergence from the teacher; the rest is the task's own loss."""
    divergence: DivergenceName = "forward"
    skew: float = Field(default=0.1, gt=0, lt=1)
    temperature: float = Field(default=1.0, gt=0, le=100)
    feature_weight: float = Field(default=0.0, ge=0)
    attention_weight: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        lengths = {key: getattr(self, key) for key in ("frac", "tokens", "steps")}
        if len(given := {key: value for key, value in lengths.items() if value is not None}) > 1:
            raise ValueError(f"takes one of frac, tokens and steps, got {given}")
        if self.is_data_free and self.teacher is None:
            raise ValueError("is_data_free needs a teacher that writes, got null")
        self._settings("model", self.teacher)
        return self

    def apply(
        self,
        subject: Subject,
        calibration: Calibration,
        *,
        folder: Path | None = None,
        original: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Subject:
        """Return the model after its training, which goes on where an earlier one in the folder was cut off.

        Args:
            subject: What is recovered.
            calibration: Left aside: it learns from the whole training split.
            folder: Where it trains: `donor`, `train`, and `samples.jsonl` of one that is data-free.
            original: Folder of the model that came in at first, a run's or one with a `config.json`.
            on_progress: Called at every log step.

        Raises:
            RecipeError: There is no folder to train in, no original to learn from, or model and teacher do not go together.
            Interrupted: After a checkpoint.
        """
        del calibration
        if folder is None:
            raise RecipeError(
                "recover trains, and needs a folder to keep its checkpoints in.", hint="-o FOLDER"
            )
        _write_donor(subject, folder / "donor")
        recipe = self._recipe(subject, folder, self._teacher(original))
        said: list[str] = []
        record = train(recipe, folder / "train", on_progress=on_progress, on_notice=said.append)
        module, _ = load(folder / "train" / "model")
        said += _ranges_say(subject)
        return dataclasses.replace(
            subject,
            module=module.eval(),
            forms=read_forms(folder / "train" / "model", module),
            is_cut=False,
            notes=tuple(dict.fromkeys((*subject.notes, *said, _says(record.recipe)))),
        )

    @property
    def learns_from_original(self) -> bool:
        """Whether its teacher is the model that came in at first."""
        return self.teacher == _ORIGINAL

    def _teacher(self, original: Path | None) -> str | None:
        if not self.learns_from_original:
            return self.teacher
        if original is None:
            raise RecipeError(
                "recover learns from the original, and no folder of it is known.",
                hint="recover:teacher=FOLDER   or recover:teacher=null   learns from the data alone",
            )
        return str(original)

    def _settings(self, model: str, teacher: str | None) -> RecoverRecipe:
        keys = RecoverRecipe.model_fields.keys() & type(self).model_fields.keys() - {"teacher"}
        same = {key: getattr(self, key) for key in keys}
        return RecoverRecipe(model=model, teacher=teacher, **same)

    def _recipe(self, subject: Subject, folder: Path, teacher: str | None) -> Recipe:
        """Return the run: the original's, shorter, without its limits, its rate falling to 0 in a line."""
        asked = self._with_batch(subject.recipe)
        num_steps = self._num_steps(asked)
        data = asked.data
        if self.is_data_free:
            data = _sampled_data(subject, folder, teacher or "", num_steps * asked.tokens_per_step)
        return Recipe(
            task=asked.task,
            data=data,
            train=_train_recipe(asked.train, num_steps, self._rate_frac(asked.train, is_cut=subject.is_cut)),
            parallel=asked.parallel,
            recover=self._settings(str(folder / "donor"), teacher),
        )

    def _rate_frac(self, train: TrainRecipe, *, is_cut: bool) -> float:
        """Return the peak rate over the original's."""
        if self.lr is not None:
            return self.lr / train.optimizer.lr
        return _CUT_RATE_FRAC if is_cut else _RATE_FRAC

    def num_tokens(self, recipe: Recipe) -> int:
        """Return what it trains on after a run of this recipe; samples where a sample is the unit."""
        recipe = self._with_batch(recipe)
        return self._num_steps(recipe) * recipe.tokens_per_step

    def _with_batch(self, recipe: Recipe) -> Recipe:
        """Return the original's recipe with the tokens that it has, in batches of this step's."""
        if self.batch_size is None:
            return recipe
        num_steps = max(1, round(recipe.train.num_steps * recipe.train.batch_size / self.batch_size))
        changed = {
            "batch_size": self.batch_size,
            "is_full_batch": False,
            "accumulation": 1,
            "num_steps": num_steps,
        }
        return recipe.model_copy(update={"train": recipe.train.model_copy(update=changed)})

    def _num_steps(self, recipe: Recipe) -> int:
        if self.steps is not None:
            return self.steps
        tokens = self.tokens or (self.frac or _USUAL_FRAC) * recipe.num_tokens
        return max(1, round(tokens / recipe.tokens_per_step))


def _train_recipe(train: TrainRecipe, num_steps: int, rate_frac: float) -> TrainRecipe:
    """Return the loop of a recovery."""
    optimizer = train.optimizer
    rates = {"lr": rate_frac * optimizer.lr, "matrix_lr": rate_frac * optimizer.matrix_lr}
    kept = ("batch_size", "is_full_batch", "accumulation", "clip_norm", "ema_decay", "seed")
    return TrainRecipe(
        **{key: getattr(train, key) for key in kept},
        num_steps=num_steps,
        optimizer=OptimizerRecipe.model_validate({**optimizer.model_dump(), **rates}),
        schedule=ScheduleRecipe(name="linear", warmup_steps=num_steps // _WARM_UP),
        log_every=max(1, num_steps // _LOGS),
        val_every=max(1, num_steps // _VALIDATIONS),
        checkpoint_every=max(1, num_steps // _CHECKPOINTS),
        keep_checkpoints=1,
    )


def _sampled_data(subject: Subject, folder: Path, teacher: str, num_tokens: int) -> DataRecipe:
    """Return data of texts that the teacher writes, which are written where there are none yet."""
    if subject.recipe.task.name != "lm":
        raise RecipeError(
            "recover: only a model of text writes what another can learn from.",
            got=subject.recipe.task.name,
            hint="recover:is_data_free=false",
        )
    donor = Donor("recover.teacher", teacher)
    module, _ = donor.load(subject.data.meta.shape)
    tokenizer, path = open_tokenizer(str(donor.folder)), folder / "samples.jsonl"
    sampled_text(open_decoder("torch", module), tokenizer, path, num_tokens, seed=subject.data.seed)
    asked = subject.recipe.data
    return DataRecipe(
        source=f"text:{path}",
        field="text",
        tokenizer=str(donor.folder),
        context=asked.context,
        val_frac=asked.val_frac,
        val_tokens=asked.val_tokens,
    )


def _write_donor(subject: Subject, folder: Path) -> None:
    """Write what training goes on from; without a tokenizer, for the data are those that the model was trained on."""
    save(subject.module, subject.spec, folder)
    write_forms(folder, subject.module, subject.forms)
    if isinstance(subject.spec, HFSpec):  # whose data are read by the tokenizer beside it
        save_tokenizer(subject.data, folder)


def _ranges_say(subject: Subject) -> list[str]:
    if not subject.activations.input_ranges:
        return []
    return ["Ranges of inputs are those from before the recovery: quantize after it where that matters."]


def _says(recipe: Recipe) -> str:
    recover = recipe.recover
    source = "" if recover is None or recover.teacher is None else f" from {recover.teacher}"
    return f"Recovered on {recipe.num_tokens:,} {recipe.unit}s of '{recipe.data.source}'{source}."
