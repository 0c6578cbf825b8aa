"""`cifar10:DIR`: CIFAR-10 as published, in its "python" or its "binary" version.

Source:
    Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kleiber.data.array_pickle import load_array_pickle
from kleiber.data.corpus import Progress
from kleiber.data.prepared import NpyWriter, PreparedMeta, file_stats, open_prepared
from kleiber.data.sample_checks import refuse_without_effect
from kleiber.data.source import Part, Source
from kleiber.errors import DataError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["open_cifar10"]

_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IMAGE_BYTES = 3 * 32 * 32
_VERSION = 1
"""Of the preparation: raise it when the same files would give other arrays."""


def open_cifar10(
    recipe: DataRecipe,
    task: TaskRecipe,  # noqa: ARG001 - an opener's signature
    argument: str,
    *,
    cache: Path,
    on_progress: Progress,
) -> Source:
    """Return the 50,000 training and 10,000 test images, 3 x 32 x 32.

    Raises:
        DataError: A batch is missing or damaged, or a pickle holds anything but arrays, lists and strings.
        StorageError: The cache cannot be written.
    """
    refuse_without_effect(recipe)
    files = _batch_files(argument, recipe.source)

    def prepare(target: Path) -> PreparedMeta:
        on_progress("reading CIFAR-10")
        return _prepare(target, files)

    prepared = open_prepared(cache, "images", {"version": _VERSION, "cifar10": file_stats(files)}, prepare)
    samples = prepared.samples(images="images")
    whole = Part(samples, labels=prepared.read("labels"))
    num_train = int(prepared.read("num_train"))
    return Source(
        shape=samples.image_shape(len(_CLASSES)),
        train=whole.take(np.arange(num_train)),
        test=whole.take(np.arange(num_train, len(whole))),
        classes=_CLASSES,
        content_hash=prepared.meta.content_hash,
    )


def _batch_files(argument: str, source: str) -> list[Path]:
    """Return the five training batches and the test batch, all `.bin` or none."""
    folder = Path(argument).expanduser()
    suffix = ".bin" if (folder / f"{_BATCHES[0]}.bin").is_file() else ""
    files = [folder / f"{name}{suffix}" for name in _BATCHES]
    missing = [path.name for path in files if not path.is_file()]
    if not argument or missing:
        raise DataError(
            f"data.source '{source}' must name the folder with the batches of CIFAR-10; it has no {', '.join(missing)}.",
            hint="--set data.source=cifar10:cifar-10-batches-py   (or cifar-10-batches-bin)",
        )
    return files


def _prepare(target: Path, files: list[Path]) -> PreparedMeta:
    digest, labels = hashlib.sha256(), []
    with closing(NpyWriter(target / "images.npy")) as writer:
        for path in files:
            images, batch_labels = (_binary_batch if path.suffix == ".bin" else _python_batch)(path)
            digest.update(images.tobytes())
            writer.append(images.reshape(-1, 3, 32, 32))
            labels.append(batch_labels)
    np.save(target / "labels.npy", np.concatenate(labels))
    np.save(target / "num_train.npy", np.array(sum(map(len, labels[:-1]))))
    return PreparedMeta(content_hash=digest.hexdigest()[:16])


def _binary_batch(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Read records of one byte of label and 3,072 of pixels, red plane first."""
    raw = np.fromfile(path, np.uint8)
    if not len(raw) or len(raw) % (1 + _IMAGE_BYTES):
        raise DataError(
            f"{path} is not a whole batch of CIFAR-10: it must have a multiple of {1 + _IMAGE_BYTES} bytes.",
            got=len(raw),
        )
    records = raw.reshape(-1, 1 + _IMAGE_BYTES)
    return np.ascontiguousarray(records[:, 1:]), records[:, 0].astype(np.int64)


def _python_batch(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    content = load_array_pickle(path)
    named = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}
    data, labels = named.get("data"), named.get("labels")
    if (
        isinstance(data, np.ndarray)
        and data.ndim == 2
        and data.shape[1] == _IMAGE_BYTES
        and isinstance(labels, list)
        and len(labels) == len(data)
        and all(isinstance(label, int) for label in labels)
    ):
        return np.ascontiguousarray(data), np.array(labels, np.int64)
    raise DataError(
        f"{path} is not a batch of CIFAR-10: it needs data [N, {_IMAGE_BYTES}] of bytes and N labels."
    )
