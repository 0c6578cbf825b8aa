"""Which files a source consists of, and how each is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kleiber.data.passages import Passage
from kleiber.data.text_spool import TextSpool
from kleiber.errors import DataError

__all__ = ["SourceFiles"]


@dataclass(frozen=True)
class SourceFiles:
    """The files of a source in their fixed order; listing them reads none of them."""

    source: str
    """What the user typed."""
    root: Path
    names: tuple[str, ...]
    """POSIX paths relative to `root`, sorted."""
    read_file: Callable[[Path, str, TextSpool], Iterator[Passage]]
    """From a path, its name and where texts go to its documents."""

    def stats(self) -> list[tuple[str, int, int]]:
        """Return name, size [bytes] and time of change [ns] of every file: what tells that nothing changed."""
        stats = ((name, (self.root / name).stat()) for name in self.names)
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]

    def documents(self, spool: TextSpool) -> Iterator[Passage]:
        """Yield the documents that hold more than white space; their texts go to `spool`.

        Raises:
            DataError: There is none, or a file cannot be read.
            StorageError: The disk of the spool is full.
        """
        num_documents = 0
        for name in self.names:
            try:
                for passage in self.read_file(self.root / name, name, spool):
                    if not passage.is_blank:
                        num_documents += 1
                        yield passage
            except OSError as error:
                raise DataError(
                    f"data.source '{self.source}': {name} cannot be read: {error.strerror or error}."
                ) from None
        if not num_documents:
            raise DataError(
                f"data.source '{self.source}' is empty: it holds no text.",
                hint="--set data.source=text:PATH   with a file that holds text, or data.source=stdlib",
            )
