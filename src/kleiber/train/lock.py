"""One process a run folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from kleiber.errors import UsageError
from kleiber.runs.files import storage_errors

__all__ = ["exclusive"]


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; the system lets go when the process ends, however it ends.

    Raises:
        UsageError: Another process holds it.
    """
    path = folder / ".lock"
    with storage_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(
            f"{folder} is being trained by another process.",
            hint="wait for it, or choose another folder with -o",
        ) from None
    finally:
        os.close(handle)
