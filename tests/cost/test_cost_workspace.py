"""What kernels hold beside tensors: sizes worked out by hand, each of them also measured (docs/log.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from kleiber.cost.trace.fake import fake_module
from kleiber.cost.trace.workspace import reserved_bytes, uses_primitive, workspace_bytes

_MIB = 2**20


class Workspaces(TorchDispatchMode):
    """Writes down what each operation holds and reserves, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, int] = {}
        self.reserved: dict[str, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **kwargs or {})
        name = func.__name__.partition(".")[0]
        self.held[name] = max(workspace_bytes(func, args, out), self.held.get(name, 0))
        self.reserved[name] = sum(size for _, size in reserved_bytes(func, args, out))
        return out


def run(function: Callable[..., Tensor], *shapes: tuple[int, ...], is_trained: bool = True) -> Workspaces:
    """Run a function of tensors, and its backward pass, on fakes."""
    with FakeTensorMode(), Workspaces() as seen:
        out = function(*[torch.ones(*shape, requires_grad=is_trained) for shape in shapes])
        if is_trained:
            out.sum().backward()
    return seen


def near(num_mib: float) -> Any:
    """Within a tenth."""
    return pytest.approx(num_mib * _MIB, rel=0.1)


@pytest.mark.parametrize(
    ("function", "shapes", "forward_mib", "backward_mib"),
    [
        # Measured beyond the results; 24.5 MiB is one blocked image of 64 channels of 56 x 56, 32 times.
        (lambda x, w: F.conv2d(x, w, padding=1), ((32, 64, 56, 56), (64, 64, 3, 3)), 24.5, 49.0),
        (F.conv2d, ((32, 64, 56, 56), (256, 64, 1, 1)), 97.8, 122.4),
        (lambda x, w: F.conv2d(x, w, padding=1), ((16, 512, 14, 14), (512, 512, 3, 3)), 14.9, 12.1),
        (lambda x, w: F.conv2d(x, w, padding=1, groups=128), ((32, 128, 56, 56), (128, 1, 3, 3)), 48.9, 97.9),
        (lambda x, w: F.conv2d(x, w, padding=1, groups=4), ((32, 128, 56, 56), (128, 32, 3, 3)), 49.0, 97.8),
        (lambda x, w: F.conv2d(x, w, padding=1), ((64, 512, 4, 4), (512, 512, 3, 3)), 10.7, 8.9),
        (lambda x, w: F.conv2d(x, w, padding=1), ((64, 512, 2, 2), (512, 512, 3, 3)), 9.3, 9.0),
        (F.conv2d, ((256, 3, 32, 32), (6, 3, 5, 5)), 12.2, 25.1),
        (lambda x, w: F.conv2d(x, w, padding=1), ((32, 20, 56, 56), (20, 20, 3, 3)), 16.6, 24.3),
        (lambda x, w: F.conv3d(x, w, padding=1), ((4, 16, 16, 32, 32), (32, 16, 3, 3, 3)), 7.9, 11.8),
        (lambda x, w: F.conv3d(x, w, padding=1), ((4, 3, 16, 64, 64), (32, 3, 3, 3, 3)), 31.8, 44.9),
        (lambda x, w: F.conv1d(x, w, padding=1), ((16, 80, 3000), (384, 80, 3)), 70.1, 85.1),
        (lambda x, w: F.conv_transpose2d(x, w, stride=2), ((32, 64, 28, 28), (64, 64, 2, 2)), 48.7, 30.5),
        (
            lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1),
            ((32, 64, 28, 28), (64, 32, 4, 4)),
            24.2,
            18.4,
        ),
    ],
)
def test_convolutions_as_measured(
    function: Callable[..., Tensor],
    shapes: tuple[tuple[int, ...], ...],
    forward_mib: float,
    backward_mib: float,
) -> None:
    seen = run(function, *shapes)
    # The whole peak of an operation is within a tenth: its arguments and results are known exactly.
    assert seen.held["convolution"] == near(forward_mib)
    assert seen.held["convolution_backward"] == near(backward_mib)


def test_images_that_need_no_gradient() -> None:
    with FakeTensorMode(), Workspaces() as seen:
        weight = torch.ones(64, 3, 7, 7, requires_grad=True)
        F.conv2d(torch.ones(32, 3, 112, 112), weight, stride=2, padding=3).sum().backward()
    assert seen.held["convolution"] == near(24.4)
    assert seen.held["convolution_backward"] == near(24.3)


def test_a_blocked_copy_rounds_channels_up_to_16() -> None:
    seen = run(F.conv2d, (1, 17, 32, 32), (17, 17, 1, 1))
    blocked, weights, plain = 32 * 32 * 32 * 4, 17 * 17 * 4, 17 * 32 * 32 * 4
    assert seen.held["convolution"] == 2 * blocked + weights - plain


def test_channels_last_needs_no_copy() -> None:
    def convolve(x: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(x.to(memory_format=torch.channels_last), w)

    seen = run(convolve, (8, 64, 16, 16), (64, 64, 3, 3))
    assert (seen.held["convolution"], seen.held["convolution_backward"]) == (0, 0)


def test_half_precision_copies_are_half() -> None:
    full = run(lambda x, w: F.conv2d(x, w, padding=1), (8, 64, 16, 16), (64, 64, 3, 3))
    half = run(lambda x, w: F.conv2d(x.bfloat16(), w.bfloat16(), padding=1), (8, 64, 16, 16), (64, 64, 3, 3))
    assert 2 * half.held["convolution"] == full.held["convolution"]


def recurrent(*, is_trained: bool = True, **options: Any) -> Workspaces:
    """Run an LSTM of 64 steps, 32 sequences and 256 features."""
    mode = FakeTensorMode()
    layer = fake_module(lambda: nn.LSTM(256, 256, **options).train(is_trained), mode)
    with mode, Workspaces() as seen, torch.set_grad_enabled(is_trained):
        out = layer(torch.ones(64, 32, 256))[0]
        if is_trained:
            out.sum().backward()
    return seen


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}, {"batch_first": True}])
def test_an_lstm_packs_its_weights_and_keeps_its_gates(options: dict[str, Any]) -> None:
    seen = recurrent(**options)
    assert seen.held["mkldnn_rnn_layer"] == near(10.0)
    assert seen.reserved["mkldnn_rnn_layer"] == near(10.0)
    assert seen.held["mkldnn_rnn_layer_backward"] == near(12.2)


def test_a_served_lstm_reserves_nothing() -> None:
    seen = recurrent(is_trained=False)
    assert seen.reserved["mkldnn_rnn_layer"] == 0
    assert seen.held["mkldnn_rnn_layer"] == near(4.0)


@pytest.mark.parametrize(("are_tokens_first", "held"), [(True, 0), (False, 2 * 4 * 64 * 32 * 4)])
def test_attention_wants_its_gradient_with_tokens_before_heads(are_tokens_first: bool, held: int) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        result = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return result.transpose(1, 2).contiguous().exp() if are_tokens_first else result.contiguous().exp()

    seen = run(attend, *[(2, 4, 64, 32)] * 3)
    assert seen.held["_scaled_dot_product_flash_attention_for_cpu_backward"] == held


def test_other_operations_hold_nothing() -> None:
    seen = run(lambda a, b: F.layer_norm(torch.bmm(a, b), (64,)).softmax(-1), (2, 64, 64), (2, 64, 64))
    assert set(seen.held.values()) == {0}


def test_kernels_are_compiled_for_convolutions_and_recurrent_layers() -> None:
    aten = torch.ops.aten
    assert uses_primitive(aten.convolution.default)
    assert uses_primitive(aten.mkldnn_rnn_layer_backward.default)
    assert not uses_primitive(aten._scaled_dot_product_flash_attention_for_cpu_backward.default)
    assert not uses_primitive(aten.mm.default)
