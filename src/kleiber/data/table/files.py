"""Which files a table consists of, and which split each belongs to."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from kleiber.data.data import Split
from kleiber.data.text_stream import inner_suffix
from kleiber.errors import DataError, nearest

__all__ = ["TableFile", "split_in", "table_files"]

_SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""How people write which split a file or a row belongs to."""


@dataclass(frozen=True)
class TableFile:
    """One file of a table."""

    path: Path
    split: Split | None
    """What its name says."""


def table_files(source: str, path_typed: str, suffixes: Collection[str]) -> tuple[TableFile, ...]:
    """Return the file at a path, or those in the folder and below, sorted.

    In a folder, names such as `train.csv`, `x-valid.csv` and `test-00000-of-00002.parquet` say the split.

    Args:
        source: What the user typed, for errors.
        path_typed: What stood after the colon.
        suffixes: Of the files to take, packed or not.

    Raises:
        DataError: Nothing is there, a file has another suffix, or only some names say a split.
    """
    path = Path(path_typed).expanduser()
    example = f"--set data.source={source.partition(':')[0]}:FILE{min(suffixes)}"
    if not path_typed or not path.exists():
        siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        clue = f" {nearest(path.name, siblings)}" if path_typed and 0 < len(siblings) <= 20 else ""
        raise DataError(f"data.source '{source}': there is no such file or folder.{clue}", hint=example)
    if path.is_file():
        if inner_suffix(path.name) not in suffixes:
            raise DataError(
                f"data.source '{source}' must name a file that ends in {' or '.join(sorted(suffixes))}.",
                got=path.name,
                hint=example,
            )
        return (TableFile(path, None),)
    found = [
        TableFile(item, split_in(item.name))
        for item in sorted(path.rglob("*"))
        if item.is_file()
        and inner_suffix(item.name) in suffixes
        and not any(part.startswith(".") for part in item.relative_to(path).parts)
    ]
    _check(source, found, suffixes, example)
    return tuple(found)


def _check(source: str, found: list[TableFile], suffixes: Collection[str], example: str) -> None:
    if not found:
        raise DataError(
            f"data.source '{source}': the folder holds no {' or '.join(sorted(suffixes))} files.",
            hint=example,
        )
    says = [file for file in found if file.split is not None]
    if says and len(says) < len(found):
        silent = next(file for file in found if file.split is None)
        raise DataError(
            f"data.source '{source}': {says[0].path.name} says its split, and {silent.path.name} does not.",
            hint=f"rename it to train-{silent.path.name}, or move it away",
        )
    if says and not any(file.split == "train" for file in found):
        raise DataError(
            f"data.source '{source}': no file's name says that it is the train split.",
            got=[file.path.name for file in found[:5]],
        )


def split_in(name: str) -> Split | None:
    """Return the split that a name says: its first word that is one.

    Example:
        >>> split_in("adult-train.csv.xz"), split_in("test_2016_flickr"), split_in("constraints.csv")
        ('train', 'test', None)
    """
    words = re.split(r"[^a-z]+", name.casefold())
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), None)
