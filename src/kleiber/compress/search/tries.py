"""Pipelines that are tried, each once: what came out stands in `tries/tries.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import Field

from kleiber.compress.attempt import TRIES, Attempt, Bench
from kleiber.compress.gate import main_engine_side
from kleiber.compress.receipt import chosen_engine, engine_scores
from kleiber.compress.recover import Recover
from kleiber.compress.speed import Measuring, measured_speeds
from kleiber.compress.steps import AnyStep, typed_step
from kleiber.errors import DivergedError, RunFolderError, UsageError
from kleiber.models.stored import stored_bytes
from kleiber.runs import Document, hash_of
from kleiber.runs.files import read_lines, write_text
from kleiber.runs.receipt import Tried
from kleiber.tasks import Scores
from kleiber.tasks.quality import quality_changes, quality_loss

__all__ = ["Outcome", "Scout"]


class Outcome(Document):
    """What came out of a try."""

    key: str
    """Of the original, the calibration and the steps."""
    tried: Tried | None = None
    refusal: str | None = None
    """Why it could not be done."""
    original_latency_s: float | None = None
    """Timed in turns with it."""
    seconds: dict[str, float] = Field(default_factory=dict)
    """Of each step, by its chain: tries that begin alike share steps."""
    tokens: dict[str, int] = Field(default_factory=dict)
    """Trained on by each step, by its chain."""


@dataclass
class Scout:
    """Tries pipelines by their quality on validation, as torch answers: the test split is left to what is chosen."""

    bench: Bench
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lines = read_lines(self._path)
        known = [Outcome.of(line, str(self._path), RunFolderError) for line in lines]
        self.outcomes = {one.key: one for one in known}

    @property
    def tried(self) -> tuple[Tried, ...]:
        """What could be done, in the order in which it was tried."""
        return tuple(one.tried for one in self.outcomes.values() if one.tried is not None)

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why others could not."""
        return tuple(dict.fromkeys(one.refusal for one in self.outcomes.values() if one.refusal is not None))

    @cached_property
    def original_share(self) -> float:
        """What the original gets right; 1 where there is no right answer."""
        hits_N = self._before.hits_N
        return 1.0 if hits_N is None else float(hits_N.mean())

    @cached_property
    def _before(self) -> Scores:
        return engine_scores(self.bench.original.subject, "torch", "val")

    def outcome(self, steps: Sequence[AnyStep], rung: int) -> Outcome:
        """Return what comes out of steps; what was tried before is not tried again.

        Raises:
            StorageError: The disk refused.
        """
        typed = [typed_step(step) for step in steps]
        key = hash_of([self.bench.calibration.hash, self.bench.original.stored_bytes, typed])
        if key not in self.outcomes:
            self.bench.tell(f"trying {' '.join(typed)}")
            try:
                self.outcomes[key] = self._outcome(key, steps, rung)
            except (UsageError, DivergedError) as error:
                self.outcomes[key] = Outcome(key=key, refusal=f"{' '.join(typed)}: {error.message}")
            lines = (json.dumps(one.model_dump(mode="json")) + "\n" for one in self.outcomes.values())
            write_text(self._path, "".join(lines))
        return self.outcomes[key]

    @property
    def _path(self) -> Path:
        return self.bench.folder / TRIES / "tries.jsonl"

    def _outcome(self, key: str, steps: Sequence[AnyStep], rung: int) -> Outcome:
        original, attempt = self.bench.original, self.bench.done(steps)
        task = original.subject.recipe.task.name
        scores = engine_scores(attempt.subject, "torch", "val")
        main = quality_changes(task, self._before, scores, engine="torch", seed=original.seed)[0]
        before_s, after_s = self._latencies(attempt)
        tried = Tried(
            steps=tuple(typed_step(step) for step in steps),
            rung=rung,
            quality_loss=quality_loss(main).value,
            stored_bytes=stored_bytes(attempt.model),
            latency_s=after_s,
            training_tokens=attempt.training_tokens,
        )
        return Outcome(
            key=key,
            tried=tried,
            original_latency_s=before_s,
            seconds={one.chain: one.seconds for one in attempt.done},
            tokens=dict(self._tokens(steps, attempt)),
        )

    def _tokens(self, steps: Sequence[AnyStep], attempt: Attempt) -> Iterator[tuple[str, int]]:
        for step, done in zip(steps, attempt.done, strict=True):
            if isinstance(step, Recover):
                yield done.chain, step.num_tokens(self.bench.original.subject.recipe)

    def _latencies(self, attempt: Attempt) -> tuple[float | None, float | None]:
        """Return the latency of the original and of a try, where the gate asks for speed."""
        asked = self.bench.asked
        if not asked.gate.needs_speed:
            return None, None
        quick = Measuring(
            engines=asked.measuring.engines,
            num_threads=asked.measuring.num_threads,
            num_rounds=min(5, asked.measuring.num_rounds),
            block_s=min(0.02, asked.measuring.block_s),
            max_batch=1,
            is_brief=True,
            has_memory=False,
        )
        original = self.bench.original.subject
        speeds = measured_speeds(original, attempt.subject, "val", quick, seed=self.bench.original.seed)
        engine = chosen_engine(speeds)
        before, after = main_engine_side(speeds.before, engine), main_engine_side(speeds.after, engine)
        if before is None or after is None:
            return None, None
        return before.latency_s.value, after.latency_s.value
