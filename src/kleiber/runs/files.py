"""Writes that a crash cannot tear: temporary file, fsync, rename. Lines that one may have torn."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kleiber.errors import RunFolderError, StorageError

__all__ = [
    "RESUME_HINT",
    "read_lines",
    "storage_errors",
    "sync_folder",
    "write_bytes",
    "write_folder",
    "write_text",
]

RESUME_HINT = "run the same command again, without --fresh: it resumes"
"""What to type after work was cut short; --fresh would remove the checkpoints."""


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into a `StorageError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot write {path}: {reason}. What was written before is whole.",
            hint=f"free some space or choose another folder, then {RESUME_HINT}",
        ) from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text as `write_bytes` does."""
    write_bytes(path, content.encode())


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Make `folder` appear whole: written beside it under a hidden name, synced, renamed.

    Several processes may write the same folder; the first one's stays, the others' work is dropped.

    Args:
        folder: What should exist afterwards.
        write: Fills an empty folder with files and folders.

    Raises:
        StorageError: The disk is full or cannot be written. Nothing is left behind.
    """
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
        try:
            temporary.chmod(0o755)
            write(temporary)
            _sync_files(temporary)
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.is_dir():  # a rename onto another process's folder fails, and may
                    raise
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _sync_files(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            _sync_files(path)
            continue
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the renames inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON lines of a file, none when there is no file.

    A crash may tear the last line of a file that grows: what lacks its line end and does not parse is left out.

    Raises:
        RunFolderError: Another line does not parse.
    """
    if not path.is_file():
        return []
    # Not splitlines(): it would also split at U+2028 inside a text.
    *lines, rest = path.read_bytes().split(b"\n")
    values = []
    for number, line in enumerate([*lines, rest] if rest else lines, start=1):
        try:
            values.append(json.loads(line))
        except ValueError as error:
            if number > len(lines):
                break
            raise RunFolderError(f"{path} line {number} is not valid JSON: {error}.") from None
    return values
