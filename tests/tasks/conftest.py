"""Samples in memory, as a task sees data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kleiber.data import Batch
from kleiber.runs import DataMeta, DataShape


class ArrayData:
    """Validation, and test where asked, of the same arrays; batches in order."""

    seed = 0

    def __init__(
        self, arrays: dict[str, Any], *, has_test: bool, tokenizer_path: Path | None, **meta: Any
    ) -> None:
        self.arrays = {role: np.asarray(array) for role, array in arrays.items()}
        self.tokenizer_path = tokenizer_path
        num = len(next(iter(self.arrays.values())))
        self.meta = DataMeta(
            source="memory", unit="sample", corpus_hash="c", python_version="3", eval_hash="e", num_documents=num,
            num_train_tokens=num, num_val_tokens=num, num_test_tokens=num if has_test else 0,
            **({"shape": DataShape(inputs="features", num_features=1)} | meta),
        )  # fmt: skip

    def batches(self, split: str, cursor: int, batch_size: int) -> Iterator[Batch]:
        num = self.meta.num_val_tokens
        for start in range(cursor, num, batch_size):
            part = slice(start, min(start + batch_size, num))
            yield Batch({role: array[part] for role, array in self.arrays.items()}, cursor=part.stop)


@pytest.fixture
def make_data() -> Callable[..., ArrayData]:
    def make(
        arrays: dict[str, Any], *, has_test: bool = False, tokenizer_path: Path | None = None, **meta: Any
    ) -> ArrayData:
        return ArrayData(arrays, has_test=has_test, tokenizer_path=tokenizer_path, **meta)

    return make
