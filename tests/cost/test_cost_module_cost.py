"""The tree of modules: what is put in comes out, at every depth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.cost.module_cost import ModuleCost, ModuleParams, fold_modules
from kleiber.cost.operations import Operation, Phase

NET = [
    ModuleParams("", "Net", 1, 1),
    ModuleParams("stem", "Conv2d", 10, 10),
    ModuleParams("blocks", "ModuleList", 0, 0),
    ModuleParams("blocks.0", "Block", 0, 0),
    ModuleParams("blocks.0.fc", "Linear", 20, 0),
    ModuleParams("blocks.1", "Block", 0, 0),
    ModuleParams("blocks.1.fc", "Linear", 30, 30),
]
AMOUNTS = ("num_params", "num_trainable", "forward_flops", "backward_flops", "activation_bytes")


def work(module: str, flops: int, phase: Phase = "forward", num_calls: int = 1) -> Operation:
    return Operation("mm", "matmul", phase, module, (1, 1, 1, 1), flops, 12, num_calls=num_calls)


def by_path(tree: ModuleCost) -> dict[str, ModuleCost]:
    return {node.path: node for node in tree.walk()}


def test_a_tree_by_hand() -> None:
    operations = [
        work("stem", 5, num_calls=2), work("blocks.0.fc", 7), work("blocks.1.fc", 11, "backward"), work("", 3),
        work("blocks.1.fc", 1000, "optimizer"),
    ]  # fmt: skip
    nodes = by_path(fold_modules(NET, operations, {"blocks.0": 64, "blocks.1.fc": 32}))
    assert list(nodes) == [module.path for module in NET]
    assert nodes[""] == fold_modules(NET, operations, {"blocks.0": 64, "blocks.1.fc": 32})
    assert [getattr(nodes[""], name) for name in AMOUNTS] == [61, 41, 20, 11, 96]
    assert [getattr(nodes["blocks"], name) for name in AMOUNTS] == [50, 30, 7, 11, 96]
    assert [getattr(nodes["blocks.0"], name) for name in AMOUNTS] == [20, 0, 7, 0, 64]
    assert [child.name for child in nodes["blocks"].children] == ["0", "1"]
    assert nodes["blocks.0.fc"].type_name == "Linear"


def test_what_is_below_the_depth_counts_in_its_ancestor() -> None:
    operations = [work("blocks.1.fc", 11)]
    assert fold_modules(NET, operations, depth=0).children == ()
    tree = fold_modules(NET, operations, depth=1)
    assert [child.path for child in tree.children] == ["stem", "blocks"]
    assert tree.children[1].forward_flops == 11
    assert tree.children[1].children == ()


def test_work_of_a_path_that_is_no_module_belongs_to_the_nearest_one() -> None:
    nodes = by_path(fold_modules(NET, [work("blocks.0.attention.scores", 4), work("elsewhere", 8)]))
    assert nodes["blocks.0"].forward_flops == 4
    assert nodes[""].forward_flops == 12


def test_a_parent_that_is_not_listed_is_passed_over() -> None:
    tree = fold_modules([ModuleParams("", "Net", 0, 0), ModuleParams("a.b.c", "Linear", 5, 5)])
    assert [child.path for child in tree.children] == ["a.b.c"]


@pytest.mark.parametrize("modules", [[], NET[1:]])
def test_the_first_module_is_the_model(modules: list[ModuleParams]) -> None:
    with pytest.raises(ValueError, match="the first module must be the model itself"):
        fold_modules(modules)


paths = st.lists(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join), unique=True, max_size=12
).map(sorted)
sizes = st.integers(0, 10**15)


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[ModuleParams], list[Operation], dict[str, int]]:
    names = ["", *draw(paths)]
    modules = [ModuleParams(path, "Module", draw(sizes), draw(sizes)) for path in names]
    operations = [
        work(draw(st.sampled_from(names)), draw(sizes), draw(st.sampled_from(["forward", "backward"])), draw(st.integers(1, 5)))
        for _ in range(draw(st.integers(0, 8)))
    ]  # fmt: skip
    return modules, operations, {path: draw(sizes) for path in names if draw(st.booleans())}


@given(case=trees(), depth=st.none() | st.integers(0, 5))
def test_nothing_is_lost_at_any_depth(
    case: tuple[list[ModuleParams], list[Operation], dict[str, int]], depth: int | None
) -> None:
    modules, operations, activations = case
    tree = fold_modules(modules, operations, activations, depth=depth)
    assert tree.num_params == sum(module.num_params for module in modules)
    assert tree.num_trainable == sum(module.num_trainable for module in modules)
    assert tree.forward_flops == sum(op.total_flops for op in operations if op.phase == "forward")
    assert tree.backward_flops == sum(op.total_flops for op in operations if op.phase == "backward")
    assert tree.activation_bytes == sum(activations.values())


@given(case=trees())
def test_children_and_what_is_its_own_sum_to_each_module(
    case: tuple[list[ModuleParams], list[Operation], dict[str, int]],
) -> None:
    modules, operations, activations = case
    own = {module.path: module for module in modules}
    nodes = by_path(fold_modules(modules, operations, activations))
    assert nodes.keys() == own.keys()
    for path, node in nodes.items():
        assert node.num_params == own[path].num_params + sum(child.num_params for child in node.children)
        work_here = sum(op.total_flops for op in operations if op.module == path and op.phase == "forward")
        assert node.forward_flops == work_here + sum(child.forward_flops for child in node.children)
        bytes_here = activations.get(path, 0)
        assert node.activation_bytes == bytes_here + sum(child.activation_bytes for child in node.children)
