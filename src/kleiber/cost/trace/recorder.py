"""A dispatch mode that writes down every operation of a step and every block of memory that it makes."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kleiber.cost.flops import FlopConvention
from kleiber.cost.operations import Phase
from kleiber.cost.trace.lifetimes import Lifetime, Role
from kleiber.cost.trace.operation_table import OperationSketch, describe
from kleiber.cost.trace.workspace import (
    AUTOGRAD_NODE_BYTES,
    FIRST_STEP_BYTES,
    PRIMITIVE_BYTES,
    reserved_bytes,
    uses_primitive,
    workspace_bytes,
)

__all__ = ["Call", "Recorder"]

_ROLE_BY_PHASE: dict[Phase, Role] = {
    "forward": "activations",
    "backward": "temporary",
    "optimizer": "temporary",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one operation."""

    name: str
    phase: Phase
    module: str
    sketch: OperationSketch | None
    """None of a view: it does nothing."""
    workspace_bytes: int
    """Held while it runs, beside tensors."""


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves its modes unannotated
    """Records what runs inside it; enter it inside the mode whose fake tensors it shall see.

    The module of a forward operation is the innermost one whose `forward` runs. That of a backward operation is the
    module whose forward operation made the autograd node that runs: a node's sequence number tells which. Gradients
    are gathered by the module that owns the parameter.
    """

    def __init__(self, module: nn.Module, *, convention: FlopConvention, has_workspaces: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # the same
        self.calls: list[Call] = []
        self.lifetimes: list[Lifetime] = []
        self._has_workspaces = has_workspaces
        self._primitives: set[tuple[str, tuple[int, ...], int]] = set()
        if has_workspaces:
            self.lifetimes.append(Lifetime(FIRST_STEP_BYTES, "libraries", "", 0))
        self.phase: Phase = "forward"
        self._convention: FlopConvention = convention
        self._paths = {id(part): path for path, part in module.named_modules()}
        self._owners = {id(param): path.rpartition(".")[0] for path, param in module.named_parameters()}
        self._stack: list[str] = []
        # Sequence numbers of autograd nodes, rising, and the module whose operation made each.
        self._numbers: list[int] = []
        self._modules: list[str] = []
        self._nodes: list[Lifetime] = []
        self._live: dict[int, tuple[weakref.ref[Any], Lifetime]] = {}
        self._hooks = ExitStack()

    def enter(self, phase: Phase) -> None:
        """Say that a phase begins; what autograd noted of a forward pass goes with the end of the backward pass."""
        if self.phase == "backward":
            for node in self._nodes:
                node.died = len(self.calls) - 1
            self._nodes.clear()
        self.phase = phase

    def settle(self, phase: Phase, role: Role) -> None:
        """Say that what was made in `phase` and is still there has this role."""
        for _, block in self._live.values():
            if block.role == "temporary" and self.calls[block.born].phase == phase:
                block.role = role

    def hold(self, tensors: Iterable[Tensor], role: Role, module: str = "") -> None:
        """Say what role the memory of these tensors has, known or new."""
        for tensor in tensors:
            self._block_of(tensor, role, module).role = role

    def __enter__(self) -> Self:
        for hook in (
            register_module_forward_pre_hook(self._push),
            register_module_forward_hook(self._pop, always_call=True),
        ):
            self._hooks.callback(hook.remove)
        super().__enter__()  # type: ignore[no-untyped-call] # the same
        return self

    def __exit__(self, *exception: object) -> None:
        self._hooks.close()
        super().__exit__(*exception)  # type: ignore[no-untyped-call] # the same

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run `func` and write it down."""
        if func is torch.ops.prim.device.default:  # asked thousands of times by autograd: no operation
            return args[0].device
        if getattr(func, "namespace", "") == "profiler":  # marks, which optimizers set
            return func(*args, **kwargs or {})
        kwargs = kwargs or {}
        module = self._current_module()
        out = func(*args, **kwargs)
        sketch = describe(func, args, kwargs, out, convention=self._convention)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._block_of(leaf, self._role_of_result(func, args), module)
        extra = self._workspace(func, args, out, sketch, module) if sketch and self._has_workspaces else 0
        # Written down after its results: these are born with it, under its index.
        self.calls.append(Call(func.__name__.partition(".")[0], self.phase, module, sketch, extra))
        return out

    def _role_of_result(self, func: Any, args: tuple[Any, ...]) -> Role:
        if func is torch.ops.aten._to_copy.default and self.phase != "optimizer":  # noqa: SLF001 - its name
            source = self._live.get(id(args[0].untyped_storage()))
            if source is not None and source[1].role == "weights":
                return "copies"
        return _ROLE_BY_PHASE[self.phase]

    def _workspace(
        self, func: Any, args: tuple[Any, ...], out: Any, sketch: OperationSketch, module: str
    ) -> int:
        """Return what the call holds while it runs; write down what it keeps."""
        for tensor, num_bytes in reserved_bytes(func, args, out):
            self._block_of(tensor, "activations", module).num_bytes = num_bytes
        primitive = (func.__name__, sketch.shape, sketch.moved_bytes)
        if uses_primitive(func) and primitive not in self._primitives:
            self._primitives.add(primitive)
            self.lifetimes.append(Lifetime(PRIMITIVE_BYTES, "libraries", module, len(self.calls)))
        return workspace_bytes(func, args, out)

    def _block_of(self, tensor: Tensor, role: Role, module: str) -> Lifetime:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._live:
            block = Lifetime(storage.nbytes(), role, module, born=len(self.calls))
            self.lifetimes.append(block)
            self._live[key] = (weakref.ref(storage, partial(self._let_go, key)), block)
        return self._live[key][1]

    def _let_go(self, key: int, _: object) -> None:
        # What goes between two operations was there during the former.
        self._live.pop(key)[1].died = max(0, len(self.calls) - 1)

    def _current_module(self) -> str:
        node = torch._C._current_autograd_node()  # noqa: SLF001 - no public name
        if not self._stack and node is not None:
            return self._module_of(node)
        module = self._stack[-1] if self._stack else ""
        # The node of this operation was numbered just before; what runs without one finds it taken.
        number = torch._C._autograd._get_sequence_nr() - 1  # noqa: SLF001 - no public name
        if not self._numbers or self._numbers[-1] < number:
            if self._has_workspaces and self._numbers and self.phase == "forward":
                num_bytes = (number - self._numbers[-1]) * AUTOGRAD_NODE_BYTES
                self._nodes.append(Lifetime(num_bytes, "libraries", module, len(self.calls)))
                self.lifetimes.append(self._nodes[-1])
            self._numbers.append(number)
            self._modules.append(module)
        return module

    def _module_of(self, node: Any) -> str:
        """Return the module whose forward operation made an autograd node."""
        variable = getattr(node, "variable", None)
        if variable is not None:  # it gathers the gradient of a parameter and has no number
            return self._owners.get(id(variable), "")
        # Nodes that rewrite history, as operations in place on views do, are numbered unseen, after the one that was seen.
        before = bisect_right(self._numbers, node._sequence_nr()) - 1  # noqa: SLF001 - no public name
        return self._modules[before] if before >= 0 else ""

    def _push(self, module: nn.Module, _: object) -> None:
        # A module made during the step belongs to its caller.
        self._stack.append(self._paths.get(id(module), self._stack[-1] if self._stack else ""))

    def _pop(self, *_: object) -> None:
        if self._stack:  # not where a hook refused a module's input before `_push`
            self._stack.pop()
