"""Fake modules: shapes and sharing of real ones, and no memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from kleiber.cost.trace.fake import fake_module, plain_tensors


class _Positioned(nn.Module):
    """A module with a table that is neither parameter nor buffer, as VideoMAE has."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)
        self.table = torch.tensor([[1.0, 2.0, 3.0, 4.0]], device="cpu")
        self.drawn = torch.ones(1, 4)
        self.also_drawn = self.drawn
        self.nothing = None

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.proj(x + self.table + self.drawn)
        return result


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("mask", torch.ones(1, 4).expand(8, 4))
        self.register_buffer("missing", None)
        self.table.weight.requires_grad_(requires_grad=False)


def test_weights_are_fakes_on_the_cpu_of_the_same_kind() -> None:
    module = fake_module(lambda: nn.BatchNorm1d(6), FakeTensorMode())
    for tensor in [*module.parameters(), *module.buffers()]:
        assert isinstance(tensor, FakeTensor)
        assert tensor.device.type == "cpu"
    assert isinstance(module.weight, nn.Parameter)
    assert module.num_batches_tracked.dtype == torch.int64


def test_tied_weights_stay_one_and_frozen() -> None:
    module = fake_module(_Tied, FakeTensorMode())
    assert module.head.weight is module.table.weight
    assert not module.head.weight.requires_grad
    assert len(list(module.parameters())) == 1


def test_an_expanded_buffer_takes_what_is_stored() -> None:
    mask = fake_module(_Tied, FakeTensorMode()).mask
    assert mask.shape == (8, 4)
    assert mask.untyped_storage().nbytes() == 16


def test_plain_attributes_run_with_fake_weights() -> None:
    mode = FakeTensorMode()
    module = fake_module(_Positioned, mode)
    with mode:
        assert module(torch.ones(2, 4)).shape == (2, 4)
    assert module.also_drawn is module.drawn
    assert {id(t) for t in plain_tensors(module)} == {id(module.table), id(module.drawn)}
    assert len(list(module.parameters())) == 2


def test_nothing_of_its_size_is_allocated() -> None:
    module = fake_module(lambda: nn.Linear(1_000_000, 1_000_000), FakeTensorMode())
    assert module.weight.untyped_storage().nbytes() == 4 * 10**12
