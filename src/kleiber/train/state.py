"""Everything that a training run carries from step to step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kleiber.errors import CheckpointError
from kleiber.models import Spec, build
from kleiber.models.family import FamilyModule
from kleiber.models.stored import Forms
from kleiber.runs import Recipe, hash_of
from kleiber.train.checkpoint import Checkpoint, Counters
from kleiber.train.ema import Ema
from kleiber.train.guards import Guard, GuardState
from kleiber.train.optimizer import Optimizer
from kleiber.train.parametrization import optimizer_at_horizon, scale_weights_, scales_of
from kleiber.train.recover.kept_structure import KeptStructure

__all__ = ["TrainState"]


@dataclass
class TrainState:
    """The module, its optimizer and where the run stands."""

    module: FamilyModule
    optimizer: Optimizer
    guard: Guard
    ema: Ema | None = None
    """A running mean of the weights, which is what is validated and saved."""
    best: dict[str, Tensor] | None = None
    """Weights and buffers of the best validation so far; kept where patience may go back to them."""
    step: int = 0
    """Optimizer steps done."""
    cursor: int = 0
    """Training samples consumed."""
    elapsed_s: float = 0.0
    """Wall clock of the run before this process took it up."""
    peak_memory_bytes: int = 0

    @classmethod
    def start(cls, recipe: Recipe, spec: Spec, module: FamilyModule | None = None) -> TrainState:
        """Return the state before the first step.

        Args:
            recipe: Of the run.
            spec: Of its model.
            module: What it goes on from; None is one with random weights.
        """
        train = recipe.train
        torch.manual_seed(train.seed)
        is_fresh = module is None
        module = build(spec, seed=train.seed) if module is None else module
        groups, optimizer = module.param_groups(), optimizer_at_horizon(recipe)
        scales = scales_of(module, groups, train.parametrization, optimizer)
        if is_fresh:
            scale_weights_(module, scales)
        return cls(
            module,
            Optimizer(module, groups, optimizer, scales),
            Guard(train.stop, GuardState()),
            Ema(module, train.ema_decay) if train.ema_decay else None,
        )

    @contextlib.contextmanager
    def averaged(self) -> Iterator[FamilyModule]:
        """Lend the module with the running mean of its weights, where there is one, and with its structure in its weights."""
        with self.ema.applied() if self.ema else contextlib.nullcontext():
            yield self.module.merged() if isinstance(self.module, KeptStructure) else self.module

    def keep_best(self) -> None:
        """Keep the module as it stands, inside `averaged`."""
        self.best = {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def take_result_(self) -> Forms:
        """Set the module to what the run has come to: its best weights where they are kept, else their mean.

        Returns:
            How its weights are stored; none of a module that started with random ones.
        """
        if self.best is not None:
            self.module.load_state_dict(self.best)
        elif self.ema is not None:
            self.ema.copy_to_module_()
        forms: Forms = {}
        if isinstance(self.module, KeptStructure):
            self.module, forms = self.module.finished()
        return forms

    def to_checkpoint(self, recipe: Recipe, corpus_hash: str) -> Checkpoint:
        """Return the state as tensors and counters; the tensors are the state itself."""
        parts = {
            "weights": self.module.state_dict(),
            "optimizer": self.optimizer.tensors(),
            "ema": self.ema.tensors() if self.ema else {},
            "best": self.best or {},
        }
        tensors = {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
        counters = Counters(
            step=self.step,
            cursor=self.cursor,
            elapsed_s=self.elapsed_s,
            peak_memory_bytes=self.peak_memory_bytes,
            num_threads=torch.get_num_threads(),
            recipe_hash=hash_of(recipe),
            corpus_hash=corpus_hash,
            guard=self.guard.state,
        )
        return Checkpoint(counters, tensors | {"rng": torch.get_rng_state()})

    def load_(self, checkpoint: Checkpoint) -> None:
        """Set module, optimizer, guard and RNG to what a checkpoint holds.

        Raises:
            CheckpointError: It is of another model or optimizer.
        """
        parts: dict[str, dict[str, Tensor]] = {
            part: {} for part in ("weights", "optimizer", "ema", "best", "rng")
        }
        for name, tensor in checkpoint.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        try:
            self.module.load_state_dict(parts["weights"])
            self.optimizer.load_tensors_(parts["optimizer"])
            if self.ema is not None:
                self.ema.load_tensors_(parts["ema"])
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint at step {checkpoint.counters.step} is of another model: {str(error).splitlines()[0]}"
            ) from None
        self.best = parts["best"] or None
        torch.set_rng_state(parts["rng"][""])
        self.step, self.cursor = checkpoint.counters.step, checkpoint.counters.cursor
        self.guard.state = checkpoint.counters.guard
