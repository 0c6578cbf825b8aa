"""One training run, from a recipe to a run folder."""

from __future__ import annotations

import contextlib
import math
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from kleiber.data import Data, open_data, require_tokens, save_tokenizer, with_model_tokenizer
from kleiber.errors import DivergedError, Interrupted, KleiberError, StorageError, UsageError
from kleiber.models import Spec, resolve_spec, save
from kleiber.models.stored import write_forms
from kleiber.runs import Predicted, Recipe, Record, Result, RunFolder, environment, now, write_shown
from kleiber.runs.files import RESUME_HINT, storage_errors
from kleiber.tasks import Metrics, task_of
from kleiber.train.allocator import pin_allocator
from kleiber.train.compiling import compiled, compiler_errors, settle_compile
from kleiber.train.lock import exclusive
from kleiber.train.loop import Loop, Progress
from kleiber.train.measure import MemoryMeter, peak_flops_per_s
from kleiber.train.recover.filled import with_donor
from kleiber.train.recover.recovery import open_recovery
from kleiber.train.settle import settle
from kleiber.train.start import Branch, open_record, resolve, take_up
from kleiber.train.state import TrainState

__all__ = ["train"]


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
        resume: False starts again from step 0 and forgets what stood there, once recipe and data are known to be good.
        branch: Start from a trunk's checkpoint: the same data, optimizer and schedule up to its step.
        predicted: What was said of the run beforehand; goes into its record.
        on_progress: Called at every log step.
        on_notice: Called with sentences that a person should see, such as a corrupt checkpoint passed over.

    Raises:
        RecipeError: The folder holds a run of another recipe; or the recipe breaks a rule, and no folder is left behind.
        DataError: The data is missing, unreadable or too small; no folder is left behind.
        CheckpointError: No checkpoint of the run can be read.
        DivergedError: The loss left the finite numbers.
        Interrupted: SIGINT or SIGTERM, after a checkpoint; during the last step, after the run has finished.
        StorageError: The disk refused.
    """
    run = RunFolder(folder)
    with exclusive(folder):
        recipe = with_model_tokenizer(with_donor(recipe))
        known = resolve(recipe, run) if resume else None
        if known and (record := run.read_record()).status == "finished":
            return record
        notice = on_notice or _to_stderr
        num_threads = (known or recipe).parallel.num_threads or environment(1).num_cores
        torch.set_num_threads(num_threads)
        data = open_data(recipe.data, seed=recipe.train.seed, task=recipe.task)
        step_time_s = predicted.step_time_s if predicted else None
        if known is None:
            recipe = settle(recipe, data.meta, num_threads=num_threads, step_time_s=step_time_s)
            recipe = settle_compile(recipe, data, task_of(recipe.task, data.meta), notice)
        else:
            recipe = known
        if recipe.task.name == "lm":
            require_tokens(data.meta, recipe.num_tokens)
        spec = resolve_spec(recipe)
        if not resume:
            _forget(run)  # not before what is asked instead is known to be possible
        record = open_record(recipe, run, spec=spec, data=data, branch=branch, predicted=predicted)
        try:
            result, is_interrupted = _work(
                record,
                run,
                spec,
                data,
                branch=branch,
                on_progress=on_progress,
                notice=notice,
            )
        except UsageError as error:
            if known is None and not run.checkpoints_path.exists():
                _forget(run)  # what was asked cannot be done, and nothing has been
            else:
                _write_ended(record, run, error)
            raise
        except (Exception, KeyboardInterrupt) as error:
            _write_ended(record, run, error)
            raise
        record = record.model_copy(update={"status": "finished", "ended_at": now(), "result": result})
        record.write(run.record_path)
        if is_interrupted:
            raise Interrupted(f"stopped; {run.name} has finished.", hint=RESUME_HINT)
        return record


def _write_ended(record: Record, run: RunFolder, error: BaseException) -> None:
    is_stopped = isinstance(error, Interrupted | KeyboardInterrupt)
    reason = error.message if isinstance(error, KleiberError) else f"{type(error).__name__}: {error}"
    ended = {
        "status": "interrupted" if is_stopped else "failed",
        "ended_at": now(),
        "error": reason,
        "is_diverged": isinstance(error, DivergedError),
    }
    # A full disk refuses this one too: the first error is raised.
    with contextlib.suppress(StorageError):
        record.model_copy(update=ended).write(run.record_path)


def _work(
    record: Record,
    run: RunFolder,
    spec: Spec,
    data: Data,
    *,
    branch: Branch | None,
    on_progress: Callable[[Progress], None] | None,
    notice: Callable[[str], None],
) -> tuple[Result, bool]:
    """Train to the last step and write the model; also return whether a signal came too late to stop that."""
    recipe = record.recipe
    pin_allocator(keeps_freed_memory=recipe.parallel.keeps_freed_memory)
    peak = peak_flops_per_s(torch.get_num_threads())
    meter = MemoryMeter()
    recovery = open_recovery(recipe, recipe.recover, spec, data) if recipe.recover else None
    state = TrainState.start(recipe, spec, recovery.module if recovery else None)
    take_up(state, run, recipe=recipe, data=data, branch=branch, notice=notice)
    loop = Loop(
        recipe=recipe,
        folder=run,
        data=data,
        task=recovery.task if recovery else task_of(recipe.task, data.meta),
        state=state,
        meter=meter,
        flops_per_step=record.train_flops / recipe.train.num_steps,
        peak_flops_per_s=peak,
        on_progress=on_progress,
        compiled=compiled(state.module) if recipe.train.compile == "always" else None,
    )
    with compiler_errors():
        metrics = loop.run()
    forms = state.take_result_()
    result = _finish(loop, spec, metrics)
    if recovery is not None:
        write_forms(run.model_path, state.module, forms, recovery.activations)
    return result, loop.is_interrupted


def _finish(loop: Loop, spec: Spec, metrics: Metrics) -> Result:
    """Measure what has come out, write the model and what it says of some samples; return the result."""
    module, data, run = loop.state.module, loop.data, loop.folder
    if loop.state.best is not None:
        metrics = loop.task.evaluate(module, data)
    test = loop.task.evaluate(module, data, "test") if data.meta.num_test_tokens else None
    save(module, spec, run.model_path)
    save_tokenizer(data, run.model_path)
    if shown := loop.task.show(module, data):
        write_shown(run.predictions_path, shown)
    return _result(loop, metrics, test)


def _forget(run: RunFolder) -> None:
    """Remove what a run left behind, the lock excepted; the record first, for it speaks of the rest."""
    with storage_errors(run.path):
        for path in (
            run.record_path,
            run.recipe_path,
            run.metrics_path,
            run.ledger_path,
            run.samples_path,
            run.predictions_path,
            run.baseline_path,
        ):
            path.unlink(missing_ok=True)
        for path in (run.checkpoints_path, run.model_path, run.path / "events"):
            if path.exists():
                shutil.rmtree(path)


def _result(loop: Loop, metrics: Metrics, test: Metrics | None) -> Result:
    state, recipe, lines = loop.state, loop.recipe, loop.folder.read_metrics()
    step_time_s = recipe.tokens_per_step / statistics.median(line["tokens_per_s"] for line in lines)
    return Result(
        num_steps=state.step,
        num_tokens=state.step * recipe.tokens_per_step,
        loss=lines[-1]["loss"],
        val_loss=metrics.loss,
        val_loss_half_width=metrics.loss_half_width if math.isfinite(metrics.loss_half_width) else None,
        val_metrics=dict(metrics.values),
        test_loss=test.loss if test else None,
        test_metrics=dict(test.values) if test else {},
        stopped_by=state.guard.state.stopped_by,
        tokens_per_s=recipe.tokens_per_step / step_time_s,
        step_time_s=step_time_s,
        mfu_frac=loop.flops_per_step / step_time_s / loop.peak_flops_per_s,
        peak_flops_per_s=loop.peak_flops_per_s,
        total_time_s=state.elapsed_s,
        peak_memory_bytes=state.peak_memory_bytes,
    )


def _to_stderr(sentence: str) -> None:
    print(sentence, file=sys.stderr)
