"""The training loop, as a recipe says it: optimizer, schedule, when to stop."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from kleiber.runs.document import Document
from kleiber.runs.parametrization_recipe import ParametrizationRecipe

__all__ = ["OptimizerRecipe", "ScheduleRecipe", "SequenceWarmup", "StopRecipe", "TrainRecipe"]

_USUAL_MOMENTUM = {"sgd": 0.9, "rmsprop": 0.0}

_OPTIMIZER_READS: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum",),
    "adagrad": ("eps",),
    "rmsprop": ("beta2", "eps", "momentum"),
    "adam": ("beta1", "beta2", "eps"),
    "adamw": ("beta1", "beta2", "eps", "is_cautious_decay"),
    "muon": ("beta1", "beta2", "eps", "momentum", "is_cautious_decay", "momentum_warmup_steps"),
}
"""Of the settings that not all optimizers have, those that each has."""

_SCHEDULE_READS: dict[str, tuple[str, ...]] = {
    "wsd": ("cooldown_frac", "cooldown_shape"),
    "constant": (),
    "step": ("milestones", "gamma"),
    "cosine": ("final_frac",),
    "linear": ("final_frac",),
}
"""The same of schedules."""


def _refuse_without_effect(document: Document, reads: Mapping[str, Collection[str]], name: str) -> None:
    """Raise if a setting that only others of a kind read is set to anything but its default."""
    for key in sorted({key for keys in reads.values() for key in keys}.difference(reads[name])):
        is_set = key in document.model_fields_set
        if is_set and getattr(document, key) != type(document).model_fields[key].default:
            raise ValueError(
                f"{key} has no effect on {name}, only on {', '.join(other for other in reads if key in reads[other])}; "
                f"got {getattr(document, key)}"
            )


def _without_defaults(document: Document, raw: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """Leave out keys at their defaults, so that recipes keep the hash they had before there were such keys."""
    defaults = {key: type(document).model_fields[key].default for key in keys}
    return {
        key: value for key, value in raw.items() if key not in keys or getattr(document, key) != defaults[key]
    }


class OptimizerRecipe(Document):
    """How a gradient becomes a step."""

    name: Literal["sgd", "adagrad", "rmsprop", "adam", "adamw", "muon"] = "adamw"
    """`muon` moves the hidden matrices and leaves embedding, head, norms and biases to AdamW."""
    lr: float = Field(default=0.01, gt=0, lt=10)
    """Peak learning rate of embedding, head, norms and biases."""
    matrix_lr: float = Field(default=0.003, gt=0, lt=10)
    """Peak learning rate of the hidden matrices; where `lr` is given and this is not, the same, but for muon: there it is about
    the root-mean-square of a step."""
    weight_decay: float = Field(default=0.0, ge=0, lt=10)
    """Of the hidden matrices, never of norms, biases and embeddings; decoupled in adamw and muon, added to the gradient in the others."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Adam's decay of the gradient's mean."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """Adam's and RMSprop's decay of the gradient's square."""
    eps: float = Field(default=1e-8, gt=0, lt=1)
    """Addition to the denominator of all but sgd."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Of sgd, rmsprop and muon; where it is not given 0.9 of sgd and 0 of rmsprop, as is usual."""
    is_nesterov: bool = False
    """Whether sgd looks ahead (Sutskever et al. 2013); muon always does."""
    is_cautious_decay: bool = Field(default=False, strict=True)
    """Whether decoupled weight decay reaches only the weights that the step moves towards 0 as well (Chen et al. 2025,
    arXiv:2510.12402)."""
    momentum_warmup_steps: int = Field(default=0, ge=0, le=10**9)
    """Steps over which muon's momentum rises from 0.85, or from less where it is less."""

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_defaults(self, handler(self), ("is_cautious_decay", "momentum_warmup_steps"))

    @model_validator(mode="after")
    def _filled_in(self) -> Self:
        is_open = "matrix_lr" not in self.model_fields_set and self.name != "muon"
        if is_open and ("lr" in self.model_fields_set or self.name != "adamw"):
            self.__dict__["matrix_lr"] = self.lr  # stays unset: it follows when `lr` is set anew
        if "momentum" not in self.model_fields_set and self.name in _USUAL_MOMENTUM:
            self.__dict__["momentum"] = _USUAL_MOMENTUM[self.name]
        _refuse_without_effect(self, _OPTIMIZER_READS, self.name)
        if self.is_nesterov and (self.name != "sgd" or not self.momentum):
            raise ValueError(
                f"is_nesterov is for sgd with a momentum above 0, got {self.name} with {self.momentum:g}"
            )
        return self


class ScheduleRecipe(Document):
    """The learning rate over a run: a warm-up, then one of five shapes."""

    name: Literal["wsd", "constant", "step", "cosine", "linear"] = "wsd"
    """`wsd`: warm-up, stable, cool-down."""
    warmup_steps: int = Field(default=50, ge=0)
    cooldown_frac: float = Field(default=0.2, ge=0, le=1)
    """Of wsd: part of all steps in which the rate falls to 0; 0 makes a trunk."""
    cooldown_shape: Literal["linear", "1-sqrt"] = "1-sqrt"
    """Of wsd: shape of the fall (Hägele et al. 2024, arXiv:2405.18392)."""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Of step: parts of all steps at which the rate is multiplied by `gamma`."""
    gamma: float = Field(default=0.1, gt=0, lt=1)
    final_frac: float = Field(default=0.0, ge=0, lt=1)
    """Of cosine and linear: where the rate ends, as a fraction of its peak."""

    @model_validator(mode="after")
    def _suits(self) -> Self:
        if list(self.milestones) != sorted({part for part in self.milestones if 0 < part < 1}):
            raise ValueError(f"milestones must rise between 0 and 1, got {list(self.milestones)}")
        _refuse_without_effect(self, _SCHEDULE_READS, self.name)
        return self

    def cooldown_start(self, num_steps: int) -> int:
        """Return the first step of the cool-down: what a branch of this horizon starts from.

        Example:
            >>> ScheduleRecipe(cooldown_frac=0.2).cooldown_start(1000)
            800
        """
        return num_steps - round(num_steps * self.cooldown_frac)


class StopRecipe(Document):
    """When a run ends before `num_steps`; the first that is met ends it.

    Tokens, epochs, FLOPs and money are known beforehand: they shorten the schedule. Seconds, a loss and patience are not:
    the run stops where it stands.
    """

    tokens: float | None = Field(default=None, gt=0)
    """Tokens trained on; samples where a sample is the unit."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the training split."""
    flops: float | None = Field(default=None, gt=0)
    """Of training, by the plan [FLOP]."""
    usd: float | None = Field(default=None, gt=0)
    """By the plan's time and `usd_per_hour`."""
    usd_per_hour: float | None = Field(default=None, gt=0)
    """Price of this machine."""
    seconds: float | None = Field(default=None, gt=0)
    """Wall clock."""
    loss: float | None = None
    """Validation loss at or below which the run ends."""
    patience: int | None = Field(default=None, ge=1)
    """Validations without a better loss; the best weights are the result."""

    @model_validator(mode="after")
    def _suits(self) -> Self:
        if self.usd_per_hour is not None and self.usd is None:
            raise ValueError(f"usd_per_hour has no effect without usd, got {self.usd_per_hour:g}")
        return self

    @property
    def is_countable(self) -> bool:
        """Whether something known beforehand ends the run."""
        return any(limit is not None for limit in (self.tokens, self.epochs, self.flops, self.usd))


class SequenceWarmup(Document):
    """Short sequences first: the same tokens a step in more and shorter pieces, which a later piece does not look back into."""

    context: int = Field(ge=1, le=1_048_576)
    """Tokens of a piece at first; `data.context` is this many, doubled a number of times."""
    steps: int = Field(ge=1, le=10**9)
    """Steps until pieces are whole sequences; every length between has as many."""

    def context_of_step(self, step: int, context: int) -> int:
        """Return the tokens of a step's pieces.

        Args:
            step: Number of the step, from 0.
            context: Of whole sequences.

        Example:
            >>> warmup = SequenceWarmup(context=64, steps=4)
            >>> [warmup.context_of_step(step, 256) for step in range(5)]
            [64, 64, 128, 128, 256]
        """
        if step >= self.steps:
            return context
        num_lengths = (context // self.context).bit_length() - 1
        return self.context << step * num_lengths // self.steps

    def steps_by_context(self, num_steps: int, context: int) -> dict[int, int]:
        """Return how many of a run's steps have pieces of each length.

        Example:
            >>> SequenceWarmup(context=64, steps=5).steps_by_context(8, 256)
            {64: 3, 128: 2, 256: 3}
        """
        num_lengths = (context // self.context).bit_length() - 1
        # The first step of each length: the least whose share of the warm-up is that of the length.
        firsts = [-(-index * self.steps // num_lengths) for index in range(num_lengths)] + [self.steps]
        ends = [min(first, num_steps) for first in (*firsts[1:], num_steps)]
        lengths = [self.context << index for index in range(num_lengths + 1)]
        return {
            length: end - first
            for length, first, end in zip(lengths, firsts, ends, strict=True)
            if end > first
        }


_MAX_STEPS = 10**9


class TrainRecipe(Document):
    """The loop."""

    num_steps: int = Field(default=1000, ge=1, le=_MAX_STEPS)
    """Optimizer steps; as many as `stop` allows where it is not given and `stop` counts tokens, epochs, FLOPs or money."""
    batch_size: int = Field(default=4, ge=1, le=10**6)
    """Sequences or samples an optimizer step, over all accumulated micro-batches."""
    is_full_batch: bool = False
    """Whether a step takes the whole training split; `batch_size` is resolved to it when the run starts."""
    accumulation: int = Field(default=1, ge=1, le=10**6)
    """Micro-batches an optimizer step; divides `batch_size`."""
    fits_memory: bool = False
    """Whether `accumulation` is raised when the run starts, until a micro-batch fits the free memory by the plan."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest global gradient norm; None does not clip."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Decay of a running mean of the weights, which is what is validated and saved; 0 is none."""
    compile: Literal["never", "auto", "always"] = "never"
    """Whether the module goes through `torch.compile`; `auto` probes whether that pays here."""
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    parametrization: ParametrizationRecipe = ParametrizationRecipe()
    sequence_warmup: SequenceWarmup | None = None
    """Of text that is modelled; None learns from whole sequences throughout."""
    stop: StopRecipe = StopRecipe()
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

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_defaults(self, handler(self), ("parametrization", "sequence_warmup"))

    @model_validator(mode="after")
    def _open_end(self) -> Self:
        if "num_steps" not in self.model_fields_set and self.stop.is_countable:
            self.__dict__["num_steps"] = _MAX_STEPS  # stays unset: it is settled when the run starts
        return self

    @model_validator(mode="after")
    def _has_rule(self) -> Self:
        rule, optimizer = self.parametrization.name, self.optimizer.name
        known = {
            "standard": (optimizer,),
            "mup_simple": ("adamw", "muon"),
            "completep": ("adamw", "muon", "sgd"),
        }
        if optimizer not in known[rule]:
            raise ValueError(
                f"parametrization.name {rule} has rules for {', '.join(known[rule])}, got optimizer.name {optimizer}"
            )
        return self

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        # A full batch is as large as the training split, which is known when the run starts.
        if not self.is_full_batch and self.batch_size % self.accumulation:
            raise ValueError(
                f"accumulation must divide batch_size {self.batch_size}, got {self.accumulation}"
            )
        return self

    @model_validator(mode="after")
    def _reached(self) -> Self:
        if beyond := [step for step in self.branch_steps if not 1 <= step <= self.num_steps]:
            raise ValueError(f"branch_steps must be steps of the run, 1 to {self.num_steps}, got {beyond[0]}")
        return self
