"""Arrays that are decoded once and then mapped from the cache: as large as the disk, hardly any memory.

Shapes: N samples.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.errors import DataError, RunFolderError
from kleiber.runs.data_shape import DataShape
from kleiber.runs.document import Document, hash_of
from kleiber.runs.files import write_folder

__all__ = ["MappedSamples", "NpyWriter", "Prepared", "PreparedMeta", "file_stats", "open_prepared"]


class PreparedMeta(Document):
    """What was prepared: `meta.json` beside the arrays."""

    content_hash: str
    """Of all samples in order."""
    classes: tuple[str, ...] = ()
    num_bad_samples: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A folder of the cache with arrays as `NAME.npy`."""

    folder: Path
    meta: PreparedMeta

    def has(self, name: str) -> bool:
        """Return whether there is such an array."""
        return self._path(name).is_file()

    def read(self, name: str) -> npt.NDArray[Any]:
        """Return an array, read into memory."""
        return _mapped(self._path(name), mmap_mode=None)

    def samples(self, **names: str) -> MappedSamples:
        """Return the samples that stand in these arrays, by role; they stay on disk."""
        return MappedSamples({role: self._path(name) for role, name in names.items()})

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


@dataclass(frozen=True)
class MappedSamples:
    """Samples in `.npy` files, mapped; a process that is handed them opens the files itself."""

    paths: Mapping[str, Path]
    """Of [N, ...], by role."""

    def __len__(self) -> int:
        """Return N."""
        return len(next(iter(self.arrays.values())))

    def __getstate__(self) -> dict[str, Any]:
        """Return the paths alone: a pickled map would be a copy of all samples."""
        return {"paths": self.paths}

    @cached_property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays, not in memory."""
        return {role: _mapped(path, mmap_mode="r") for role, path in self.paths.items()}

    def image_shape(self, num_outputs: int | None) -> DataShape:
        """Return the shape of `images` [N, C, H, W] with so many classes or values."""
        _, channels, height, width = self.arrays["images"].shape
        return DataShape(
            inputs="images", channels=channels, height=height, width=width, num_outputs=num_outputs
        )

    def gather(self, indices: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays [B, ...] of these samples."""
        return {role: np.asarray(array[indices]) for role, array in self.arrays.items()}


def file_stats(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return path, size [bytes] and time of change [ns]: what tells that nothing changed without reading it."""
    stats = ((path, path.stat()) for path in paths)
    return [(str(path.resolve()), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def open_prepared(
    cache: Path, kind: str, key: Mapping[str, Any], prepare: Callable[[Path], PreparedMeta]
) -> Prepared:
    """Return what `prepare` once wrote for this key.

    Args:
        cache: The cache's folder.
        kind: Names the folder in it, such as `images`.
        key: All that the result depends on, the version of the preparation and the files' stats included; JSON.
        prepare: Fills an empty folder with `.npy` files and says what they are.

    Raises:
        DataError: What stands in the cache is damaged.
        StorageError: The cache cannot be written.
    """
    folder = cache / kind / hash_of(dict(key))
    if not folder.is_dir():
        write_folder(folder, lambda target: prepare(target).write(target / "meta.json"))
    try:
        return Prepared(folder, PreparedMeta.read(folder / "meta.json"))
    except (OSError, RunFolderError) as error:
        raise _damaged(folder, error) from None


def _mapped(path: Path, mmap_mode: Any) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path.parent, error) from None
    return array


def _damaged(folder: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0]
    return DataError(
        f"the prepared data {folder} is damaged: {reason}", hint=f"rm -r {folder}   and run again"
    )


class NpyWriter:
    """Writes an array [N, ...] to a `.npy` file a few samples at a time; N is known when it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: io.BufferedWriter | None = None
        self._num = 0
        self._row: tuple[Any, tuple[int, ...]] = (np.dtype(np.float32), ())

    @property
    def num(self) -> int:
        """Samples written so far."""
        return self._num

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Write samples after the others.

        Args:
            rows: [B, ...], of the same type and shape each time.
        """
        if self._file is None:
            self._row = (rows.dtype, rows.shape[1:])
            self._file = self._path.open("wb")
            self._write_header()
        if self._row != (rows.dtype, rows.shape[1:]):
            raise ValueError(f"rows must be {self._row}, got {(rows.dtype, rows.shape[1:])}")
        self._file.write(np.ascontiguousarray(rows).tobytes())
        self._num += len(rows)

    def close(self) -> None:
        """Write how many there are; nothing appended gives an empty array."""
        if self._file is None:
            self._file = self._path.open("wb")
        # NumPy pads the header so that a longer first axis fits where a shorter one stood.
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        assert self._file is not None  # noqa: S101 - opened by both callers
        dtype, shape = self._row
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (self._num, *shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
