"""Where a run starts: at step 0, at its own last checkpoint, or at a trunk's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from kleiber.data import Data
from kleiber.errors import CheckpointError, RecipeError
from kleiber.models import Spec
from kleiber.models.run_flops import run_flops
from kleiber.runs import (
    Lineage,
    Predicted,
    Recipe,
    Record,
    RunFolder,
    environment,
    hash_of,
    now,
)
from kleiber.train.checkpoint import START_AGAIN_HINT, Checkpoint, discard_after, read_checkpoint, read_newest
from kleiber.train.settle import as_settled
from kleiber.train.state import TrainState

__all__ = ["Branch", "open_record", "resolve", "take_up"]


@dataclass(frozen=True)
class Branch:
    """A trunk's checkpoint that a run starts from instead of step 0."""

    trunk: Path
    step: int

    def read(self) -> Checkpoint:
        """Return the checkpoint.

        Raises:
            CheckpointError: The trunk has none at this step, or it is corrupt.
        """
        try:
            return read_checkpoint(RunFolder(self.trunk).checkpoints_path / f"step-{self.step:08d}")
        except CheckpointError as error:
            raise CheckpointError(error.message, hint=self.retrain_hint) from None

    @property
    def retrain_hint(self) -> str:
        """What to type when the checkpoint is of no use."""
        return f"rm -r {self.trunk}   and run the same command again: the trunk is trained anew"


def resolve(recipe: Recipe, run: RunFolder) -> Recipe | None:
    """Return the recipe of the run that stands in the folder, if it is this one; None when none stands there.

    Raises:
        RecipeError: The folder holds a run of another recipe, or the recipe breaks a rule.
    """
    if not run.exists():
        return None
    record = run.read_record()
    if record.kind == "compress":
        raise RecipeError(
            f"{run.path} holds a compressed model, which was not trained there.",
            hint=f"another folder with -o; to train the model on: --set recover.model={run.path}",
        )
    known = record.recipe
    if as_settled(recipe, known, record.data, step_time_s=record.predicted.step_time_s) != known:
        raise RecipeError(
            f"{run.path} holds a run of another recipe.",
            hint="another folder with -o, or --fresh to start again",
        )
    return known


def open_record(
    recipe: Recipe,
    run: RunFolder,
    *,
    spec: Spec,
    data: Data,
    branch: Branch | None,
    predicted: Predicted | None,
) -> Record:
    """Write and return recipe and record of a run that starts or goes on.

    Raises:
        RecipeError: The data has changed since the run began.
    """
    previous = run.read_record() if run.exists() else None
    if previous and previous.data.corpus_hash != data.meta.corpus_hash:
        raise RecipeError(
            f"{run.path} was trained on other data; '{recipe.data.source}' has changed since.",
            hint="--fresh to start again",
        )
    record = Record(
        run=run.name,
        status="running",
        started_at=previous.started_at if previous else now(),
        recipe=recipe,
        recipe_hash=hash_of(recipe),
        seed=recipe.train.seed,
        environment=environment(torch.get_num_threads()),
        data=data.meta,
        num_params=spec.count(),
        train_flops=run_flops(recipe, spec),
        flops_convention=spec.flops(recipe.train.batch_size).convention,
        lineage=(Lineage(run=branch.trunk.name, operation="branch", step=branch.step),) if branch else (),
        predicted=predicted or (previous.predicted if previous else Predicted()),
    )
    recipe.write(run.recipe_path)
    record.write(run.record_path)
    return record


def take_up(
    state: TrainState,
    run: RunFolder,
    *,
    recipe: Recipe,
    data: Data,
    branch: Branch | None,
    notice: Callable[[str], None],
) -> None:
    """Set the state to the run's newest readable checkpoint, or to the branch's, or leave it at step 0.

    Args:
        state: Changed in place.
        run: Its own checkpoints come first.
        recipe: Of the run.
        data: It must be the checkpoint's.
        branch: What the run starts from when it has no checkpoint of its own.
        notice: Is told of corrupt checkpoints passed over, and of another number of threads.

    Raises:
        CheckpointError: None of the run's checkpoints can be read, or it is of another recipe, data or model.
        StorageError: A corrupt checkpoint cannot be removed.
    """
    checkpoint, complaints = read_newest(run.checkpoints_path)
    for complaint in complaints:
        notice(f"{complaint} The one before is used.")
    if checkpoint is not None:
        _require_recipe(checkpoint, recipe)
        _load_(state, checkpoint, data=data, hint=START_AGAIN_HINT, notice=notice)
        state.elapsed_s = checkpoint.counters.elapsed_s
        state.peak_memory_bytes = checkpoint.counters.peak_memory_bytes
    elif branch is not None:
        _load_(state, branch.read(), data=data, hint=branch.retrain_hint, notice=notice)
    discard_after(run.checkpoints_path, state.step)


def _require_recipe(checkpoint: Checkpoint, recipe: Recipe) -> None:
    if checkpoint.counters.recipe_hash != hash_of(recipe):
        raise CheckpointError(
            f"the checkpoint at step {checkpoint.counters.step} is of another recipe.", hint=START_AGAIN_HINT
        )


def _load_(
    state: TrainState,
    checkpoint: Checkpoint,
    *,
    data: Data,
    hint: str,
    notice: Callable[[str], None],
) -> None:
    """Set the state to a checkpoint of this data."""
    counters = checkpoint.counters
    if counters.corpus_hash != data.meta.corpus_hash:
        raise CheckpointError(
            f"the checkpoint at step {counters.step} is of other data than '{data.meta.source}'.", hint=hint
        )
    if counters.num_threads != torch.get_num_threads():
        notice(
            f"The checkpoint was made with {counters.num_threads} threads and goes on with "
            f"{torch.get_num_threads()}: the last bits will differ."
        )
    state.load_(checkpoint)
