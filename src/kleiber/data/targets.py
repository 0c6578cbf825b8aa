"""What counts of a target text.

`END_OF_TEXT_ID`, which is `PAD_ID`, stands for three things in a target [B, T]: it begins every text, it ends every text that was
not cut, and it fills the rest; a tokenizer that was not trained here may end texts with a token of its own. A decoder reads `target_BT[:, :-1]` and predicts `target_BT[:, 1:]`: the tokens and the first end,
not the padding.

Legend: B texts, T tokens of the targets.
"""

from __future__ import annotations

from torch import Tensor

from kleiber.data.tokenizer import END_OF_TEXT_ID

__all__ = ["counted"]


def counted(target_BT: Tensor, end_id: int = END_OF_TEXT_ID) -> Tensor:
    """Return which tokens to predict count: those up to the first end and that end itself.

    Args:
        target_BT: What is to be predicted, without the token that begins it: `batch["target"][:, 1:]`.
        end_id: What ends a text.

    Returns:
        [B, T] bool.

    Example:
        >>> import torch
        >>> counted(torch.tensor([[7, 8, 0, 0], [7, 8, 9, 5]])).tolist()
        [[True, True, True, False], [True, True, True, True]]
    """
    is_end_BT = (target_BT == end_id).long()
    return is_end_BT.cumsum(1) == is_end_BT
