"""`npz:FILE`: NumPy's archives in one of three layouts, told by the names of their arrays.

- `x_train`, `y_train`, and `x_val`, `y_val`, `x_test`, `y_test` where there are such splits;
- `jpeg`, `offsets`, `labels`: encoded images end to end (any format that Pillow reads); image i is `jpeg[offsets[i]:offsets[i + 1]]`;
- `audio`, `offsets`, `labels`, `sample_rate`: sounds end to end.

The latter two take `is_test` [N]; without it, a file beside it whose name has `test` where this one has `train` is the test
split. All take `classes`: names by label.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.corpus import Progress
from kleiber.data.npz_arrays import Arrays, array_source, prepare_arrays
from kleiber.data.npz_blobs import blob_source, prepare_audio, prepare_jpeg
from kleiber.data.prepared import Prepared, PreparedMeta, file_stats, open_prepared
from kleiber.data.sample_checks import refuse_without_effect
from kleiber.data.source import Source
from kleiber.errors import DataError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["open_npz"]

_VERSION = 1
"""Of the preparation: raise it when the same files would give other arrays."""

_SAVE_HINT = "numpy.savez('data.npz', x_train=x, y_train=y)"

_LAYOUTS: dict[str, tuple[str, ...]] = {
    "arrays": ("x_train", "y_train"),
    "jpeg": ("jpeg", "offsets", "labels"),
    "audio": ("audio", "offsets", "labels", "sample_rate"),
}
_PREPARE: dict[str, Callable[[Path, Sequence[Arrays], DataRecipe], PreparedMeta]] = {
    "arrays": prepare_arrays,
    "jpeg": prepare_jpeg,
    "audio": prepare_audio,
}
_OPEN: dict[str, Callable[[Prepared, DataRecipe, TaskRecipe], Source]] = {
    "arrays": array_source,
    "jpeg": blob_source,
    "audio": blob_source,
}


def open_npz(
    recipe: DataRecipe, task: TaskRecipe, argument: str, *, cache: Path, on_progress: Progress
) -> Source:
    """Return the samples of an archive, unpacked and decoded into the cache on the first call.

    Raises:
        DataError: There is no such file, it is damaged or holds Python objects, or its arrays are of no layout or do not fit.
        MissingExtraError: Its images need Pillow.
        StorageError: The cache cannot be written.
    """
    path = Path(argument).expanduser()
    if not argument or not path.is_file():
        raise DataError(
            f"data.source '{recipe.source}': there is no such file.", hint="--set data.source=npz:data.npz"
        )
    layout = _layout(path, recipe.source)
    refuse_without_effect(recipe, used={"image_size"} if layout == "jpeg" else ())
    paths = [path, *_beside(path, layout)]

    def prepare(target: Path) -> PreparedMeta:
        on_progress(f"unpacking {path.name}")
        archives = [_read(each, layout, recipe.source) for each in paths]
        meta = _PREPARE[layout](target, archives, recipe)
        notes = [f"The test split is {other.name}, which stands beside {path.name}." for other in paths[1:]]
        return meta.model_copy(update={"notes": (*meta.notes, *notes)})

    key = {
        "version": _VERSION,
        "files": file_stats(paths),
        "recipe": recipe.model_dump(include={"image_size", "skips_bad_samples"}),
    }
    return _OPEN[layout](open_prepared(cache, "npz", key, prepare), recipe, task)


def _names(path: Path, source: str) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"data.source '{source}': {path.name} is not a whole .npz file: {error}.", hint=_SAVE_HINT
        ) from None


def _layout(path: Path, source: str) -> str:
    names = _names(path, source)
    for layout, needed in _LAYOUTS.items():
        if names.issuperset(needed):
            return layout
    known = "; or ".join(", ".join(needed) for needed in _LAYOUTS.values())
    raise DataError(
        f"data.source '{source}': the arrays of {path.name} must be named {known}.",
        got=", ".join(sorted(names)) or None,
        hint=_SAVE_HINT,
    )


def _beside(path: Path, layout: str) -> list[Path]:
    """Return the file with the test split, where there is one."""
    other = path.with_name(path.name.replace("train", "test"))
    is_test_file = layout != "arrays" and other != path and other.is_file()
    return [other] if is_test_file and "is_test" not in _names(path, str(path)) else []


def _read(path: Path, layout: str, source: str) -> Arrays:
    """Read all arrays: they are about to be copied to the cache."""
    missing = set(_LAYOUTS[layout]) - _names(path, source)
    if missing:
        raise DataError(
            f"data.source '{source}': {path.name} lacks the arrays {', '.join(sorted(missing))}.",
            hint="give both archives the same arrays",
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: _array(archive, name, path, source) for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(
            f"data.source '{source}': {path.name} cannot be read: {reason}.",
            hint="save it again, or fetch it again from where it came",
        ) from None


def _array(archive: Mapping[str, npt.NDArray[Any]], name: str, path: Path, source: str) -> npt.NDArray[Any]:
    try:
        return archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"data.source '{source}': the array {name} of {path.name} holds pickled Python objects, which are not read: "
            "they could run code.",
            hint=f"numpy.savez('data.npz', {name}=numpy.array(list({name})), ...)",
        ) from None
