"""Which module an operation belongs to, forward and backward, and when memory comes and goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from kleiber.cost.operations import Phase
from kleiber.cost.trace.fake import fake_module
from kleiber.cost.trace.lifetimes import Lifetime
from kleiber.cost.trace.recorder import Recorder


def record(build: Callable[[], nn.Module], *shape: int, steps: int = 1) -> Recorder:
    """Run forward and backward of a module on fakes, the loss the sum of what it returns."""
    mode = FakeTensorMode()
    module = fake_module(build, mode)
    with mode:
        recorder = Recorder(module, convention="full", has_workspaces=False)
        recorder.hold(module.parameters(), "weights")
        x = torch.ones(*shape, requires_grad=not list(module.parameters()))
        with recorder:
            for _ in range(steps):
                recorder.enter("forward")
                loss = module(x).sum()
                recorder.enter("backward")
                loss.backward()
                del loss
    return recorder


def modules_of(recorder: Recorder, name: str, phase: Phase) -> list[str]:
    """Return the modules of the calls of an operation, in order."""
    return [call.module for call in recorder.calls if call.name == name and call.phase == phase]


def blocks_of(recorder: Recorder, name: str) -> list[Lifetime]:
    """Return the memory that an operation of the forward pass made."""
    made = {i for i, call in enumerate(recorder.calls) if (call.name, call.phase) == (name, "forward")}
    return [block for block in recorder.lifetimes if block.born in made and block.role != "weights"]


class _Double(torch.autograd.Function):
    """An operation of a user, with a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return x.sinh() * 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        del ctx
        return grad.cosh()


class _Custom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = _Double.apply(x)
        return result


class _Twice(nn.Module):
    """Calls one layer twice and computes something itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.layer(F.silu(self.layer(x))))


class _Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = checkpoint(self.first, x, use_reentrant=False)
        result: Tensor = checkpoint(self.second, inner.sigmoid(), use_reentrant=False)
        return result


class _Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.features(x)
        result: Tensor = self.head(features)
        return result


class _InPlaceOnView(nn.Module):
    """Rewrites a part of what it got: autograd makes a node for it that no operation announces."""

    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        y[:, :2].mul_(3)
        return y


def test_forward_belongs_to_the_innermost_module() -> None:
    recorder = record(lambda: nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh())), 2, 4)
    assert modules_of(recorder, "addmm", "forward") == ["0"]
    assert modules_of(recorder, "tanh", "forward") == ["1.0"]
    assert modules_of(recorder, "sum", "forward") == [""]


def test_backward_belongs_to_the_module_of_the_forward_pass() -> None:
    recorder = record(lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)), 2, 4)
    # Of the second layer gradients of weights and input, of the first of weights alone.
    assert modules_of(recorder, "mm", "backward") == ["2", "2", "0"]
    assert modules_of(recorder, "tanh_backward", "backward") == ["1"]
    assert modules_of(recorder, "ones_like", "backward") == [""]


def test_a_second_step_is_attributed_as_the_first() -> None:
    build = lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))  # noqa: E731 - used twice
    once, twice = record(build, 2, 4), record(build, 2, 4, steps=2)
    second = [(call.name, call.module) for call in twice.calls[len(once.calls) :] if call.name != "detach"]
    added = [call for call in second if call[0] == "add_"]
    assert added == [("add_", "2"), ("add_", "2"), ("add_", "0"), ("add_", "0")]
    kept = [(call.name, call.module) for call in once.calls if call.name != "detach"]
    assert [call for call in second if call[0] != "add_"] == kept


def test_gradients_are_gathered_by_the_owner_of_the_weight() -> None:
    recorder = record(lambda: nn.Sequential(nn.Linear(4, 4)), 2, 4, steps=2)
    assert modules_of(recorder, "add_", "backward") == ["0", "0"]


def test_a_layer_called_twice_and_what_the_root_computes() -> None:
    recorder = record(_Twice, 2, 4)
    assert modules_of(recorder, "addmm", "forward") == ["layer", "layer"]
    assert modules_of(recorder, "mm", "backward") == ["layer"] * 3
    assert modules_of(recorder, "silu", "forward") == [""]
    assert modules_of(recorder, "gelu_backward", "backward") == [""]
    assert modules_of(recorder, "silu_backward", "backward") == [""]


def test_a_function_of_the_users_own() -> None:
    recorder = record(lambda: nn.Sequential(nn.Linear(4, 4), _Custom(), nn.Tanh()), 2, 4)
    assert modules_of(recorder, "sinh", "forward") == ["1"]
    assert modules_of(recorder, "cosh", "backward") == ["1"]
    assert modules_of(recorder, "tanh_backward", "backward") == ["2"]


def test_checkpointed_blocks_run_forward_again_in_the_backward_pass() -> None:
    recorder = record(_Checkpointed, 2, 4)
    assert modules_of(recorder, "addmm", "forward") == ["first.0", "second.0"]
    # The last block comes first.
    assert modules_of(recorder, "addmm", "backward") == ["second.0", "first.0"]
    assert modules_of(recorder, "tanh", "backward") == ["second.1", "first.1"]
    assert modules_of(recorder, "mm", "backward") == ["second.0", "second.0", "first.0"]
    assert modules_of(recorder, "tanh_backward", "backward") == ["second.1", "first.1"]
    assert modules_of(recorder, "sigmoid_backward", "backward") == [""]


def test_parts_without_gradients() -> None:
    recorder = record(_Frozen, 2, 4)
    assert modules_of(recorder, "addmm", "forward") == ["features.0", "head"]
    assert modules_of(recorder, "tanh", "forward") == ["features.1"]
    assert modules_of(recorder, "mm", "backward") == ["head"]


def test_nodes_that_rewrite_history_belong_to_who_wrote_in_place() -> None:
    recorder = record(lambda: nn.Sequential(nn.Linear(4, 4), _InPlaceOnView(), nn.Tanh()), 2, 4)
    assert set(modules_of(recorder, "mul", "backward")) == {"1"}
    assert modules_of(recorder, "tanh_backward", "backward") == ["2"]
    unowned = {call.name for call in recorder.calls if call.phase == "backward" and call.module == ""}
    assert unowned <= {"ones_like", "expand"}


class _Dying(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        gone = x.new_empty(100).fill_(1.0)
        kept = x.neg()
        del gone
        return kept + 1


def test_a_tensor_that_dies_between_operations_was_there_during_the_former() -> None:
    recorder = record(_Dying, 2, 4)
    names = [call.name for call in recorder.calls]
    (gone,) = blocks_of(recorder, "new_empty")
    assert gone.num_bytes == 400
    assert (gone.born, gone.died) == (names.index("new_empty"), names.index("neg"))


class _Views(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        big = x.neg()
        view = big.view(-1)[:3]
        del big
        return view + 1


def test_views_share_memory_and_hold_it() -> None:
    recorder = record(_Views, 2, 4)
    names = [call.name for call in recorder.calls]
    assert blocks_of(recorder, "view") == []
    (big,) = blocks_of(recorder, "neg")
    assert big.num_bytes == 32
    assert big.died == names.index("add")  # nothing saved it: it goes when the module returns


@pytest.mark.parametrize("is_in_place", [False, True])
def test_operations_in_place_make_no_memory(is_in_place: bool) -> None:
    recorder = record(lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=is_in_place)), 2, 4)
    assert [block.num_bytes for block in blocks_of(recorder, "relu_")] == []
    assert [block.num_bytes for block in blocks_of(recorder, "relu")] == [] if is_in_place else [32]


def test_no_module_is_left_on_the_stack_when_one_fails() -> None:
    with pytest.raises(RuntimeError, match="same reduction dim"):
        record(lambda: nn.Sequential(nn.Linear(5, 4)), 2, 4)
    recorder = record(_Checkpointed, 2, 4)
    assert recorder._stack == []
