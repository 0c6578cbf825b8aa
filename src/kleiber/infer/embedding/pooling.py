"""One vector of the vectors of a text's tokens.

Legend: B texts, T tokens of the longest, W width.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor

__all__ = ["Pooling", "pooled"]

Pooling: TypeAlias = Literal["mean", "cls"]
"""`mean` over the tokens that are no padding; `cls` is the first token's vector."""


def pooled(states_BTW: Tensor, is_token_BT: Tensor, pooling: Pooling) -> Tensor:
    """Return a vector for each text, [B, W].

    Args:
        states_BTW: Of an encoder.
        is_token_BT: Which tokens are no padding, bool; one of each text is none.
        pooling: Which.

    Source:
        Reimers and Gurevych 2019, arXiv:1908.10084, section 3.

    Example:
        >>> import torch
        >>> states_BTW = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [9.0, 9.0]]])
        >>> pooled(states_BTW, torch.tensor([[True, True, False]]), "mean").tolist()
        [[2.0, 2.0]]
        >>> pooled(states_BTW, torch.tensor([[True, True, False]]), "cls").tolist()
        [[1.0, 0.0]]
    """
    if pooling == "cls":
        return states_BTW[:, 0]
    counts_BT1 = is_token_BT[:, :, None].to(states_BTW.dtype)
    return (states_BTW * counts_BT1).sum(1) / counts_BT1.sum(1)
