"""The `text:PATH` source: a user's own file or folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from kleiber.data.passages import Passage, split_documents
from kleiber.data.source_files import SourceFiles
from kleiber.data.tables import TABLE_SUFFIXES, read_table
from kleiber.data.text_spool import TextSpool
from kleiber.data.text_stream import COMPRESSED_SUFFIXES, inner_suffix, text_lines
from kleiber.errors import DataError, nearest

__all__ = ["TEXT_SUFFIXES", "text_files"]

TEXT_SUFFIXES = frozenset(
    [
        ".txt", ".text", ".md", ".rst", ".tex", ".org", ".adoc", ".html", ".htm", ".xml", ".py", ".pyi", ".pyx",
        ".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".hh", ".cu", ".cuh", ".m", ".mm", ".swift", ".rs", ".go",
        ".zig", ".java", ".kt", ".scala", ".groovy", ".js", ".jsx", ".mjs", ".ts", ".tsx", ".vue", ".css", ".scss",
        ".yaml", ".yml", ".toml", ".ini", ".cfg", ".sh", ".bash", ".zsh", ".fish", ".ps1", ".bat", ".rb", ".php",
        ".pl", ".pm", ".lua", ".r", ".jl", ".cs", ".fs", ".vb", ".hs", ".ml", ".mli", ".ex", ".exs", ".erl",
        ".clj", ".lisp", ".el", ".scm", ".sql", ".proto", ".cmake", ".v", ".sv", ".f", ".f90", ".asm", ".s", ".dart",
    ]
)  # fmt: skip
"""What is taken from a folder; a file that is named is read whatever its suffix."""

_EXAMPLE = "--set data.source=text:book.txt   (or a folder, .xz, .gz, .zst, .jsonl, .parquet)"


def text_files(path_typed: str, field: str | None) -> SourceFiles:
    """Return the text files at a path: the file, or those in the folder and below, sorted.

    Hidden files and files of other kinds are left out of a folder.

    Args:
        path_typed: What stood after `text:`.
        field: Text column of `.jsonl` and `.parquet` files.

    Raises:
        DataError: Nothing is there, or nothing that can be read, a table is compressed, or `field` would have no
            effect.
    """
    source = f"text:{path_typed}"
    path = Path(path_typed).expanduser()
    if not path_typed or not path.exists():
        siblings = (
            [item.name for item in path.parent.iterdir()] if path_typed and path.parent.is_dir() else []
        )
        clue = f" {nearest(path.name, siblings)}" if 0 < len(siblings) <= 20 else ""
        raise DataError(f"data.source '{source}': there is no such file or folder.{clue}", hint=_EXAMPLE)
    if path.is_dir():
        root, names = path, tuple(sorted(_text_names(path)))
        if not names:
            raise DataError(f"data.source '{source}': the folder holds no text files.", hint=_EXAMPLE)
    else:
        root, names = path.parent, (path.name,)
    _check_tables(source, names, field)
    return SourceFiles(source, root, names, partial(_read_file, field=field))


def _text_names(root: Path) -> Iterator[str]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for file in files:
            path = Path(folder) / file
            if not file.startswith(".") and inner_suffix(file) in TEXT_SUFFIXES | TABLE_SUFFIXES:
                yield path.relative_to(root).as_posix()


def _is_packed(name: str) -> bool:
    return Path(name).suffix.lower() in COMPRESSED_SUFFIXES


def _is_table(name: str) -> bool:
    return Path(name).suffix.lower() in TABLE_SUFFIXES


def _check_tables(source: str, names: tuple[str, ...], field: str | None) -> None:
    packed = next((name for name in names if _is_packed(name) and _is_table(Path(name).stem)), None)
    if packed is not None:
        tool = {".xz": "xz -dk", ".gz": "gzip -dk", ".zst": "zstd -d"}[Path(packed).suffix.lower()]
        raise DataError(
            f"data.source '{source}': {packed} is a compressed table, which must be unpacked first.",
            hint=f"{tool} {packed}   and move the compressed one away",
        )
    tables = [name for name in names if _is_table(name)]
    if tables and field is None:
        raise DataError(
            f"data.source '{source}': {tables[0]} is a table, and data.field must name its text column.",
            hint="--set data.field=text",
        )
    if field is not None and not tables:
        raise DataError(
            f"data.field names a column of .jsonl and .parquet files, and '{source}' has none.",
            got=field,
            hint="--set data.field=null",
        )


def _read_file(path: Path, name: str, spool: TextSpool, *, field: str | None) -> Iterator[Passage]:
    if field is not None and _is_table(name):
        return read_table(path, name, field, spool)
    return split_documents(name, text_lines(path), spool)
