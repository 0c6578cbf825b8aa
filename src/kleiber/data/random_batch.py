"""A batch of made-up samples: what a step takes is wanted, not what it learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.batches import Batch
from kleiber.runs import DataShape, TaskName
from kleiber.runs.data_shape import InputKind

__all__ = ["random_batch"]

Arrays = dict[str, npt.NDArray[Any]]


def random_batch(shape: DataShape, task: TaskName, batch_size: int, *, seed: int = 0) -> Batch:
    """Return a batch with the roles, shapes and dtypes of a task's; no token is padding.

    Args:
        shape: Of a sample.
        task: What is asked.
        batch_size: Samples.
        seed: The same seed gives the same samples.

    Example:
        >>> shape = DataShape(inputs="features", num_features=3, num_outputs=2)
        >>> sorted((role, array.shape) for role, array in random_batch(shape, "classification", 4).arrays.items())
        [('features', (4, 3)), ('labels', (4,))]
    """
    generator = np.random.default_rng(seed)

    def tokens(num_more: int = 0) -> npt.NDArray[np.int64]:
        size = (batch_size, (shape.context or 1) + num_more)
        return generator.integers(1, shape.vocab_size or 2, size, np.int64)

    def numbers(*sizes: int | None) -> npt.NDArray[np.float32]:
        return generator.standard_normal((batch_size, *(size or 1 for size in sizes)), np.float32)

    image = (shape.channels, shape.height, shape.width)
    makers: dict[InputKind, Callable[[], Arrays]] = {
        # A sequence that is modelled has one token more: the last target.
        "tokens": lambda: {"tokens": tokens(1 if task == "lm" else 0)},
        "images": lambda: {"images": numbers(*image)},
        "features": lambda: {"features": numbers(shape.num_features)},
        "series": lambda: {"series": numbers(shape.context, shape.num_features)},
        "pairs": lambda: {"source": tokens(), "target": tokens()},
        "captions": lambda: {"images": numbers(*image), "tokens": tokens()},
    }
    arrays = makers[shape.inputs]()
    if task == "classification":
        # A single output tells two classes apart.
        arrays["labels"] = generator.integers(0, max(2, shape.num_outputs or 2), batch_size, np.int64)
    elif task == "regression":
        arrays["values"] = numbers(shape.num_outputs)
    return Batch(arrays, cursor=batch_size)
