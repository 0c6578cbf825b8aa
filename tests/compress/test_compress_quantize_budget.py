"""Bits under a budget: against all combinations, and what the choice is made by."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kleiber.compress.quantize.bits import grids_within_bytes, grids_within_mean_bits
from kleiber.compress.quantize.budget import Choice, least_error, weight_bytes
from kleiber.compress.quantize.sensitivity import loss_changes, output_changes
from kleiber.data import Batch
from kleiber.errors import RecipeError
from kleiber.models.stored.grid import Grid
from kleiber.models.stored.packing import pack
from kleiber.models.stored.rounding import round_to_nearest
from kleiber.runs import TaskRecipe
from kleiber.tasks import Regression

CHOICES = st.builds(Choice, cost=st.integers(1, 30).map(float), error=st.integers(0, 50).map(float))
WIDTHS = [Grid(bits, is_symmetric=False) for bits in (2, 4, 8)]


@given(st.lists(st.lists(CHOICES, min_size=1, max_size=4), min_size=1, max_size=5), st.integers(1, 120))
def test_the_least_error_is_that_of_all_combinations(layers: list[list[Choice]], budget: int) -> None:
    sums = [
        (sum(choice.cost for choice in chosen), sum(choice.error for choice in chosen))
        for chosen in itertools.product(*layers)
    ]
    within = [error for cost, error in sums if cost <= budget]
    numbers = least_error(layers, budget)
    if not within:
        assert numbers is None
        return
    assert numbers is not None
    found = [choices[number] for choices, number in zip(layers, numbers, strict=True)]
    assert sum(choice.cost for choice in found) <= budget
    assert sum(choice.error for choice in found) == min(within)


def test_many_layers_of_odd_sizes_stay_within_the_budget_and_near_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = torch.randint(1000, 9999, (30,), generator=torch.Generator().manual_seed(0)).tolist()
    layers = [[Choice(bits * size, size / 4**bits) for bits in (2, 3, 4, 6, 8)] for size in sizes]
    budget = 4.3 * sum(sizes)

    def error_of(numbers: list[int] | None) -> float:
        assert numbers is not None
        found = [choices[number] for choices, number in zip(layers, numbers, strict=True)]
        assert sum(choice.cost for choice in found) <= budget
        return sum(choice.error for choice in found)

    exact = error_of(least_error(layers, budget))
    monkeypatch.setattr("kleiber.compress.quantize.budget._MAX_FRONT", 500)
    assert exact <= error_of(least_error(layers, budget)) <= 1.01 * exact


@given(st.integers(2, 8), st.integers(1, 70), st.none() | st.integers(1, 70), st.booleans())
def test_bytes_are_those_of_the_tensors_in_a_file(
    bits: int, columns: int, group: int | None, is_symmetric: bool
) -> None:
    form = round_to_nearest(torch.randn(8, columns), grid := Grid(bits, group, is_symmetric))
    codes_bytes = pack(form.codes_RC, bits).nbytes
    zeros_bytes = 0 if is_symmetric else form.zero_RG.numel() * bits // 8  # eight rows: whole bytes
    assert weight_bytes(8, columns, grid) == codes_bytes + 2 * form.scale_RG.numel() + zeros_bytes


def test_layers_that_suffer_more_get_more_bits() -> None:
    grids = dict.fromkeys(("tender", "tough"), WIDTHS)
    shapes = {"tender": [(4, 32)], "tough": [(4, 32)]}
    changes = {"tender": [9.0, 3.0, 0.0], "tough": [0.3, 0.1, 0.0]}
    by_mean = grids_within_mean_bits(shapes, grids, changes, 5.0)
    assert {name: grid.num_bits for name, grid in by_mean.items()} == {"tender": 8, "tough": 2}
    most = sum(weight_bytes(4, 32, Grid(bits, is_symmetric=False)) for bits in (8, 2))
    by_bytes = grids_within_bytes(shapes, grids, changes, most + 100, other_bytes=100)
    assert by_bytes == by_mean


def test_budgets_that_cannot_be_met() -> None:
    shapes, grids, changes = {"one": [(4, 32)]}, {"one": WIDTHS[1:]}, {"one": [1.0, 0.0]}
    with pytest.raises(
        RecipeError, match=r"mean_bits must be at least 4, the least of bit_widths\. Got 3\.5"
    ):
        grids_within_mean_bits(shapes, grids, changes, 3.5)
    least = weight_bytes(4, 32, WIDTHS[1]) + 50
    expected = rf"50 bytes of other weights and the fewest bits of 1 layers come to {least} bytes\. Got 60"
    with pytest.raises(RecipeError, match=expected):
        grids_within_bytes(shapes, grids, changes, 60, other_bytes=50)
    with pytest.raises(RecipeError, match="max_bytes cannot be met"):
        grids_within_bytes(shapes, grids, changes, 40, other_bytes=50)


def two_layers() -> tuple[nn.Sequential, Batch]:
    """Return a net whose second layer sees inputs a hundred times larger, and data that it fits exactly."""
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 3, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(torch.randn(8, 8, generator=generator))
        module[1].weight.copy_(torch.randn(3, 8, generator=generator))
    x_NC = torch.randn(64, 8, generator=generator)
    with torch.no_grad():
        values = module(x_NC)
    return module, Batch({"features": x_NC.numpy(), "values": values.numpy()}, 64)


def test_the_loss_with_one_layer_rounded() -> None:
    module, batch = two_layers()
    task = Regression(TaskRecipe(name="regression"))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    changes = loss_changes(module, task, [batch], {"0.weight": WIDTHS, "1.weight": WIDTHS[:1]})
    assert {name: len(found) for name, found in changes.items()} == {"0.weight": 3, "1.weight": 1}
    assert changes["0.weight"] == sorted(changes["0.weight"], reverse=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    with torch.no_grad():
        module[1].weight.copy_(round_to_nearest(module[1].weight, WIDTHS[0]).dense())
        assert changes["1.weight"][0] == pytest.approx(float(task.loss(module, batch)), rel=1e-5)


def test_the_change_of_outputs_is_relative_to_them() -> None:
    module, batch = two_layers()
    changes = output_changes(module, [batch], {"0.weight": WIDTHS})
    x_NC = torch.from_numpy(batch.arrays["features"])
    W_RC = module[0].weight.detach()
    for grid, change in zip(WIDTHS, changes["0.weight"], strict=True):
        outputs, rounded = x_NC @ W_RC.T, x_NC @ round_to_nearest(W_RC, grid).dense().T
        assert change == pytest.approx(
            float((rounded - outputs).square().sum() / outputs.square().sum()), rel=1e-4
        )
