"""Sums of what goes into layers, whatever the batches it comes in."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kleiber.compress.inputs import hessians, input_norms, visit_inputs
from kleiber.data import Batch


def features(x_NC: torch.Tensor) -> Batch:
    return Batch({"features": x_NC.numpy()}, len(x_NC))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 2**31))
def test_means_do_not_depend_on_how_rows_are_batched(sizes: list[int], seed: int) -> None:
    x_NC = torch.randn(sum(sizes), 4, generator=torch.Generator().manual_seed(seed))
    module = nn.Linear(4, 2)
    batches = [features(part) for part in torch.split(x_NC, sizes)]
    expected_CC = (x_NC.double().T @ x_NC.double() / len(x_NC)).float()
    H_CC = hessians(module, batches, ["weight"])["weight"]
    assert torch.allclose(H_CC, expected_CC, atol=1e-5)
    norms_C = input_norms(module, batches, ["weight"])["weight"]
    assert torch.allclose(norms_C, expected_CC.diagonal().sqrt(), atol=1e-5)


def test_by_hand_behind_an_activation() -> None:
    module = nn.Sequential(nn.Identity(), nn.ReLU(), nn.Linear(2, 1))
    batches = [features(torch.tensor([[1.0, -5.0], [3.0, 2.0]]))]  # behind the activation [1, 0], [3, 2]
    assert hessians(module, batches, ["2.weight"])["2.weight"].tolist() == [[5.0, 3.0], [3.0, 2.0]]
    assert torch.allclose(
        input_norms(module, batches, ["2.weight"])["2.weight"] ** 2, torch.tensor([5.0, 2.0])
    )


def test_a_mean_over_many_rows_stays_exact() -> None:
    # Once a sum in float32 has reached 2^24 it does not see another 1.
    batches = [features(torch.full((1, 1), 4096.0))] + [features(torch.ones(1, 1))] * 255
    assert hessians(nn.Linear(1, 1), batches, ["weight"])["weight"].item() == 65537.0  # and not 65536


def test_what_is_looked_up_or_not_asked_for_is_not_shown() -> None:
    module = nn.Sequential(nn.Embedding(8, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    batch = Batch({"tokens": np.arange(8).reshape(2, 4), "labels": np.zeros(2)}, 2)
    seen: list[tuple[str, tuple[int, ...]]] = []
    visit_inputs(
        module, [batch, batch], ["0.weight", "1.weight"], lambda name, x: seen.append((name, tuple(x.shape)))
    )
    assert seen == [("1.weight", (8, 3))] * 2
    assert hessians(module, [batch], ["0.weight"]) == {}
    assert input_norms(module, [batch], ["0.weight"]) == {}
