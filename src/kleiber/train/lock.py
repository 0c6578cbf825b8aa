"""One process a run folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from kleiber.errors import UsageError
from kleiber.runs.files import storage_errors

__all__ = ["exclusive", "is_held", "require_free"]

_LOCK = ".lock"
_NUM_TRIES, _PAUSE_S = 10, 0.02


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; the system lets go when the process ends, however it ends.

    A folder that was made for it and in which nothing was written is removed again.

    Raises:
        UsageError: Another process holds it.
    """
    is_new = not folder.exists()
    handle = _taken(folder)
    try:
        yield
    finally:
        if is_new:
            _remove_unused(folder)
        os.close(handle)


def _taken(folder: Path) -> int:
    """Return the open lock of a folder, ours, after making the folder where there is none."""
    path = _lock_path(folder)
    while True:
        with storage_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _take_patiently(handle):
            os.close(handle)
            raise _held(folder)
        # Whoever held it may have removed it with its folder, and another stand there by now.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)


def _remove_unused(folder: Path) -> None:
    """Remove a folder in which nothing but the lock was ever written: what was asked could not be begun."""
    with contextlib.suppress(OSError):
        if [path.name for path in folder.iterdir()] == [_LOCK]:
            _lock_path(folder).unlink()
            folder.rmdir()


def is_held(folder: Path) -> bool:
    """Return whether a live process holds `folder`."""
    try:
        handle = os.open(_lock_path(folder), os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not _take(handle)
    finally:
        os.close(handle)


def require_free(parent: Path) -> None:
    """Do nothing where no folder in `parent` is held.

    Raises:
        UsageError: A live process holds one.
    """
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if is_held(folder):
            raise _held(folder)


def _held(folder: Path) -> UsageError:
    return UsageError(
        f"{folder} is being written by another process.",
        hint="wait for it, or choose another folder with -o",
    )


def _lock_path(folder: Path) -> Path:
    return folder / _LOCK


def _take_patiently(handle: int) -> bool:
    """Return whether the lock is ours; `is_held` of another process may have it for a moment."""
    for _ in range(_NUM_TRIES):
        if _take(handle):
            return True
        time.sleep(_PAUSE_S)
    return False


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
