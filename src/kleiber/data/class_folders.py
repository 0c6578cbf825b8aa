"""Folders whose names are classes: `ROOT/CLASS/FILE`, or `ROOT/train/CLASS/FILE` with `val` and `test` beside it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kleiber.data.prepared import Prepared
from kleiber.data.sample_checks import num_in
from kleiber.data.source import Part, Source
from kleiber.errors import DataError

__all__ = ["ClassFolders", "class_folders"]

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}  # fmt: skip


@dataclass(frozen=True)
class ClassFolders:
    """The files of class folders in a fixed order: by split, class, path."""

    root: Path
    classes: tuple[str, ...]
    """Sorted."""
    files: tuple[Path, ...]
    labels: npt.NDArray[np.int64]
    """Of each file."""
    splits: tuple[str, ...]
    """Of each file: train, val or test."""

    def name(self, index: int) -> str:
        """Return a file's path below the root."""
        return self.files[index].relative_to(self.root).as_posix()

    def source_of(self, prepared: Prepared) -> Source:
        """Return what was prepared of the files: pictures in `images.npy`, which file each came from in `kept.npy`."""
        kept = prepared.read("kept")
        samples = prepared.samples(images="images")
        whole = Part(samples, labels=self.labels[kept])
        splits = np.array(self.splits)[kept]
        parts = {name: whole.take(np.flatnonzero(splits == name)) for name in ("train", "val", "test")}
        return Source(
            shape=samples.image_shape(len(self.classes)),
            train=parts["train"],
            val=parts["val"] if "val" in self.splits else None,
            test=parts["test"] if "test" in self.splits else None,
            classes=self.classes,
            content_hash=prepared.meta.content_hash,
            num_bad_samples=prepared.meta.num_bad_samples,
            notes=prepared.meta.notes,
        )


def class_folders(path_typed: str, suffixes: Collection[str], *, source: str, what: str) -> ClassFolders:
    """Return the files of a kind in the class folders at a path and below them; hidden ones are left out.

    Args:
        path_typed: What stood after the colon.
        suffixes: Of the files, lower case, with the dot.
        source: What the user typed, for errors.
        what: Such as `image`, for errors.

    Raises:
        DataError: There is no such folder, no class folders, a class without files, or a class that train lacks.
    """
    root = Path(path_typed).expanduser()
    if not path_typed or not root.is_dir():
        raise DataError(
            f"data.source '{source}': there is no such folder.", hint=f"--set data.source={what}folder:FOLDER"
        )
    found = {
        split: {path.name: sorted(_files(path, suffixes)) for path in _subfolders(folder)}
        for split, folder in _split_folders(root, source).items()
    }
    classes = tuple(sorted(found["train"]))
    if not classes:
        raise DataError(
            f"data.source '{source}': {what}s must stand in a folder for each class, and there is none.",
            hint=f"{root}/cat/1{min(suffixes)}   and {root}/dog/1{min(suffixes)}",
        )
    rows = [
        (split, classes.index(name), path)
        for split, by_class in found.items()
        for name in _checked(by_class, split, classes, source=source, what=what)
        for path in by_class[name]
    ]
    return ClassFolders(
        root,
        classes,
        files=tuple(path for _, _, path in rows),
        labels=np.array([label for _, label, _ in rows], np.int64),
        splits=tuple(split for split, _, _ in rows),
    )


def _split_folders(root: Path, source: str) -> dict[str, Path]:
    """Return the folders of train, val and test; the root itself where no folder is named `train`."""
    named: dict[str, Path] = {}
    for folder in _subfolders(root):
        split = _SPLITS.get(folder.name.lower())
        if split in named:
            raise DataError(
                f"data.source '{source}': {named[split].name} and {folder.name} both say that they are the {split} split.",
                hint="put them together, or name one of them val or test",
            )
        if split is not None:
            named[split] = folder
    if "train" not in named:
        return {"train": root}
    others = [folder.name for folder in _subfolders(root) if folder not in named.values()]
    if others:
        raise DataError(
            f"data.source '{source}': beside {named['train'].name} stand folders that are no splits: {', '.join(others[:5])}.",
            hint="name them val and test, or move them away",
        )
    return {split: named[split] for split in ("train", "val", "test") if split in named}


def _checked(
    by_class: dict[str, list[Path]], split: str, classes: tuple[str, ...], *, source: str, what: str
) -> list[str]:
    strange = sorted(set(by_class) - set(classes))
    if strange:
        raise DataError(
            f"data.source '{source}': the {split} split has {num_in(len(strange), 'class', 'classes')} that train has not: "
            f"{', '.join(strange[:5])}.",
            hint="add training samples of it, or leave the class out",
        )
    empty = sorted(name for name, files in by_class.items() if not files)
    if empty:
        raise DataError(
            f"data.source '{source}': {num_in(len(empty), 'folder')} of the {split} split without a single {what}: "
            f"{', '.join(empty[:5])}.",
            hint="remove the folder, or put files into it",
        )
    return sorted(by_class)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path, suffixes: Collection[str]) -> Iterator[Path]:
    for parent, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Path(parent) / name
