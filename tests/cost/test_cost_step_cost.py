from __future__ import annotations

from kleiber.cost.memory import StepMemory
from kleiber.cost.module_cost import ModuleParams, fold_modules
from kleiber.cost.operations import Operation
from kleiber.cost.step_cost import StepCost
from kleiber.runs import ParamCount

OPERATIONS = (
    Operation("mm", "matmul", "forward", "fc", (8, 2, 3), 96, 136, num_calls=2),
    Operation("mm", "matmul", "backward", "fc", (8, 2, 3), 192, 136),
    Operation("relu", "elementwise", "forward", "", (8, 3), 0, 136),
    Operation("addmm", "attention", "forward", "", (8, 3), 500, 136),
    Operation("adamw", "optimizer", "optimizer", "", (6,), 60, 96),
)


def cost() -> StepCost:
    return StepCost(
        num_params=ParamCount(embedding=0, body=6, head=0),
        num_trainable=6,
        num_active=6,
        operations=OPERATIONS,
        memory=StepMemory(24, 24, 48, 0, {"optimizer step": 24}),
        modules=fold_modules([ModuleParams("", "Net", 6, 6)], OPERATIONS),
        blocks=None,
        tokens_per_sample=None,
    )


def test_flops_are_those_of_a_phase_and_all_its_calls():
    assert [cost().flops(phase) for phase in ("forward", "backward", "optimizer")] == [692, 192, 60]


def test_flops_by_kind_are_sorted_and_leave_out_what_has_none():
    found = cost().flops_by_kind()
    assert list(found.items()) == [("attention", 500), ("matmul", 384), ("optimizer", 60)]
    assert sum(found.values()) == sum(operation.total_flops for operation in OPERATIONS)
