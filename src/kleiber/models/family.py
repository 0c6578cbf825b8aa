"""What the module of every family is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from kleiber.models.groups import ParamGroups

__all__ = ["FamilyModule", "title_of"]


class FamilyModule(nn.Module, ABC):
    """A module that knows how an optimizer treats its parameters.

    What it is called with says its data's shape: `module(tokens_BT)`, `module(images_BCHW)`, `module(features_BF)`,
    `module(series_BTF)`, `module(source_BS, target_BT)`, `module(images_BCHW, tokens_BT)`. It returns logits [B, T, V] of each
    next token where the shape has no outputs, else [B, num_outputs]; two towers return embeddings of images and of texts
    [B, E], of unit length, and the scale of their products.
    """

    @property
    def title(self) -> str:
        """What messages call it."""
        return type(self).__name__

    @abstractmethod
    def param_groups(self) -> ParamGroups:
        """Return the names of all parameters by how an optimizer treats them."""

    def auxiliary_loss(self) -> Tensor | None:
        """Return what the last forward pass in training adds to the task's loss, a scalar; None where there is nothing to add.

        It is given out once, so that no graph outlives its step.
        """
        return None


def title_of(module: nn.Module) -> str:
    """Return what messages call a module.

    Example:
        >>> title_of(nn.Linear(2, 3))
        'Linear'
    """
    return module.title if isinstance(module, FamilyModule) else type(module).__name__
