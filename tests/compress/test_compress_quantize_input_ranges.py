"""Ranges of layers' inputs: by hand, and against a search over the numbers themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kleiber.compress.quantize.input_ranges import input_ranges, range_of_histogram
from kleiber.data import Batch


def batches_of(x_NC: torch.Tensor, num: int) -> list[Batch]:
    return [Batch({"features": part.numpy()}, 0) for part in x_NC.chunk(num)]


def heavy(num: int = 4096) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, 4, generator=generator) * torch.rand(num, 1, generator=generator) ** -0.4


def test_all_that_was_seen() -> None:
    x_NC = torch.tensor([[1.0, -3.0], [0.5, 2.0], [7.0, 1.0]])
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        module[0].weight.copy_(torch.eye(3, 2))
        module[0].bias.fill_(0.25)
    found = input_ranges(module, batches_of(x_NC, 3), ["0.weight", "2.weight", "absent"], "minmax", 99.0)
    assert found == {
        "0.weight": (-3.0, 7.0),
        "2.weight": (0.0, 7.25),
    }  # 0 is always within


def test_the_middle_of_what_was_seen_over_batches() -> None:
    x_NC = torch.arange(1000.0).view(500, 2) - 500
    found = input_ranges(nn.Linear(2, 1), batches_of(x_NC, 7), ["weight"], "percentile", 90.0)["weight"]
    assert found[0] == pytest.approx(-450, abs=2)
    assert found[1] == pytest.approx(449, abs=2)


def test_the_least_error_is_that_of_a_search_over_the_numbers() -> None:
    x_NC = heavy()
    found = input_ranges(nn.Linear(4, 1), batches_of(x_NC, 4), ["weight"], "mse", 99.0)["weight"]
    low, high = float(x_NC.min()), float(x_NC.max())

    def error(part: float) -> float:
        step = (high - low) * part / 255
        codes = ((x_NC - low * part) / step).round().clamp(0, 255)
        return float((codes * step + low * part - x_NC).square().sum())

    assert error(found[1] / high) <= 1.02 * min(error(part / 100) for part in range(5, 101))
    assert error(found[1] / high) < 0.97 * error(1.0)


def test_inputs_that_are_all_alike() -> None:
    zeros = torch.zeros(8, 2)
    for clipping in ("percentile", "mse"):
        assert input_ranges(nn.Linear(2, 1), batches_of(zeros, 2), ["weight"], clipping, 99.0) == {
            "weight": (0.0, 0.0)
        }


def test_percentiles_of_a_histogram_are_numpys() -> None:
    x = heavy(50_000).flatten()
    counts = torch.histc(x, 2048, float(x.min()), float(x.max()))
    found = range_of_histogram(counts, float(x.min()), float(x.max()), "percentile", 99.0)
    low, high = np.percentile(x.numpy(), [0.5, 99.5])
    bin_width = float(x.max() - x.min()) / 2048
    assert found[0] == pytest.approx(low, abs=1.5 * bin_width)
    assert found[1] == pytest.approx(high, abs=1.5 * bin_width)
