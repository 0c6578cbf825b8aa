from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kleiber.compress.structure import block_influence
from kleiber.compress.structure.axes import Axis, Norm, Place, cut
from kleiber.compress.structure.importance import Moments, gain_factor, stream_scores, unit_scores
from kleiber.compress.structure.refit import refitted
from kleiber.data import Batch


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_units_are_cut_from_all_their_places() -> None:
    # Two heads of two features; keys and values of one feature each, fused behind them; a reader by columns.
    axis = Axis("heads", 2, (Place("qkv", 0, ((0, 2), (4, 1), (6, 1))), Place("out", 1, ((0, 2),))), ())
    state = {"qkv": torch.arange(8.0)[:, None], "out": torch.arange(8.0).view(2, 4), "other": torch.ones(3)}
    left = cut(state, [(axis, torch.tensor([1]))])
    assert left["qkv"].flatten().tolist() == [2, 3, 5, 7]
    assert left["out"].tolist() == [[2, 3], [6, 7]]
    assert torch.equal(left["other"], state["other"])


def test_two_axes_of_one_dimension_are_cut_together() -> None:
    # Two branches laid side by side: their channels start at 0 and at 3.
    first = Axis("a", 3, (Place("w", 1, ((0, 1),)),), ())
    second = Axis("b", 2, (Place("w", 1, ((3, 1),)),), ())
    left = cut({"w": torch.arange(5.0)[None]}, [(first, torch.tensor([0, 2])), (second, torch.tensor([1]))])
    assert left["w"].tolist() == [[0, 2, 4]]


def test_blocks_that_follow_are_numbered_anew() -> None:
    names = [f"blocks.{index}.w" for index in range(12)] + ["blocks_10.w", "head"]
    state = {name: torch.tensor(float(number)) for number, name in enumerate(names)}
    left = cut(state, [], dropped_blocks=["blocks.1", "blocks.10"])
    assert left["blocks.0.w"] == 0
    assert left["blocks.1.w"] == 2
    assert left["blocks.8.w"] == 9
    assert left["blocks.9.w"] == 11
    assert left["blocks_10.w"] == 12
    assert len(left) == 12


def test_columns_of_a_channel_are_all_its_pixels() -> None:
    place = Place("conv", 1, ((2, 1),))
    assert place.columns(torch.tensor([0, 1]), (5, 4, 1, 2)).tolist() == [[4, 5], [6, 7]]


@given(st.integers(0, 50))
def test_a_contribution_is_the_root_mean_square_of_what_a_unit_adds(seed: int) -> None:
    weight, x = random(3, 6, seed=seed), random(20, 6, seed=seed + 1)
    columns = torch.arange(6).view(3, 2)
    scores = unit_scores(weight, x.T @ x / 20, columns, "contribution")
    sizes = unit_scores(weight, x.T @ x / 20, columns, "activation")
    for unit in range(3):
        part = x[:, columns[unit]]
        added = part @ weight[:, columns[unit]].T
        assert float(scores[unit]) == pytest.approx(float(added.square().sum(1).mean().sqrt()))
        assert float(sizes[unit]) == pytest.approx(float(part.square().sum(1).mean().sqrt()))


def test_a_stream_is_worth_what_all_readers_see() -> None:
    readers = (Place("a", 1), Place("b", 1))
    seen = {
        "a": Moments(torch.zeros(2), torch.tensor([4.0, 1.0])),
        "b": Moments(torch.zeros(2), torch.tensor([9.0, 25.0])),
    }
    axis = Axis("width", 2, readers, readers, is_inner=False)
    state = {"a": torch.ones(3, 2), "b": torch.ones(3, 2)}
    assert stream_scores(axis, state, seen).tolist() == [5, 6]


@given(st.integers(0, 50), st.booleans())
def test_gains_make_up_for_what_a_norm_no_longer_sees(seed: int, has_shift: bool) -> None:
    # Two features are always 0 before the gain (of a layer norm: at the mean): the other four must come out as before.
    x = random(10, 6, seed=seed)
    x[:, 4:] = x[:, :4].mean(1, keepdim=True) if has_shift else 0
    gain, shift = 1 + random(6, seed=seed + 1).abs(), random(6, seed=seed + 2) * has_shift

    def norm(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        width = (len(gain),)
        if has_shift:
            return nn.functional.layer_norm(x, width, gain, shift, eps=0.0)
        return nn.functional.rms_norm(x, width, gain, eps=0.0)

    before = norm(x, gain, shift)
    reader = Place("reader", 1)
    state = {"gain": gain, "shift": shift, "reader": torch.ones(2, 6)}
    seen = {"reader": Moments(before.mean(0), before.square().mean(0))}
    kept = torch.arange(4)
    factor = gain_factor(Norm("gain", "shift" if has_shift else None, reader), state, seen, kept)
    assert factor == pytest.approx(1.5**0.5)
    assert torch.allclose(norm(x[:, :4], gain[:4] * factor, shift[:4]), before[:, :4], atol=1e-9)


@given(st.integers(0, 50))
def test_no_other_weights_on_what_is_kept_come_nearer(seed: int) -> None:
    weight, x = random(3, 6, seed=seed), random(40, 6, seed=seed + 1) @ random(6, 6, seed=seed + 2)
    is_kept = torch.tensor([True, False, True, True, False, True])
    fitted = refitted(weight, x.T @ x / 40, is_kept, damping=0.0)
    best = torch.linalg.lstsq(x[:, is_kept], x @ weight.T).solution.T
    assert torch.allclose(fitted[:, is_kept], best, atol=1e-6)
    assert not bool(fitted[:, ~is_kept].any())


def test_inputs_that_were_never_seen_move_nothing() -> None:
    weight, second = random(2, 3), torch.diag(torch.tensor([1.0, 2.0, 0.0]))
    is_kept = torch.tensor([True, True, False])
    assert torch.equal(refitted(weight, second, is_kept)[:, :2], weight[:, :2])
    assert torch.equal(refitted(weight, torch.zeros(3, 3), is_kept)[:, :2], weight[:, :2])


def test_influence_is_one_minus_the_cosine() -> None:
    class Turn(nn.Module):
        def __init__(self, angle: float) -> None:
            super().__init__()
            c, s = np.cos(angle), np.sin(angle)
            self.turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float32)

        def forward(self, x: Tensor) -> Tensor:
            return 3 * x @ self.turn

    module = nn.Sequential(Turn(0.0), Turn(np.pi / 3), Turn(np.pi))
    batch = Batch({"features": np.array([[1.0, 2.0], [-3.0, 0.5]], np.float32)}, 2)
    found = block_influence(module, [batch, batch], ["0", "1", "2"])
    assert [round(one, 5) for one in found.values()] == [0, 0.5, 2]
    assert not module[0]._forward_hooks
