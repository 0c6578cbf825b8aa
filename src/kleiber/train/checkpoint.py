"""Checkpoints: written whole or not at all, verified when read, the newest kept.

A checkpoint is a folder `step-00000120` with `tensors.safetensors` (weights, optimizer state, RNG) and
`state.json` (counters, data cursor, a digest of the former). It is written under a temporary name, synced and
renamed, so that a crash at any instant leaves the one before.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file as save_tensors
from torch import Tensor

from kleiber.errors import CheckpointError
from kleiber.runs import Document
from kleiber.runs.files import storage_errors, write_folder
from kleiber.train.guards import GuardState

__all__ = [
    "START_AGAIN_HINT",
    "Checkpoint",
    "Counters",
    "discard_after",
    "list_checkpoints",
    "prune",
    "read_checkpoint",
    "read_newest",
    "write_checkpoint",
]

START_AGAIN_HINT = "the same command with --fresh starts again from step 0"

_NAME = re.compile(r"step-(\d{8,})")


class Counters(Document):
    """Where a run stands."""

    step: int
    """Optimizer steps done."""
    cursor: int
    """Training samples consumed."""
    elapsed_s: float
    """Wall clock so far."""
    peak_memory_bytes: int
    num_threads: int
    """Frozen: another number of threads sums in another order."""
    recipe_hash: str
    corpus_hash: str
    guard: GuardState = GuardState()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory."""

    counters: Counters
    tensors: dict[str, Tensor]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint below `folder`; return its path. One of the same step that is there stays.

    Raises:
        StorageError: The disk refused; earlier checkpoints are whole.
    """
    target = folder / f"step-{checkpoint.counters.step:08d}"

    def write(temporary: Path) -> None:
        digest = _write_tensors(temporary / "tensors.safetensors", checkpoint.tensors)
        state = {"digest": digest, "counters": checkpoint.counters.model_dump(mode="json")}
        (temporary / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")

    write_folder(target, write)
    return target


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write tensors to a file straight from where they stand, without a copy in memory; return its SHA-256."""
    try:
        save_tensors(tensors, path)
    except SafetensorError as error:
        raise OSError(None, str(error)) from None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint in `path`.

    Raises:
        CheckpointError: A file is missing, truncated, or not what its digest says.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        content = (path / "tensors.safetensors").read_bytes()
        if hashlib.sha256(content).hexdigest() != state["digest"]:
            raise CheckpointError(f"checkpoint {path} is corrupt: its tensors do not match their digest.")
        return Checkpoint(Counters.model_validate(state["counters"]), load_tensors(content))
    except (OSError, ValueError, KeyError, TypeError, ValidationError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"checkpoint {path} is corrupt: {reason}.") from None


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints below `folder`, oldest first."""
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=_step_of)


def read_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint that can be read, and what is wrong with newer ones.

    Raises:
        CheckpointError: There are checkpoints and none can be read.
    """
    complaints: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return read_checkpoint(path), complaints
        except CheckpointError as error:
            complaints.append(error.message)
    if complaints:
        raise CheckpointError(
            f"no checkpoint below {folder} can be read: {' '.join(complaints)}",
            hint=START_AGAIN_HINT,
        )
    return None, []


def discard_after(folder: Path, step: int) -> None:
    """Remove checkpoints after `step`, which a run that goes on from there makes again, and half-written ones.

    They are corrupt, or the run would go on from them; left alone they would count among the newest that stay.

    Raises:
        StorageError: One cannot be removed.
    """
    later = [path for path in list_checkpoints(folder) if _step_of(path) > step]
    with storage_errors(folder):
        for path in [*later, *folder.glob(".step-*.tmp")]:
            shutil.rmtree(path)


def prune(folder: Path, keep: int, keep_steps: Collection[int]) -> None:
    """Remove all but the newest `keep` checkpoints and those of `keep_steps`.

    Raises:
        StorageError: One cannot be removed.
    """
    with storage_errors(folder):
        for path in _expendable(folder, keep, keep_steps):
            shutil.rmtree(path)


def _expendable(folder: Path, keep: int, keep_steps: Collection[int]) -> Iterator[Path]:
    for path in list_checkpoints(folder)[:-keep]:
        if _step_of(path) not in keep_steps:
            yield path


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
