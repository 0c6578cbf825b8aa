"""Everything that a training run carries from step to step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kleiber.errors import CheckpointError
from kleiber.models import Spec, build
from kleiber.models.gpt.module import GPT
from kleiber.runs import Recipe, hash_of
from kleiber.train.checkpoint import Checkpoint, Counters
from kleiber.train.optimizer import Optimizer

__all__ = ["TrainState"]


@dataclass
class TrainState:
    """The module, its optimizer and where the run stands."""

    module: GPT
    optimizer: Optimizer
    step: int = 0
    """Optimizer steps done."""
    cursor: int = 0
    """Training sequences consumed."""
    elapsed_s: float = 0.0
    """Wall clock of the run before this process took it up."""
    peak_memory_bytes: int = 0

    @classmethod
    def start(cls, recipe: Recipe, spec: Spec) -> TrainState:
        """Return the state before the first step."""
        torch.manual_seed(recipe.train.seed)
        module = build(spec, seed=recipe.train.seed)
        return cls(module, Optimizer(module, module.param_groups(), recipe.train.optimizer))

    def to_checkpoint(self, recipe: Recipe, corpus_hash: str) -> Checkpoint:
        """Return the state as tensors and counters; the tensors are the state itself."""
        weights = {f"weights.{name}": value for name, value in self.module.state_dict().items()}
        optimizer = {f"optimizer.{name}": value for name, value in self.optimizer.tensors().items()}
        counters = Counters(
            step=self.step,
            cursor=self.cursor,
            elapsed_s=self.elapsed_s,
            peak_memory_bytes=self.peak_memory_bytes,
            num_threads=torch.get_num_threads(),
            recipe_hash=hash_of(recipe),
            corpus_hash=corpus_hash,
        )
        return Checkpoint(counters, weights | optimizer | {"rng": torch.get_rng_state()})

    def load_(self, checkpoint: Checkpoint) -> None:
        """Set module, optimizer and RNG to what a checkpoint holds.

        Raises:
            CheckpointError: It is of another model or optimizer.
        """
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "optimizer": {}, "rng": {}}
        for name, tensor in checkpoint.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        try:
            self.module.load_state_dict(parts["weights"])
            self.optimizer.load_tensors_(parts["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint at step {checkpoint.counters.step} is of another model: {str(error).splitlines()[0]}"
            ) from None
        torch.set_rng_state(parts["rng"][""])
        self.step, self.cursor = checkpoint.counters.step, checkpoint.counters.cursor
