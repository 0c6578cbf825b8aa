"""How much each block changes what passes through it.

Source:
    Men et al. 2024, "ShortGPT: layers in large language models are more redundant than you expect", arXiv:2403.03853,
    equation 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.compress.uses import inputs_of
from kleiber.data import Batch
from kleiber.tasks.evaluation import evaluating

__all__ = ["block_influence"]

_IMAGE_DIMS = 4
"""Of images [B, C, H, W]; the features of all else come last."""


def block_influence(module: nn.Module, batches: Iterable[Batch], blocks: Sequence[str]) -> dict[str, float]:
    """Return 1 minus the cosine between what enters a block and what leaves it, the mean over all samples and places.

    Args:
        module: Runs in evaluation mode.
        batches: What it reads.
        blocks: Names of modules whose first input and output (the first of several) have one shape.
    """
    sums = dict.fromkeys(blocks, 0.0)
    nums = dict.fromkeys(blocks, 0)

    def watch(name: str) -> Any:
        def see(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            before = args[0] if args else kwargs["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            cosines = _cosines(before, after)
            sums[name] += float((1 - cosines).sum())
            nums[name] += cosines.numel()

        return see

    handles = [
        module.get_submodule(name).register_forward_hook(watch(name), with_kwargs=True) for name in blocks
    ]
    try:
        with evaluating(module):
            for batch in batches:
                module(*inputs_of(batch))
    finally:
        for handle in handles:
            handle.remove()
    return {name: sums[name] / max(1, nums[name]) for name in blocks}


def _cosines(before: Tensor, after: Tensor) -> Tensor:
    dim = 1 if before.ndim == _IMAGE_DIMS else -1
    return F.cosine_similarity(before.to(torch.float64), after.to(torch.float64), dim=dim)
