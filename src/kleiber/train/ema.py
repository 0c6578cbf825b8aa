"""A running mean of the weights over the steps of training: what it validates and saves instead of the last ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kleiber.train.named_tensors import copy_named_

__all__ = ["Ema"]


class Ema:
    """The exponential moving average of a module's weights and of its buffers.

    The mean after n steps is a weighted mean of the weights after each of them: the newest weighs most, each earlier one
    `decay` times the next. The weights at the start do not count: their share is divided out as Adam divides out that of
    its zeros, so a short run is averaged as well as a long one. Buffers in floating point, such as the statistics of
    BatchNorm, are averaged alike; integers are those of the last step; buffers that a checkpoint leaves out do not change.

    Args:
        module: Is read by `update`, and lent to the mean by `applied`.
        decay: In (0, 1); the mean reaches back over about 1 / (1 - decay) steps.

    Source:
        Kingma & Ba 2015, arXiv:1412.6980, section 7.2.

    Example:
        >>> module = nn.Linear(1, 1, bias=False)
        >>> ema = Ema(module, decay=0.5)
        >>> for weight in (3.0, 6.0):
        ...     _ = nn.init.constant_(module.weight, weight)
        ...     ema.update()
        >>> with ema.applied():
        ...     round(module.weight.item(), 4)  # (0.5 * 3 + 6) / 1.5
        5.0
        >>> module.weight.item()
        6.0
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        saved = module.state_dict().keys()
        buffers = {name: buffer for name, buffer in module.named_buffers() if name in saved}
        self._live = {name: tensor.detach() for name, tensor in module.named_parameters()} | buffers
        self._mean = {name: tensor.clone() for name, tensor in self._live.items()}
        self._num_updates = torch.zeros((), dtype=torch.int64)
        self._averaged = [name for name, tensor in self._live.items() if tensor.is_floating_point()]
        self._copied = [name for name in self._live if name not in set(self._averaged)]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they stand after a step."""
        self._num_updates += 1
        share = (1 - self._decay) / (1 - self._decay ** int(self._num_updates))
        means, lives = ([kind[name] for name in self._averaged] for kind in (self._mean, self._live))
        if means:
            torch._foreach_lerp_(means, lives, share)
        for name in self._copied:
            self._mean[name].copy_(self._live[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the mean into the module, and back what stood there, to the last bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def copy_to_module_(self) -> None:
        """Set the module to the mean for good."""
        for name, tensor in self._live.items():
            tensor.copy_(self._mean[name])

    def tensors(self) -> dict[str, Tensor]:
        """Return the whole state by name; the tensors are the state itself."""
        return {"num_updates": self._num_updates} | {
            f"mean.{name}": tensor for name, tensor in self._mean.items()
        }

    def load_tensors_(self, saved: dict[str, Tensor]) -> None:
        """Set the state to what `tensors` returned.

        Raises:
            ValueError: Names or shapes differ.
        """
        copy_named_(self.tensors(), saved, "the running mean")

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange values, one tensor at a time: views of the weights and tied ones stay what they are."""
        for name, live in self._live.items():
            held = live.clone()
            live.copy_(self._mean[name])
            self._mean[name].copy_(held)
