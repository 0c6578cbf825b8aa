"""What Kleiber, torch's own counters and other tools say of one cell of the cost grid."""

from __future__ import annotations

from collections.abc import Callable

from cost_cells import Cell
from peers import PEERS, PeerSays
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from kleiber.cost.trace.fake import fake_module
from kleiber.models import FAMILIES, parse_size, resolve_spec
from kleiber.models.subject import Inputs, Subject
from kleiber.runs import Recipe
from kleiber.study.model_cost import CostedModel, costed_family, costed_subject

__all__ = ["predict"]

_KNOWN_TO_TORCH = {str(operator).rpartition(".")[2] for operator in flop_registry}


def predict(cell: Cell) -> dict[str, PeerSays]:
    """Return what each tool says; "torch" is what the others' counts are compared with."""
    subject = cell.subject.open()
    return {
        "kleiber": predicted_by_kleiber(cell),
        "torch": _true_counts(subject, cell),
        **{tool: _asked(ask, subject, cell) for tool, ask in PEERS.items()},
    }


def predicted_by_kleiber(cell: Cell) -> PeerSays:
    """Return what `kleiber plan` says of a step, validation left out: a family in closed form, others traced.

    FLOPs are those of operations that torch's counter knows, as it counts them. It leaves out fused recurrent layers,
    attention on a CPU and grouped products, all of which a plan counts.
    """
    model = _costed(cell)
    cost = model.cost(cell.usage)
    forward = sum(
        operation.total_flops
        for operation in cost.operations
        if operation.phase == "forward" and operation.name in _KNOWN_TO_TORCH
    )
    return PeerSays(
        memory_bytes=cost.memory.summary().peak,
        num_params=cost.num_params.total,
        forward_flops=forward / cell.usage.accumulation,
    )


def _costed(cell: Cell) -> CostedModel:
    subject, usage = cell.subject, cell.usage
    family, _, _ = subject.text.partition(":")
    if family not in FAMILIES:
        return costed_subject(subject.open(), convention="full")
    data = Recipe().data.model_copy(update={"context": subject.context})
    spec = resolve_spec(Recipe(model=parse_size(subject.text), data=data))
    return costed_family(subject.text, spec, batch_size=usage.batch_size, convention="full")


def _true_counts(subject: Subject, cell: Cell) -> PeerSays:
    """Return `sum(numel)` and what `FlopCounterMode` counts of one forward pass of a micro-batch."""
    mode = FakeTensorMode()
    module = fake_module(subject.build, mode)
    with mode, FlopCounterMode(display=False) as counter:
        inputs = _micro_batch(subject, cell)
        module(*inputs.args, **inputs.kwargs)
    return PeerSays(
        num_params=sum(param.numel() for param in module.parameters()),
        forward_flops=float(counter.get_total_flops()),
    )


def _micro_batch(subject: Subject, cell: Cell) -> Inputs:
    return subject.inputs(cell.usage.batch_size // cell.usage.accumulation)


def _asked(ask: Callable[[nn.Module, Inputs], PeerSays], subject: Subject, cell: Cell) -> PeerSays:
    try:
        return ask(subject.build(), _micro_batch(subject, cell))
    except Exception as error:  # noqa: BLE001 - a tool that fails is a result
        return PeerSays(failure=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
