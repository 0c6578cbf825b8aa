"""What a report is made from: run folders, and the law, forecast and plan beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from kleiber.errors import RunFolderError
from kleiber.runs import Baseline, LedgerEntry, Record, RunFolder, Shown, find_runs
from kleiber.runs.receipt import Receipt
from kleiber.scaling import Forecast, Law
from kleiber.scaling.backtest_document import Backtest
from kleiber.scaling.comparison_document import Comparisons
from kleiber.scaling.law import LossUnit
from kleiber.units import format_count

__all__ = ["RunView", "Sources", "read_sources"]

_DOCUMENTS = ("law.json", "forecast.json", "plan.json", "backtest.json", "comparison.json")


@dataclass(frozen=True)
class RunView:
    """One run as a report reads it; metrics and samples are read when they are asked for."""

    folder: RunFolder
    record: Record

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The logged lines."""
        return self.folder.read_metrics()

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        """What was generated."""
        return self.folder.read_samples()

    @cached_property
    def predictions(self) -> list[Shown]:
        """What was predicted of some samples."""
        return self.folder.read_predictions()

    @cached_property
    def baseline(self) -> Baseline | None:
        """What classical methods reach on the same data; None where nobody asked."""
        return self.folder.read_baseline()

    @cached_property
    def receipt(self) -> Receipt | None:
        """What a compression measured; None of a run that was trained."""
        return self.folder.read_receipt()

    @property
    def num_steps_done(self) -> int:
        """Steps taken so far, a trunk's included."""
        if self.record.result is not None:
            return self.record.result.num_steps
        return max((int(line.get("step") or 0) for line in self.metrics), default=0)

    @property
    def spent_flops(self) -> float:
        """Operations this run spent itself: a branch's trunk is counted once, at the trunk."""
        planned = self.record.recipe.train.num_steps
        inherited = max((link.step for link in self.record.lineage), default=0)
        return self.record.train_flops * max(0, self.num_steps_done - inherited) / planned


@dataclass(frozen=True)
class Sources:
    """Everything a report shows."""

    runs: tuple[RunView, ...]
    target: RunView | None
    """The run that was forecast."""
    law: Law | None
    forecast: Forecast | None
    plan: dict[str, Any]
    """`plan.json` as it stands, empty without one."""
    backtest: Backtest | None = None
    comparison: Comparisons | None = None

    @property
    def measured_unit(self) -> LossUnit:
        """What the law, or else the forecast, is of."""
        known = self.law or self.forecast
        return known.loss_unit if known else "nats/token"

    @property
    def ladder(self) -> tuple[RunView, ...]:
        """Every run but the target."""
        return tuple(run for run in self.runs if run is not self.target)

    @property
    def ledger(self) -> list[LedgerEntry]:
        """The target's ledger; of a single run without a target, that run's."""
        owner = self.target or (self.runs[0] if len(self.runs) == 1 else None)
        return owner.folder.read_ledger() if owner else []

    @cached_property
    def sizes(self) -> list[int]:
        """Distinct parameter counts, smallest first: what colours stand for."""
        counts = {run.record.num_params.total for run in self.runs}
        return sorted(counts | {row.num_params.total for row in (self.law.rows if self.law else ())})

    @property
    def unit(self) -> Literal["token", "sample"]:
        """What the runs count what they learn from by; of a study with both, and of a plan alone, tokens."""
        units = {run.record.data.unit for run in self.runs}
        return units.pop() if len(units) == 1 else "token"

    @property
    def size_labels(self) -> list[str]:
        """What the sizes are called; two that print alike are one."""
        return list(dict.fromkeys(format_count(size) for size in self.sizes))


def read_sources(paths: Sequence[Path], *, output: Path | None = None) -> Sources:
    """Read what `paths` hold.

    Args:
        paths: Study folders, folders of runs, run folders; a law or another document beside it stands for its folder.
        output: The report itself, which a shell's `runs/demo/*` may bring along; it is passed over.

    Raises:
        RunFolderError: A path holds no run, a document does not parse, or the paths hold two studies.
    """
    asked = [path.resolve() for path in paths if output is None or path.resolve() != output.resolve()]
    folders = list(dict.fromkeys(path.parent if path.name in _DOCUMENTS else path for path in asked))
    law, forecast, plan, backtest, comparison = (_document(folders, name) for name in _DOCUMENTS)
    runs = tuple(_runs(folders))
    read_forecast = Forecast.read(forecast) if forecast else None
    return Sources(
        runs=runs,
        target=_target(runs, read_forecast),
        law=Law.read(law) if law else None,
        forecast=read_forecast,
        plan=_read_plan(plan) if plan else {},
        backtest=Backtest.read(backtest) if backtest else None,
        comparison=Comparisons.read(comparison) if comparison else None,
    )


def _runs(folders: list[Path]) -> Iterator[RunView]:
    seen = set()
    for folder in folders:
        try:
            found = list(find_runs([folder]))
        except RunFolderError:
            if not any((folder / name).is_file() for name in _DOCUMENTS):
                raise
            continue  # a study that has been planned or fitted and has no run here
        for run in found:
            if run.path not in seen:
                seen.add(run.path)
                yield RunView(run, run.read_record())


def _document(folders: list[Path], name: str) -> Path | None:
    """Return the document in one of the folders, or else beside it."""
    nearest = (
        [place / name for place in (here, here.parent) if (place / name).is_file()] for here in folders
    )
    found = list(dict.fromkeys(places[0] for places in nearest if places))
    if len(found) > 1:
        raise RunFolderError(
            f"One report shows one study, and the paths hold two: {found[0]} and {found[1]}.",
            hint=f"kleiber report {found[0].parent}",
        )
    return found[0] if found else None


def _target(runs: tuple[RunView, ...], forecast: Forecast | None) -> RunView | None:
    """Return the run whose record names the forecast; before it is written, the one that names any."""
    digest = forecast.hash if forecast else None
    claimed = [run for run in runs if run.record.predicted.forecast_hash]
    exact = [run for run in claimed if run.record.predicted.forecast_hash == digest]
    named = [run for run in runs if run.folder.name == "target" and len(runs) > 1]
    return next(iter(exact or claimed or named), None)


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunFolderError(f"{path} cannot be read as a plan: {str(error).splitlines()[0]}.") from None
    if not isinstance(plan, dict):
        raise RunFolderError(f"{path} must hold a mapping of keys to values.", got=type(plan).__name__)
    return plan
