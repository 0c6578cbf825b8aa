"""Where the texts of a batch end: shorter ones are filled with padding.

Legend: B texts, T tokens of the longest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kleiber.runs.data_shape import PAD_ID

__all__ = ["is_token", "last_token"]


def is_token(tokens_BT: Tensor, pad_id: int = PAD_ID) -> Tensor:
    """Return which tokens are no padding, [B, T] bool; of a text that is all padding the first is read all the same.

    Example:
        >>> is_token(torch.tensor([[7, 8, 0], [0, 0, 0]])).tolist()
        [[True, True, False], [True, False, False]]
    """
    is_first_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device) == 0
    return (tokens_BT != pad_id) | is_first_T


def last_token(tokens_BT: Tensor, pad_id: int = PAD_ID) -> Tensor:
    """Return the position of the last token of each text, [B].

    Example:
        >>> last_token(torch.tensor([[7, 8, 0], [0, 0, 0]])).tolist()
        [1, 0]
    """
    positions_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
    return (is_token(tokens_BT, pad_id) * positions_T).amax(1)
