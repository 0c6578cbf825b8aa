"""Hide tokens of texts.

Shapes: N texts, T tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment.draws import Draws
from kleiber.runs.data_shape import PAD_ID

__all__ = ["MASK_ID", "token_mask"]

_FRACTION = 0.15

MASK_ID = 188
"""The token of the byte 0xFF, which stands in no UTF-8 text: each vocabulary has it at the same place, after `<|endoftext|>`
and 187 other bytes."""


def token_mask(tokens_NT: npt.NDArray[Any], strength: float, draws: Draws) -> npt.NDArray[Any]:
    """Return the texts, each token hidden with a probability of 0.15 times `strength`; padding stays.

    Source:
        Devlin et al. 2019, arXiv:1810.04805, section 3.1: the fraction.
    """
    is_hidden = (draws.uniform(tokens_NT.shape[1]) < _FRACTION * strength) & (tokens_NT != PAD_ID)
    return np.where(is_hidden, tokens_NT.dtype.type(MASK_ID), tokens_NT)
