"""Folders that appear whole in the cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from kleiber.runs.files import storage_errors, sync_folder

__all__ = ["publish"]


def publish(folder: Path, write: Callable[[Path], None]) -> None:
    """Make `folder` appear whole: written elsewhere beside it, then renamed.

    Several processes may publish the same folder; the first one's stays, the others' work is dropped.

    Args:
        folder: What should exist afterwards.
        write: Fills an empty folder.

    Raises:
        StorageError: The disk is full or cannot be written. Nothing is left behind.
    """
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
        try:
            temporary.chmod(0o755)
            write(temporary)
            _sync(temporary)
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.is_dir():  # a rename onto another process's folder fails, and may
                    raise
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    sync_folder(folder)
