"""The activations that families offer, by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn, sigmoid, tanh

from kleiber.models.activations import ActivationName

__all__ = ["ACTIVATIONS", "relu2"]


def relu2(x: Tensor) -> Tensor:
    """Return relu(x)^2, of any shape.

    Source:
        So et al. 2021, arXiv:2109.08668.

    Example:
        >>> from torch import tensor
        >>> relu2(tensor([-2.0, 3.0])).tolist()
        [0.0, 9.0]
    """
    return nn.functional.relu(x).square()


ACTIVATIONS: dict[ActivationName, Callable[[Tensor], Tensor]] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "relu2": relu2,
}
"""Each maps a tensor to one of the same shape, number by number."""
