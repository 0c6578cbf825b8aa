"""Activation checkpointing of anyone's module: each repeated block keeps its input alone."""

from __future__ import annotations

import functools

from torch import nn
from torch.utils.checkpoint import checkpoint

from kleiber.errors import RecipeError

__all__ = ["enable_checkpointing_", "repeated_blocks"]


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """Return the blocks of `module`: the members of its lists of two or more modules of one type.

    Of lists of lists, as of the stages of a residual network, the innermost count. A plain layer of torch, such as a
    linear one, is not a block; a Transformer layer of torch is.

    Example:
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> len(repeated_blocks(nn.TransformerEncoder(layer, 3))), repeated_blocks(nn.Sequential(nn.ReLU(), nn.ReLU()))
        (3, [])
    """
    inner = [block for child in module.children() for block in repeated_blocks(child)]
    if not isinstance(module, nn.ModuleList | nn.Sequential):
        return inner
    members = list(module)
    are_alike = len(members) > 1 and len({type(member) for member in members}) == 1
    first = members[0] if members else None
    # A list is nothing that runs, and a sequence is a block only when it is not made of blocks.
    is_list = isinstance(first, nn.ModuleList) or (isinstance(first, nn.Sequential) and inner)
    return members if are_alike and not is_list and first is not None and _is_block(first) else inner


def enable_checkpointing_(module: nn.Module) -> None:
    """Make each block of `module` run forward again in the backward pass.

    A model of transformers does it its own way.

    Raises:
        RecipeError: No blocks are found, or the model of transformers has no checkpointing.
    """
    if callable(enable := getattr(module, "gradient_checkpointing_enable", None)):
        try:
            enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        except ValueError:
            raise RecipeError(
                f"{type(module).__name__} of transformers does not support activation checkpointing.",
                hint="plan it without --checkpointing",
            ) from None
        return
    blocks = repeated_blocks(module)
    if not blocks:
        raise RecipeError(
            f"{type(module).__name__} has no repeated blocks to checkpoint: no list of two or more modules of one type.",
            hint="put the blocks into an nn.ModuleList or nn.Sequential, or plan it without --checkpointing",
        )
    for block in blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def _is_block(module: nn.Module) -> bool:
    is_plain_layer = type(module).__module__.startswith("torch.nn") and not list(module.children())
    return not is_plain_layer and any(True for _ in module.parameters())
