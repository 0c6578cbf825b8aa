"""Delete tokens of texts.

Shapes: N texts, T tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment.draws import Draws
from kleiber.runs.data_shape import PAD_ID

__all__ = ["token_delete"]

_FRACTION = 0.1


def token_delete(tokens_NT: npt.NDArray[Any], strength: float, draws: Draws) -> npt.NDArray[Any]:
    """Return the texts, each token deleted with a probability of 0.1 times `strength`; those after it move up.

    A text keeps the token that was the least likely to go; padding fills the end.

    Source:
        Wei & Zou 2019, arXiv:1901.11196, section 2: random deletion, a tenth.
    """
    is_text = tokens_NT != PAD_ID
    chance = np.where(is_text, draws.uniform(tokens_NT.shape[1]), -1.0)
    is_kept = (chance >= _FRACTION * strength) | (chance == chance.max(1, keepdims=True))
    is_kept &= is_text
    order = np.argsort(~is_kept, axis=1, kind="stable")
    moved_up = np.take_along_axis(np.where(is_kept, tokens_NT, PAD_ID), order, axis=1)
    return moved_up.astype(tokens_NT.dtype)
