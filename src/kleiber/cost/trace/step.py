"""One step of any module on fake tensors: its operations, and its memory from moment to moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from kleiber.cost.flops import FlopConvention
from kleiber.cost.memory import StepMemory
from kleiber.cost.operations import Operation
from kleiber.cost.trace.fake import fake_module, plain_tensors
from kleiber.cost.trace.lifetimes import Lifetime, Role, Timeline, held_bytes, kept_bytes, timeline_of
from kleiber.cost.trace.recorder import Call, Recorder
from kleiber.cost.trace.training_step import CallInputs, MuonFactory, build_optimizer, prepare_, run_step
from kleiber.cost.usage import Usage

__all__ = ["StepTrace", "trace_step"]


@dataclass(frozen=True)
class StepTrace:
    """What a step of one micro-batch size does and holds."""

    module: nn.Module
    """With fake weights: for counting."""
    operations: tuple[Operation, ...]
    memory: StepMemory
    gradients_at: Mapping[str, int]
    """How much of each moment of the memory is gradients [bytes]."""
    timeline: Timeline
    """Of a steady step: one after the first, when the optimizer has its state."""
    calls: tuple[Call, ...]
    """Of the timeline, one for each of its operations."""
    activations: Mapping[str, int]
    """Bytes held at the peak, by the module that made them."""


def trace_step(
    build: Callable[[], nn.Module],
    inputs: Callable[[], CallInputs],
    loss: Callable[[Any], Tensor],
    usage: Usage,
    *,
    convention: FlopConvention = "causal",
    has_workspaces: bool = True,
    muon: MuonFactory | None = None,
    around: Callable[[nn.Module, CallInputs], AbstractContextManager[object]] = lambda *_: nullcontext(),
) -> StepTrace:
    """Return what a step does and holds; nothing of its size is allocated.

    Two steps run on fake tensors: the second has the optimizer's state, as every later one.

    Args:
        build: Makes the module on the default device.
        inputs: Makes a micro-batch on the default device.
        loss: As for `run_step`.
        usage: How the module is used.
        convention: Which part of causal attention is counted.
        has_workspaces: Whether to count what this kind of CPU's libraries hold beside tensors.
        muon: As for `build_optimizer`.
        around: Makes a context manager around the steps, such as one that explains failures.
    """
    mode = FakeTensorMode()
    module = fake_module(build, mode)
    prepare_(module, usage)
    # More micro-batches than two repeat the second: they are counted, not run.
    traced = usage.model_copy(update={"accumulation": min(usage.accumulation, 2)})
    with mode:
        batch = inputs()
        recorder = Recorder(module, convention=convention, has_workspaces=has_workspaces)
        recorder.hold([*module.parameters(), *module.buffers(), *plain_tensors(module)], "weights")
        recorder.hold(_tensors(batch), "inputs")
        optimizer = None if usage.mode == "infer" else build_optimizer(usage.optimizer, module, muon=muon)
        with _gradients_held(module, recorder), around(module, batch), recorder:
            for _ in range(1 if optimizer is None else 2):
                first = len(recorder.calls)
                run_step(module, batch, loss, optimizer, traced, entering=recorder.enter)
                recorder.settle("optimizer", "optimizer")
    calls = tuple(recorder.calls[first:])
    timeline = _timeline(recorder.lifetimes, calls, first, has_workspaces=has_workspaces)
    moments = _fullest_moments(timeline, calls)
    return StepTrace(
        module=module,
        operations=_operations(calls, usage.accumulation),
        memory=_memory(timeline, moments),
        gradients_at={name: timeline.by_role["gradients"][index] for name, index in moments.items()},
        timeline=timeline,
        calls=calls,
        activations=_activations(recorder.lifetimes, first + timeline.peak_index),
    )


@contextmanager
def _gradients_held(module: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Tell the recorder of each gradient that has arrived."""

    def hold(param: Tensor) -> None:
        if param.grad is not None:
            recorder.hold([param.grad], "gradients")

    hooks = [
        param.register_post_accumulate_grad_hook(hold)  # type: ignore[no-untyped-call] # torch's
        for param in module.parameters()
        if param.requires_grad
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _timeline(
    lifetimes: Sequence[Lifetime], calls: Sequence[Call], first: int, *, has_workspaces: bool
) -> Timeline:
    last = first + len(calls) - 1
    extras: dict[Role, Sequence[int]] = {"temporary": [call.workspace_bytes for call in calls]}
    if has_workspaces:
        extras["libraries"] = kept_bytes(lifetimes, first, last)
    return timeline_of(lifetimes, first, last, extras)


def _tensors(batch: CallInputs) -> list[Tensor]:
    return [leaf for leaf in tree_leaves((batch.args, dict(batch.kwargs))) if isinstance(leaf, Tensor)]


def _operations(calls: Sequence[Call], accumulation: int) -> tuple[Operation, ...]:
    """Return the calls with the same sizes as one operation.

    Every micro-batch after the first adds to its gradients: the second stands for the others.
    """
    counts: Counter[Operation] = Counter()
    for call, num_calls in zip(calls, _repeats(calls, accumulation), strict=True):
        if call.sketch is not None:
            sketch = call.sketch
            operation = Operation(
                name=call.name,
                kind="optimizer" if call.phase == "optimizer" and not sketch.flops else sketch.kind,
                phase=call.phase,
                module=call.module,
                shape=sketch.shape,
                flops=sketch.flops,
                moved_bytes=sketch.moved_bytes,
                dtype=sketch.dtype,
            )
            counts[operation] += num_calls
    return tuple(replace(operation, num_calls=count) for operation, count in counts.items())


def _repeats(calls: Sequence[Call], accumulation: int) -> Iterator[int]:
    """Yield how often a step makes each call: those of a second micro-batch once for each but the first."""
    num_calls, phase = 1, None
    for call in calls:
        if phase == "backward" and call.phase == "forward":
            num_calls = accumulation - 1
        phase = call.phase
        yield 1 if phase == "optimizer" else num_calls


def _fullest_moments(timeline: Timeline, calls: Sequence[Call]) -> dict[str, int]:
    """Return name and index of the fullest moment of each phase."""
    moments = {}
    for phase in ("forward", "backward", "optimizer"):
        within = [index for index, call in enumerate(calls) if call.phase == phase]
        if within:
            # Of moments as full, one at which something is done.
            fullest = max(within, key=lambda index: (timeline.total[index], calls[index].sketch is not None))
            moments[_name_of(calls[fullest])] = fullest
    return moments


def _memory(timeline: Timeline, moments: Mapping[str, int]) -> StepMemory:
    held = {role: max(values) for role, values in timeline.by_role.items()}
    steady = held["weights"] + held["optimizer"]
    return StepMemory(
        weights=held["weights"],
        gradients=held["gradients"],
        optimizer=held["optimizer"],
        activations=held["activations"],
        moments={name: timeline.total[index] - steady for name, index in moments.items()},
        copies={name: timeline.by_role["copies"][index] for name, index in moments.items()},
    )


def _name_of(call: Call) -> str:
    """Return a moment's name, such as `backward of blocks.0.mlp (mm)`."""
    if call.phase == "optimizer":
        return f"optimizer step ({call.name})"
    return f"{call.phase} of {call.module or 'the loss'} ({call.name})"


def _activations(lifetimes: Iterable[Lifetime], index: int) -> dict[str, int]:
    """Return what each module's results hold during operation `index`."""
    held: dict[str, int] = {}
    for block in lifetimes:
        is_there = block.born <= index and (block.died is None or index <= block.died)
        if is_there and block.role == "activations":
            held[block.module] = held.get(block.module, 0) + held_bytes(block.num_bytes)
    return held
