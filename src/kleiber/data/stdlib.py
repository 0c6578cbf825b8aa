"""The `stdlib` source: the running Python's own standard library, real text that every machine has."""

from __future__ import annotations

import os
import sysconfig
import tokenize
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from kleiber.data.passages import Passage
from kleiber.data.source_files import SourceFiles
from kleiber.data.text_spool import TextSpool
from kleiber.errors import DataError

__all__ = ["stdlib_files"]

_LEFT_OUT_FOLDERS = (
    "site-packages", "dist-packages",  # not the standard library
    "test", "tests", "idle_test",  # some distributions strip them
    "__pycache__", "config-*",
)  # fmt: skip

_LEFT_OUT_FILES = (
    # Tables that programs wrote: character maps (and the stubs beside them, copies of each other), help
    # topics, HTML entities, string preparation (RFC 3454), installer schemas, build settings.
    "encodings/*", "pydoc_data/*", "html/entities.py", "stringprep.py", "msilib/*", "_sysconfigdata*",
    # Machines add this one.
    "sitecustomize.py",
)  # fmt: skip


def stdlib_files(root: Path | None = None) -> SourceFiles:
    """Return the standard library's hand-written modules, sorted by path.

    Args:
        root: Folder of a standard library; the running Python's by default.

    Raises:
        DataError: This Python has no sources on disk.
    """
    folder = root or Path(sysconfig.get_path("stdlib"))
    names = tuple(sorted(_modules(folder)))
    if not names:
        raise DataError(
            f"data.source 'stdlib': this Python has no standard library sources in {folder}.",
            hint="--set data.source=text:PATH   with a file or folder of your own",
        )
    return SourceFiles("stdlib", folder, names, _read_module)


def _modules(root: Path) -> Iterator[str]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not _matches(name, _LEFT_OUT_FOLDERS)]
        for file in files:
            name = (Path(folder) / file).relative_to(root).as_posix()
            if name.endswith(".py") and not _matches(name, _LEFT_OUT_FILES):
                yield name


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _read_module(path: Path, name: str, spool: TextSpool) -> Iterator[Passage]:
    # A module may declare its encoding (PEP 263); tokenize.open follows it.
    with tokenize.open(path) as stream:
        yield Passage(name, spool.put(stream))
