"""The training loop: steps, logs, validations, checkpoints."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from kleiber.data import Batch, Data
from kleiber.errors import DivergedError, Interrupted
from kleiber.runs import Recipe, RunFolder
from kleiber.runs.files import RESUME_HINT
from kleiber.tasks import Metrics, Task
from kleiber.train.checkpoint import prune, write_checkpoint
from kleiber.train.interrupt import interrupt_flag
from kleiber.train.journal import Journal
from kleiber.train.measure import MemoryMeter
from kleiber.train.schedule import rate
from kleiber.train.sequence_warmup import cut
from kleiber.train.state import TrainState

__all__ = ["Loop", "Progress"]


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows."""

    run: str
    step: int
    num_steps: int
    loss: float
    tokens_per_s: float
    unit: str = "token"
    """What is counted."""


@dataclass
class Loop:
    """One run in this process, from wherever its state stands to its last step."""

    recipe: Recipe
    folder: RunFolder
    data: Data
    task: Task
    state: TrainState
    meter: MemoryMeter
    flops_per_step: float
    peak_flops_per_s: float
    on_progress: Callable[[Progress], None] | None = None
    compiled: nn.Module | None = None
    """The module after `torch.compile`, where that pays."""
    is_interrupted: bool = False
    """SIGINT or SIGTERM came when nothing was left to stop: the caller should not go on to other work."""
    _losses: list[float] = field(default_factory=list)
    _times_s: list[float] = field(default_factory=list)
    _started: float = field(default_factory=time.perf_counter)

    def run(self) -> Metrics:
        """Train to the last step; return the final metrics.

        Raises:
            DivergedError: A loss or gradient is not finite; the checkpoint before it stays.
            Interrupted: SIGINT or SIGTERM came before the last step; a checkpoint was written first.
        """
        train, state = self.recipe.train, self.state
        metrics = None
        micro_batches = self.data.batches("train", state.cursor, train.batch_size // train.accumulation)
        with Journal(self.folder, state.step) as journal, interrupt_flag() as interrupt:
            while not self._has_ended:
                grad_norm = self._step([next(micro_batches) for _ in range(train.accumulation)])
                metrics = self._validate()
                if metrics or state.step % train.log_every == 0:
                    self._log(journal, grad_norm, metrics)
                self._checkpoint(is_forced=self._has_ended or interrupt.is_set)
                if interrupt.is_set and not self._has_ended:
                    raise Interrupted(
                        f"stopped at step {state.step} of {train.num_steps}; a checkpoint was written.",
                        hint=RESUME_HINT,
                    )
        self.is_interrupted = interrupt.is_set
        # A run that was cut off after its last step has judged it already.
        return metrics or self._measure()

    @property
    def _has_ended(self) -> bool:
        return self.state.step >= self.recipe.train.num_steps or self.state.guard.state.stopped_by is not None

    def _validate(self) -> Metrics | None:
        """Return the metrics where they are due, after the guard has seen them."""
        state, train = self.state, self.recipe.train
        state.guard.check_time(state.elapsed_s + time.perf_counter() - self._started)
        if not (self._has_ended or state.step % train.val_every == 0):
            return None
        metrics = self._measure()
        if state.guard.is_better(metrics.loss, state.step) and train.stop.patience:
            with state.averaged():
                state.keep_best()
        return metrics

    def _measure(self) -> Metrics:
        """Return the metrics of what the run would come to now."""
        with self.state.averaged() as module:
            metrics = self.task.evaluate(module, self.data)
        if not math.isfinite(metrics.loss):
            raise self._diverged("validation loss", self.state.step, metrics.loss)
        return metrics

    def _diverged(self, what: str, step: int, got: float) -> DivergedError:
        return DivergedError(
            f"{self.folder.name}: the {what} is not finite at step {step}.",
            got=got,
            hint="a lower rate: --set train.optimizer.lr=... --set train.optimizer.matrix_lr=... --fresh",
        )

    def _step(self, micro_batches: list[Batch]) -> float:
        """Do one optimizer step; return the gradient's norm before clipping."""
        start = time.perf_counter()
        train, state = self.recipe.train, self.state
        loss = 0.0
        if train.sequence_warmup is not None:
            context = train.sequence_warmup.context_of_step(state.step, self.recipe.data.context)
            micro_batches = [cut(batch, context) for batch in micro_batches]
        forward = state.module if self.compiled is None else self.compiled
        weights = [self.task.weight(batch) for batch in micro_batches]
        for batch, weight in zip(micro_batches, weights, strict=True):
            part = self.task.loss(forward, batch) * (weight / sum(weights))
            extra = state.module.auxiliary_loss()
            (part if extra is None else part + extra / len(micro_batches)).backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
            loss += float(part.detach())
        grad_norm = state.optimizer.clip_(train.clip_norm)
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise self._diverged("loss or its gradient", state.step + 1, loss)
        state.optimizer.step(rate(state.step, train.num_steps, train.schedule))
        state.optimizer.zero_grad()
        if state.ema is not None:
            state.ema.update()
        state.step += 1
        state.cursor = micro_batches[-1].cursor
        self._losses.append(loss)
        self._times_s.append(time.perf_counter() - start)
        return grad_norm

    def _log(self, journal: Journal, grad_norm: float, metrics: Metrics | None) -> None:
        """Write a line of metrics over the steps since the last."""
        state, train = self.state, self.recipe.train
        median_s = statistics.median(self._times_s)
        loss = statistics.fmean(self._losses)
        state.peak_memory_bytes = max(state.peak_memory_bytes, self.meter.peak_bytes())
        tokens_per_s = self.recipe.tokens_per_step / median_s
        line = {
            "step": state.step,
            "tokens": state.step * self.recipe.tokens_per_step,
            "loss": loss,
            "val_loss": metrics.loss if metrics else None,
            "grad_norm": grad_norm,
            "lr": state.optimizer.lr * rate(state.step - 1, train.num_steps, train.schedule),
            "tokens_per_s": tokens_per_s,
            "mfu_frac": self.flops_per_step / median_s / self.peak_flops_per_s,
            "peak_memory_bytes": state.peak_memory_bytes,
            "time_s": time.time(),
        }
        journal.write(line)
        self._losses.clear()
        self._times_s.clear()
        if self.on_progress:
            unit = self.data.meta.unit
            self.on_progress(
                Progress(self.folder.name, state.step, train.num_steps, loss, tokens_per_s, unit)
            )

    def _checkpoint(self, *, is_forced: bool) -> None:
        state, train = self.state, self.recipe.train
        is_due = state.step % train.checkpoint_every == 0 or state.step in train.branch_steps
        if not (is_due or is_forced):
            return
        now = time.perf_counter()
        state.elapsed_s += now - self._started
        self._started = now
        write_checkpoint(
            self.folder.checkpoints_path, state.to_checkpoint(self.recipe, self.data.meta.corpus_hash)
        )
        prune(self.folder.checkpoints_path, train.keep_checkpoints, train.branch_steps)
