"""A study's folder, read: finished runs, measured steps and gradients of each size."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kleiber.runs import Record, RunFolder, guessing_loss, has_learnt
from kleiber.runs.bench_result import BenchResult
from kleiber.study.growing.design import Member, StudyDesign
from kleiber.study.growing.jobs import RUNS, runs_of
from kleiber.study.growing.measured import Gradient, Stepped, read_measured

__all__ = ["BENCH_FILE", "Found"]

BENCH_FILE = "bench.json"


@dataclass(frozen=True)
class Found:
    """A study's folder, read."""

    design: StudyDesign
    members: tuple[Member, ...]
    folder: Path

    @cached_property
    def runs(self) -> dict[str, list[tuple[RunFolder, Record]]]:
        """Finished runs of each size."""
        found: dict[str, list[tuple[RunFolder, Record]]] = {}
        for member in self.members:
            folders = [RunFolder(self.folder / RUNS / name) for name, _ in runs_of(self.design, member)]
            pairs = [(one, one.read_record()) for one in folders if one.exists()]
            found[member.name] = [pair for pair in pairs if pair[1].result is not None]
        return found

    def has_trained(self, member: Member) -> bool:
        """Whether the mean loss of a size's runs is below that of guessing by a margin; True where no run has ended."""
        losses = self.val_losses(member)
        return not losses or has_learnt(statistics.fmean(losses), guessing_loss(self.design.base))

    def val_losses(self, member: Member) -> list[float]:
        """Return the held-out losses of a size's finished runs."""
        results = (record.result for _, record in self.runs[member.name])
        return [result.val_loss for result in results if result and result.val_loss is not None]

    @cached_property
    def num_diverged(self) -> dict[str, int]:
        """Failed runs of each size."""
        return {
            member.name: sum(
                one.exists() and one.read_record().status == "failed"
                for one in (RunFolder(self.folder / RUNS / name) for name, _ in runs_of(self.design, member))
            )
            for member in self.members
        }

    @cached_property
    def steps(self) -> dict[str, Stepped]:
        """Measured steps of each size."""
        found = {one.name: read_measured(self.folder, Stepped, one.name) for one in self.members}
        return {name: one for name, one in found.items() if one}

    @cached_property
    def gradients(self) -> dict[str, Gradient]:
        """Measured gradients and bytes of each size."""
        found = {one.name: read_measured(self.folder, Gradient, one.name) for one in self.members}
        return {name: one for name, one in found.items() if one}

    @cached_property
    def bench(self) -> BenchResult | None:
        """Latencies."""
        path = self.folder / BENCH_FILE
        return BenchResult.read(path) if path.is_file() else None
