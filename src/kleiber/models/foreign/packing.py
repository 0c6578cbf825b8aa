"""Causal masks of transformers on fake tensors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["nothing_packed"]


@contextmanager
def nothing_packed() -> Iterator[None]:
    """Take batches for sequences that are not packed, as examples of inputs are.

    transformers looks at position ids to see whether several sequences lie in one row; then it makes an explicit mask.
    Fakes have no values to look at, and it would make a mask that the real run does not have.
    """
    masks: Any = sys.modules.get("transformers.masking_utils")
    if masks is None or not hasattr(masks, "find_packed_sequence_indices"):
        yield
        return
    look = masks.find_packed_sequence_indices
    masks.find_packed_sequence_indices = lambda *_, **__: None
    try:
        yield
    finally:
        masks.find_packed_sequence_indices = look
