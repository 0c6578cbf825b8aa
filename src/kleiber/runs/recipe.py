"""What to do: the recipe of one training run, every default written out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from kleiber.errors import RecipeError
from kleiber.runs.data_recipe import AugmentRecipe, DataRecipe
from kleiber.runs.data_shape import DataShape
from kleiber.runs.document import Document
from kleiber.runs.parametrization_recipe import ParametrizationRecipe
from kleiber.runs.presets import PresetName, with_preset
from kleiber.runs.recover_recipe import RecoverRecipe
from kleiber.runs.task_recipe import TaskName, TaskRecipe
from kleiber.runs.train_recipe import (
    OptimizerRecipe,
    ScheduleRecipe,
    SequenceWarmup,
    StopRecipe,
    TrainRecipe,
)

__all__ = [
    "AugmentRecipe",
    "DataRecipe",
    "ModelRecipe",
    "OptimizerRecipe",
    "ParallelRecipe",
    "ParametrizationRecipe",
    "Recipe",
    "RecoverRecipe",
    "ScheduleRecipe",
    "SequenceWarmup",
    "StopRecipe",
    "TaskName",
    "TaskRecipe",
    "TrainRecipe",
    "read_recipe",
]


class ModelRecipe(BaseModel):
    """The family and what its size dial is set to; the family checks the dial's keys."""

    model_config = ConfigDict(extra="allow", frozen=True)

    family: str = "gpt"
    """A name of `kleiber.models.FAMILIES`."""

    @property
    def size(self) -> dict[str, Any]:
        """The dial's keys, without the family."""
        return dict(self.model_extra or {})


class ParallelRecipe(Document):
    """Where it runs."""

    num_threads: int | None = Field(default=None, ge=1, le=4096)
    """CPU threads of the process; None takes all cores and is resolved when the run starts."""
    keeps_freed_memory: bool = Field(default=True, strict=True)
    """Whether the process keeps freed blocks for the next step: a fifth to a third faster on a CPU, and it holds 1.1 to
    1.5 times what its tensors take at their peak. Without, the peak is that of the tensors."""


class Recipe(Document):
    """One training run."""

    help_line = "kleiber schema recipe   says what a recipe takes"

    preset: PresetName | None = None
    """Fills what the recipe leaves open: `fast` trains a gpt in the least time that we know, `plain` as GPT-2 was. A recipe that
    was read has it filled in, and names none."""
    model: ModelRecipe = ModelRecipe()
    task: TaskRecipe = TaskRecipe()
    data: DataRecipe = DataRecipe()
    train: TrainRecipe = TrainRecipe()
    parallel: ParallelRecipe = ParallelRecipe()
    recover: RecoverRecipe | None = None
    """The model that training goes on from, and whom it learns from; None starts from random weights."""

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Left out where there is none, so that recipes keep the hash they had before there was such a key.
        raw: dict[str, Any] = handler(self)
        return {
            key: value for key, value in raw.items() if key not in {"recover", "preset"} or value is not None
        }

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, raw: Any) -> Any:
        # What is filled in is from then on as if it had been typed: the recipe says all by itself.
        return with_preset(raw) if isinstance(raw, dict) and raw.get("preset") is not None else raw

    @model_validator(mode="after")
    def _sequences(self) -> Self:
        warmup = self.train.sequence_warmup
        if warmup is None:
            return self
        ratio, rest = divmod(self.data.context, warmup.context)
        if self.unit != "token" or rest or ratio < 2 or ratio & (ratio - 1):
            raise ValueError(
                "sequence_warmup cuts the sequences of text that is modelled: data.context must be train.sequence_warmup.context "
                f"doubled once or more, got {self.data.context} and {warmup.context} in {self.task.name}"
            )
        return self

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.recover is not None and self.train.compile != "never":
            raise ValueError(
                "a model that is recovered is put together anew at every step, which torch.compile does not take: "
                f"train.compile must be never, got {self.train.compile}"
            )
        if self.recover is not None and self.train.parametrization.name != "standard":
            raise ValueError(
                "a model that is recovered keeps the weights it has, which no rule of fresh ones fits: "
                f"train.parametrization.name must be standard, got {self.train.parametrization.name}"
            )
        if self.task.name == "contrastive" and (self.train.accumulation > 1 or self.train.fits_memory):
            raise ValueError(
                "a contrastive loss compares all samples of a batch, which cannot be split: accumulation must be 1 and "
                f"fits_memory false, got {self.train.accumulation} and {self.train.fits_memory}"
            )
        return self

    @property
    def unit(self) -> Literal["token", "sample"]:
        """What is counted: tokens of text that is modelled, samples of all else."""
        return "token" if self.task.name == "lm" else "sample"

    @property
    def tokens_per_sample(self) -> int:
        """Tokens that a sample counts as: its sequence in language modelling, 1 where the sample itself is the unit."""
        return self.data.context if self.unit == "token" else 1

    @property
    def tokens_per_step(self) -> int:
        """Tokens an optimizer step; samples where a sample is the unit."""
        return self.train.batch_size * self.tokens_per_sample

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole run; samples where a sample is the unit."""
        return self.tokens_per_step * self.train.num_steps

    def with_shape(self, shape: DataShape | None) -> Recipe:
        """Return the recipe with what its data looks like; text that is modelled says so itself, if its tokenizer is trained.

        Args:
            shape: Of its data; None leaves the recipe as it is.
        """
        data = self.data
        if shape is None or (self.task.name == "lm" and shape.vocab_size == data.vocab_size):
            return self
        found: dict[str, Any] = {"shape": shape}
        if data.tokenizer is not None:
            found["vocab_size"] = shape.vocab_size
        return self.model_copy(update={"data": data.model_copy(update=found)})

    def with_whole_batch(self, num_train_tokens: int) -> Recipe:
        """Return the recipe with the training split as its batch, where it asks for that.

        Args:
            num_train_tokens: Of the split; samples where a sample is the unit.
        """
        if not self.train.is_full_batch:
            return self
        train = self.train.model_copy(update={"batch_size": num_train_tokens // self.tokens_per_sample})
        return self.model_copy(update={"train": train})

    def with_values(self, assignments: Sequence[str]) -> Recipe:
        """Return the recipe with `a.b=value` assignments applied; values are read as YAML.

        Raises:
            RecipeError: An assignment is malformed, names an unknown key or breaks a constraint.

        Example:
            >>> Recipe().with_values(["train.optimizer.lr=3e-4"]).train.optimizer.lr
            0.0003
        """
        return Recipe.of(
            assign(self.model_dump(mode="json", exclude_unset=True), assignments), "the recipe", RecipeError
        )


def assign(raw: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return nested keys and values with `a.b=value` assignments applied; values are read as YAML.

    Args:
        raw: Left as it is.
        assignments: As they stand after `--set`.

    Raises:
        RecipeError: An assignment is malformed, or a part of its key holds a value.

    Example:
        >>> assign({"train": {"seed": 0}}, ["train.seed=7", "model.depth=3"])
        {'train': {'seed': 7}, 'model': {'depth': 3}}
    """
    raw = copy.deepcopy(raw)
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key:
            raise RecipeError(
                "--set takes KEY=VALUE with a dotted key.", got=assignment, hint="--set train.num_steps=2000"
            )
        *parents, leaf = key.split(".")
        node = raw
        for part in parents:
            child = node.setdefault(part, {})
            if not isinstance(child, dict):
                raise RecipeError(f"--set {key}: '{part}' holds a value, not keys.", got=child)
            node = child
        node[leaf] = parse_scalar(text)
    return raw


def parse_scalar(text: str) -> Any:
    """Return the YAML value of `text`; `3e-4` is a number here, which YAML 1.1 reads as a string, and `csv:` is a text.

    Example:
        >>> parse_scalar("3e-4"), parse_scalar("true"), parse_scalar("null"), parse_scalar("abc"), parse_scalar("csv:")
        (0.0003, True, None, 'abc', 'csv:')
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, dict) and not text.lstrip().startswith("{"):
        return text  # a source with a colon and nothing, or a space, after it
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a YAML file.

    Raises:
        RecipeError: The file is missing, is not YAML, has an unknown key or breaks a constraint.
    """
    return Recipe.read(path, RecipeError)
