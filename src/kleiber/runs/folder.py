"""The run folder: where each document of a run stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kleiber.errors import RunFolderError
from kleiber.runs.baseline import Baseline
from kleiber.runs.files import read_lines
from kleiber.runs.ledger import LedgerEntry, read_ledger
from kleiber.runs.receipt import Receipt
from kleiber.runs.record import Record
from kleiber.runs.shown import Shown, read_shown

__all__ = ["METRIC_KEYS", "RunFolder", "find_runs"]

METRIC_KEYS = (
    "step", "tokens", "loss", "val_loss", "grad_norm", "lr", "tokens_per_s", "mfu_frac", "peak_memory_bytes", "time_s",
)  # fmt: skip
"""Keys of a line of `metrics.jsonl`; `val_loss` is null between validations."""


@dataclass(frozen=True)
class RunFolder:
    """A run on disk; self-contained: copy it and everything still works."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name is the run's."""
        return self.path.name

    @property
    def recipe_path(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def record_path(self) -> Path:
        """The record."""
        return self.path / "record.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON line a log step."""
        return self.path / "metrics.jsonl"

    @property
    def ledger_path(self) -> Path:
        """One JSON line a quantity."""
        return self.path / "ledger.jsonl"

    @property
    def model_path(self) -> Path:
        """The model in the Hugging Face layout."""
        return self.path / "model"

    @property
    def checkpoints_path(self) -> Path:
        """The parent of `step-00000120/` and its like."""
        return self.path / "checkpoints"

    @property
    def samples_path(self) -> Path:
        """What a person is shown of the model, one JSON line a sample."""
        return self.path / "samples.jsonl"

    @property
    def predictions_path(self) -> Path:
        """What a person is shown of a classifier and its like, one JSON line a sample."""
        return self.path / "predictions.jsonl"

    @property
    def baseline_path(self) -> Path:
        """What a classical method reaches on the same data."""
        return self.path / "baseline.json"

    @property
    def receipt_path(self) -> Path:
        """What a compression measured, before and after."""
        return self.path / "receipt.json"

    def exists(self) -> bool:
        """Whether the folder holds a record."""
        return self.record_path.is_file()

    def find_model(self) -> Path:
        """Return where `config.json` and the weights are: `model/` of a run, or the folder itself where it is no run.

        Raises:
            RunFolderError: There is no model, or a run has not finished.
        """
        if self.model_path.is_dir():
            return self.model_path
        if self.exists():
            raise RunFolderError(
                f"{self.path} has no model yet: a run writes it when it finishes.",
                hint=f"kleiber train {self.recipe_path} -o {self.path}",
            )
        if not (self.path / "config.json").is_file():
            raise RunFolderError(
                f"{self.path} is neither a run nor a folder with a config.json.",
                hint="runs/NAME of a finished run, or a folder with config.json and model.safetensors",
            )
        return self.path

    def read_record(self) -> Record:
        """Return the record.

        Raises:
            RunFolderError: The folder is not a run, or its record is truncated.
        """
        if not self.exists():
            raise RunFolderError(
                f"{self.path} is not a run folder: it has no record.json.",
                hint="kleiber train recipe.yaml -o runs/NAME   makes one",
            )
        return Record.read(self.record_path)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the logged lines; a last line torn by a crash is left out."""
        return read_lines(self.metrics_path)

    def read_ledger(self) -> list[LedgerEntry]:
        """Return the ledger's entries."""
        return read_ledger(self.ledger_path)

    def read_samples(self) -> list[dict[str, Any]]:
        """Return what was generated: `prompt`, `text`."""
        return read_lines(self.samples_path)

    def read_predictions(self) -> list[Shown]:
        """Return what was predicted of some samples."""
        return read_shown(self.predictions_path)

    def read_receipt(self) -> Receipt | None:
        """Return the receipt of a compression; None of a run that was trained."""
        return Receipt.read(self.receipt_path) if self.receipt_path.is_file() else None

    def read_baseline(self) -> Baseline | None:
        """Return what classical methods reached; None where nobody asked."""
        return Baseline.read(self.baseline_path) if self.baseline_path.is_file() else None


def find_runs(paths: list[Path]) -> Iterator[RunFolder]:
    """Yield the run folders among `paths` and one or two levels below them, by name.

    Raises:
        RunFolderError: A path holds no run at all.
    """
    for path in paths:
        found = [RunFolder(path)] if RunFolder(path).exists() else sorted(
            (RunFolder(record.parent) for depth in ("*", "*/*") for record in path.glob(f"{depth}/record.json")),
            key=lambda folder: str(folder.path),
        )  # fmt: skip
        if not found:
            raise RunFolderError(
                f"{path} is not a run folder and holds none.", hint="kleiber train recipe.yaml -o runs/NAME"
            )
        yield from found
