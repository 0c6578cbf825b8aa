"""One training run, from a recipe to a run folder."""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from kleiber.data import TextData, open_data, require_tokens, save_tokenizer
from kleiber.errors import CheckpointError, Interrupted, KleiberError, RecipeError
from kleiber.models import Spec, resolve_spec, save
from kleiber.runs import Lineage, Predicted, Recipe, Record, Result, RunFolder, environment, hash_of, now
from kleiber.tasks import Metrics, task_of
from kleiber.train.allocator import keep_freed_memory
from kleiber.train.checkpoint import Checkpoint, read_checkpoint, read_newest
from kleiber.train.lock import exclusive
from kleiber.train.loop import Loop, Progress
from kleiber.train.measure import MemoryMeter, peak_flops_per_s
from kleiber.train.state import TrainState

__all__ = ["Branch", "train"]


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
        return read_checkpoint(RunFolder(self.trunk).checkpoints_path / f"step-{self.step:08d}")


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = True,
    branch: Branch | None = None,
    predicted: Predicted | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Record:
    """Train what `recipe` says into `folder`, or go on with what stands there; return its record.

    A finished run is returned as it is. An interrupted one goes on from its newest readable checkpoint, bit for
    bit as if it had never stopped (on a CPU, with the same number of threads).

    Args:
        recipe: What to do; `parallel.num_threads` None becomes the number of cores.
        folder: The run folder; made when missing.
        resume: False starts again from step 0 and forgets what stood there.
        branch: Start from a trunk's checkpoint: the same data, optimizer and schedule up to its step.
        predicted: What was said of the run beforehand; goes into its record.
        on_progress: Called at every log step.
        on_notice: Called with sentences that a person should see, such as a corrupt checkpoint passed over.

    Raises:
        RecipeError: The folder holds a run of another recipe.
        DataError: The text is missing, unreadable or too small.
        CheckpointError: No checkpoint of the run can be read.
        DivergedError: The loss left the finite numbers.
        Interrupted: SIGINT or SIGTERM, after a checkpoint.
        StorageError: The disk refused.
    """
    run = RunFolder(folder)
    with exclusive(folder):
        if not resume:
            _forget(run)
        recipe = _resolve(recipe, run)
        if run.exists() and (record := run.read_record()).status == "finished":
            return record
        torch.set_num_threads(recipe.parallel.num_threads or 1)
        spec = resolve_spec(recipe)
        data = open_data(recipe.data, seed=recipe.train.seed)
        require_tokens(data.meta, recipe.num_tokens)
        record = _open_record(recipe, run, spec=spec, data=data, branch=branch, predicted=predicted)
        try:
            result = _work(
                record,
                run,
                spec,
                data,
                branch=branch,
                on_progress=on_progress,
                notice=on_notice or _to_stderr,
            )
        except KleiberError as error:
            status = "interrupted" if isinstance(error, Interrupted) else "failed"
            ended = {"status": status, "ended_at": now(), "error": error.message}
            record.model_copy(update=ended).write(run.record_path)
            raise
        record = record.model_copy(update={"status": "finished", "ended_at": now(), "result": result})
        record.write(run.record_path)
        return record


def _work(
    record: Record,
    run: RunFolder,
    spec: Spec,
    data: TextData,
    *,
    branch: Branch | None,
    on_progress: Callable[[Progress], None] | None,
    notice: Callable[[str], None],
) -> Result:
    """Train to the last step and write the model."""
    recipe = record.recipe
    keep_freed_memory()
    peak = peak_flops_per_s(torch.get_num_threads())
    meter = MemoryMeter()
    state = TrainState.start(recipe, spec)
    _take_up(state, run, recipe=recipe, data=data, branch=branch, notice=notice)
    loop = Loop(
        recipe=recipe,
        folder=run,
        data=data,
        task=task_of(recipe.task),
        state=state,
        meter=meter,
        flops_per_step=record.train_flops / recipe.train.num_steps,
        peak_flops_per_s=peak,
        on_progress=on_progress,
    )
    metrics = loop.run()
    save(state.module, spec, run.model_path)
    save_tokenizer(data, run.model_path)
    return _result(loop, metrics)


def _forget(run: RunFolder) -> None:
    """Remove what a run left behind, the lock excepted."""
    for path in (run.checkpoints_path, run.model_path, run.path / "events"):
        shutil.rmtree(path, ignore_errors=True)
    for path in (run.record_path, run.recipe_path, run.metrics_path, run.ledger_path, run.samples_path):
        path.unlink(missing_ok=True)


def _resolve(recipe: Recipe, run: RunFolder) -> Recipe:
    """Return the recipe with every automatic choice written out, the one in the folder if there is one."""
    if run.exists():
        known = run.read_record().recipe
        asked = recipe
        if recipe.parallel.num_threads is None:
            asked = recipe.model_copy(update={"parallel": known.parallel})
        if asked != known:
            raise RecipeError(
                f"{run.path} holds a run of another recipe.",
                hint="another folder with -o, or --fresh to start again",
            )
        return known
    if recipe.parallel.num_threads is None:
        parallel = recipe.parallel.model_copy(update={"num_threads": environment(1).num_cores})
        recipe = recipe.model_copy(update={"parallel": parallel})
    return recipe


def _open_record(
    recipe: Recipe,
    run: RunFolder,
    *,
    spec: Spec,
    data: TextData,
    branch: Branch | None,
    predicted: Predicted | None,
) -> Record:
    """Write recipe and record of a run that starts or goes on."""
    flops = spec.flops(recipe.train.batch_size, recipe.data.context)
    previous = run.read_record() if run.exists() else None
    if previous and previous.data.corpus_hash != data.meta.corpus_hash:
        raise RecipeError(
            f"{run.path} was trained on another text; '{recipe.data.source}' has changed since.",
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
        train_flops=float(flops.total * recipe.train.num_steps),
        flops_convention=flops.convention,
        lineage=(Lineage(run=branch.trunk.name, operation="branch", step=branch.step),) if branch else (),
        predicted=predicted or (previous.predicted if previous else Predicted()),
    )
    recipe.write(run.recipe_path)
    record.write(run.record_path)
    return record


def _take_up(
    state: TrainState,
    run: RunFolder,
    *,
    recipe: Recipe,
    data: TextData,
    branch: Branch | None,
    notice: Callable[[str], None],
) -> None:
    """Set the state to the run's newest readable checkpoint, or to the branch's, or leave it at step 0."""
    checkpoint, complaints = read_newest(run.checkpoints_path)
    for complaint in complaints:
        notice(f"{complaint} The one before is used.")
    is_own = checkpoint is not None
    if checkpoint is None and branch is not None:
        checkpoint = branch.read()
    if checkpoint is None:
        return
    counters = checkpoint.counters
    if counters.corpus_hash != data.meta.corpus_hash:
        raise CheckpointError(
            f"the checkpoint at step {counters.step} is of another text than '{recipe.data.source}'."
        )
    if counters.num_threads != torch.get_num_threads():
        notice(
            f"The checkpoint was made with {counters.num_threads} threads and goes on with "
            f"{torch.get_num_threads()}: the last bits will differ."
        )
    state.load_(checkpoint)
    if is_own:
        state.elapsed_s = counters.elapsed_s
        state.peak_memory_bytes = counters.peak_memory_bytes


def _result(loop: Loop, metrics: Metrics) -> Result:
    state, recipe, lines = loop.state, loop.recipe, loop.folder.read_metrics()
    step_time_s = recipe.tokens_per_step / statistics.median(line["tokens_per_s"] for line in lines)
    return Result(
        num_steps=state.step,
        num_tokens=state.step * recipe.tokens_per_step,
        loss=lines[-1]["loss"],
        val_loss=metrics.loss,
        val_loss_half_width=metrics.loss_half_width,
        val_bits_per_byte=metrics.bits_per_byte,
        tokens_per_s=recipe.tokens_per_step / step_time_s,
        step_time_s=step_time_s,
        mfu_frac=loop.flops_per_step / step_time_s / loop.peak_flops_per_s,
        peak_flops_per_s=loop.peak_flops_per_s,
        total_time_s=state.elapsed_s,
        peak_memory_bytes=state.peak_memory_bytes,
    )


def _to_stderr(sentence: str) -> None:
    print(sentence, file=sys.stderr)
