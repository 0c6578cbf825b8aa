"""What to do: the recipe of one training run, every default written out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from kleiber.errors import RecipeError
from kleiber.runs.document import Document

__all__ = [
    "DataRecipe",
    "ModelRecipe",
    "OptimizerRecipe",
    "ParallelRecipe",
    "Recipe",
    "ScheduleRecipe",
    "TaskRecipe",
    "TrainRecipe",
    "read_recipe",
]


class ModelRecipe(BaseModel):
    """The family and what its size dial is set to; the family checks the dial's keys."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    family: str = "gpt"
    """A name of `kleiber.models.FAMILIES`."""

    @property
    def size(self) -> dict[str, Any]:
        """The dial's keys, without the family."""
        return dict(self.model_extra or {})


class TaskRecipe(Document):
    """What is learnt."""

    name: Literal["lm"] = "lm"
    """`lm`: next-token prediction."""


class DataRecipe(Document):
    """What it is learnt from."""

    source: str = "stdlib"
    """`stdlib`, or `text:PATH` with a file or folder of UTF-8 text."""
    field: str | None = None
    """The text column of `.jsonl` and `.parquet` files."""
    vocab_size: int = Field(default=1024, ge=257, le=1_000_000)
    """Entries of the byte-level BPE tokenizer, trained on the train split."""
    context: int = Field(default=128, ge=2, le=1_048_576)
    """Tokens in a sequence."""
    val_frac: float = Field(default=0.05, gt=0, lt=0.5)
    """Fraction of the text held out, in whole groups of near-duplicates."""
    val_tokens: int = Field(default=65_536, ge=2, le=10**9)
    """Size of the fixed evaluation set; fewer when the held-out text is smaller."""


class OptimizerRecipe(Document):
    """How a gradient becomes a step."""

    name: Literal["adamw", "muon"] = "adamw"
    """What moves the hidden matrices; embedding, head and norms are always AdamW's."""
    lr: float = Field(default=0.01, gt=0, lt=10)
    """Peak learning rate of embedding, head and norms."""
    matrix_lr: float = Field(default=0.003, gt=0, lt=10)
    """Peak learning rate of the hidden matrices: for either optimizer about the root-mean-square of a step."""
    weight_decay: float = Field(default=0.0, ge=0, lt=10)
    """Decoupled decay of the hidden matrices; never of norms and embeddings."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's decay of the gradient's mean."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """AdamW's decay of the gradient's square."""
    eps: float = Field(default=1e-8, gt=0, lt=1)
    """AdamW's addition to the denominator."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Muon's Nesterov momentum."""


class ScheduleRecipe(Document):
    """Warm-up, stable, cool-down."""

    warmup_steps: int = Field(default=50, ge=0)
    cooldown_frac: float = Field(default=0.2, ge=0, le=1)
    """Part of all steps in which the rate falls to 0; 0 makes a trunk."""
    cooldown_shape: Literal["linear", "1-sqrt"] = "1-sqrt"
    """Shape of the fall (Hägele et al. 2024, arXiv:2405.18392)."""

    def cooldown_start(self, num_steps: int) -> int:
        """Return the first step of the cool-down: what a branch of this horizon starts from.

        Example:
            >>> ScheduleRecipe(cooldown_frac=0.2).cooldown_start(1000)
            800
        """
        return num_steps - round(num_steps * self.cooldown_frac)


class TrainRecipe(Document):
    """The loop."""

    num_steps: int = Field(default=1000, ge=1, le=10**9)
    """Optimizer steps."""
    batch_size: int = Field(default=4, ge=1, le=10**6)
    """Sequences an optimizer step, over all accumulated micro-batches."""
    accumulation: int = Field(default=1, ge=1, le=10**6)
    """Micro-batches an optimizer step; divides `batch_size`."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest global gradient norm."""
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of initialization and data order."""
    log_every: int = Field(default=25, ge=1)
    val_every: int = Field(default=500, ge=1)
    """Steps between validations; the last step is always validated."""
    checkpoint_every: int = Field(default=500, ge=1)
    keep_checkpoints: int = Field(default=2, ge=1)
    """The newest checkpoints that stay on disk."""
    branch_steps: tuple[int, ...] = ()
    """Steps whose checkpoints stay for good: where branches leave a trunk."""

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"accumulation must divide batch_size {self.batch_size}, got {self.accumulation}"
            )
        return self


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

    model: ModelRecipe = ModelRecipe()
    task: TaskRecipe = TaskRecipe()
    data: DataRecipe = DataRecipe()
    train: TrainRecipe = TrainRecipe()
    parallel: ParallelRecipe = ParallelRecipe()

    @property
    def tokens_per_step(self) -> int:
        """Tokens an optimizer step."""
        return self.train.batch_size * self.data.context

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole run."""
        return self.tokens_per_step * self.train.num_steps

    def with_values(self, assignments: Sequence[str]) -> Recipe:
        """Return the recipe with `a.b=value` assignments applied; values are read as YAML.

        Raises:
            RecipeError: An assignment is malformed, names an unknown key or breaks a constraint.

        Example:
            >>> Recipe().with_values(["train.optimizer.lr=3e-4"]).train.optimizer.lr
            0.0003
        """
        return Recipe.of(assign(self.model_dump(mode="json"), assignments), "the recipe", RecipeError)


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
    """Return the YAML value of `text`; `3e-4` is a number here, which YAML 1.1 reads as a string.

    Example:
        >>> parse_scalar("3e-4"), parse_scalar("true"), parse_scalar("null"), parse_scalar("abc")
        (0.0003, True, None, 'abc')
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
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
