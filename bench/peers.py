"""What other tools say of a module: parameters, FLOPs of a forward pass, memory of a training step.

Each is asked the way its documentation does. What a tool cannot do is None; where it fails, the sentence says how.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from kleiber.models.subject import Inputs

__all__ = ["PEERS", "PeerSays"]


@dataclass(frozen=True)
class PeerSays:
    """Of one module."""

    memory_bytes: float | None = None
    """Of a training step."""
    num_params: int | None = None
    forward_flops: float | None = None
    """2 per multiply-add."""
    failure: str | None = None


def torchinfo(module: nn.Module, inputs: Inputs) -> PeerSays:
    """Its "Estimated Total Size": inputs, results of layers forward and backward, parameters."""
    from torchinfo import summary  # noqa: PLC0415 - bench only

    given = dict(inputs.kwargs) or list(inputs.args)
    says = summary(module, input_data=given, mode="train", verbose=0)
    return PeerSays(
        memory_bytes=says.total_input + says.total_output_bytes + says.total_param_bytes,
        num_params=says.total_params,
        forward_flops=2.0 * says.total_mult_adds,
    )


def calflops(module: nn.Module, inputs: Inputs) -> PeerSays:
    """Its FLOPs of a forward pass; it says nothing of memory."""
    from calflops import calculate_flops  # noqa: PLC0415 - bench only

    flops, _, params = calculate_flops(
        module,
        args=list(inputs.args),
        kwargs=dict(inputs.kwargs),
        print_results=False,
        print_detailed=False,
        output_as_string=False,
    )
    return PeerSays(num_params=int(params), forward_flops=float(flops))


def accelerate(module: nn.Module, _: Inputs) -> PeerSays:
    """The column "Training using Adam" of `accelerate estimate-memory` for float32: four times the weights."""
    from accelerate.commands.estimate import estimate_training_usage  # noqa: PLC0415 - bench only
    from accelerate.utils import calculate_maximum_sizes  # noqa: PLC0415 - the same

    total_bytes, _largest = calculate_maximum_sizes(module)
    return PeerSays(memory_bytes=float(max(estimate_training_usage(total_bytes, "float32").values())))


def deepspeed(module: nn.Module, _: Inputs) -> PeerSays:
    """The published 16 bytes a parameter: fp32 weights, gradients, momentum and variance; activations left out.

    Source:
        DeepSpeed's documentation, "Memory Requirements": "16b for fp32: 4b params, 4b grads, 4b momentum and 4b
        variance per parameter". Its 18 and 20 add fp16 copies, which nothing here has.
    """
    num_params = sum(param.numel() for param in module.parameters())
    return PeerSays(memory_bytes=16.0 * num_params, num_params=num_params)


PEERS: dict[str, Callable[[nn.Module, Inputs], PeerSays]] = {
    "torchinfo": torchinfo,
    "accelerate": accelerate,
    "deepspeed": deepspeed,
    "calflops": calflops,  # last: it replaces functions of torch while it counts
}
