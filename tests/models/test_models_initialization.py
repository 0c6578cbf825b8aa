from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from kleiber.models.activation_functions import ACTIVATIONS
from kleiber.models.activations import ActivationName, InitName
from kleiber.models.initialization import gain_of, initialize_, seeded


def made(init: InitName, activation: ActivationName = "relu", *, width: int = 400) -> nn.Sequential:
    with seeded(0):
        module = nn.Sequential(
            nn.Linear(width, width), nn.Conv2d(16, 64, 5), nn.BatchNorm2d(64), nn.Linear(width, 10)
        )
        initialize_(module, init, activation, head=module[3], branch_ends=[module[2]])
    return module


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gain_keeps_the_mean_square_through_an_activation(activation: ActivationName) -> None:
    z = torch.randn(2_000_000, generator=torch.Generator().manual_seed(0))
    mean_square = ACTIVATIONS[activation](z).square().mean().item()
    assert gain_of(activation) ** 2 * mean_square == pytest.approx(1, rel=0.01)


def test_gains_that_are_known() -> None:
    assert gain_of("relu") == pytest.approx(nn.init.calculate_gain("relu"), rel=1e-9)
    assert gain_of("relu2") == pytest.approx((2 / 3) ** 0.5, rel=1e-9)  # E z^4 / 2 = 3/2


@pytest.mark.parametrize(
    ("init", "linear", "conv"),
    [
        ("kaiming", (2 / 400) ** 0.5, (2 / 400) ** 0.5),  # fan-in 400, and 16 channels of 5x5
        ("xavier", (2 / 800) ** 0.5, (2 / (400 + 1600)) ** 0.5),
        ("zero_residual", (2 / 400) ** 0.5, (2 / 400) ** 0.5),
        ("orthogonal", (2 / 400) ** 0.5, (2 / 400) ** 0.5),
        ("default", (1 / 1200) ** 0.5, (1 / 1200) ** 0.5),  # torch: uniform in +-1/sqrt(fan-in)
    ],
)
def test_scales(init: InitName, linear: float, conv: float) -> None:
    module = made(init)
    assert module[0].weight.std().item() == pytest.approx(linear, rel=0.02)
    assert module[1].weight.std().item() == pytest.approx(conv, rel=0.03)
    assert module[3].weight.std().item() == pytest.approx((1 / 1200) ** 0.5, rel=0.05)
    has_bias = module[0].bias.abs().max().item() > 0, module[1].bias.abs().max().item() > 0
    assert has_bias == (init == "default", init == "default")
    assert module[2].weight.abs().max().item() == (0 if init == "zero_residual" else 1)


def test_orthogonal_rows_have_the_length_of_the_gain() -> None:
    weight = made("orthogonal", "tanh")[1].weight.flatten(1)
    expected = gain_of("tanh") ** 2 * torch.eye(64)
    assert torch.allclose(weight @ weight.T, expected, atol=1e-4)


def through_depth(init: InitName, activation: ActivationName, num_layers: int = 30) -> float:
    """Mean square of the signal after many layers, over that after one."""
    with seeded(1):
        layers = nn.Sequential(*(nn.Linear(512, 512) for _ in range(num_layers)))
        initialize_(layers, init, activation, head=nn.Identity())
        x = torch.randn(256, 512)
    scales = []
    with torch.no_grad():
        for layer in layers:
            x = layer(ACTIVATIONS[activation](x))
            scales.append(x.square().mean().item())
    return scales[-1] / scales[0]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_signal_keeps_its_scale_through_thirty_layers(activation: ActivationName) -> None:
    assert 0.5 < through_depth("kaiming", activation) < 2
    assert through_depth("default", activation) < 1e-2


def test_a_seed_changes_nobody_elses_numbers() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with seeded(0):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(0):
        assert torch.equal(torch.rand(3), first)


def test_a_seed_is_put_back_after_a_failure() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()

    def fail() -> None:
        with seeded(0):
            torch.rand(3)
            raise ValueError("stop")

    refused: Callable[[], None] = fail
    with pytest.raises(ValueError, match="stop"):
        refused()
    assert torch.equal(torch.get_rng_state(), state)
