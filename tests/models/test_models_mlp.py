from __future__ import annotations

import pytest
import torch

from kleiber.models import build
from kleiber.models.mlp import MLPSpec
from kleiber.runs import DataShape

MNIST = MLPSpec.example_shape
SERIES = DataShape(inputs="series", context=6, num_features=2, num_outputs=1)


def spec_of(shape: DataShape = MNIST, **size: object) -> MLPSpec:
    return MLPSpec.of_size({"depth": 2, "width": 12} | size, shape)


def test_count_and_flops_worked_by_hand() -> None:
    # 784-300-300-10: 784*300 + 300 + 300*300 + 300, and a head of 300*10 + 10
    spec = spec_of(width=300)
    assert (spec.count().body, spec.count().head) == (235_500 + 90_300, 3_010)
    products = 784 * 300 + 300 * 300 + 300 * 10
    flops = spec.flops(16)
    assert flops.forward == 2 * 16 * products
    assert flops.backward == 2 * 16 * (2 * products - 784 * 300)  # the data has no gradient
    # A norm has a gain and a shift, and takes the bias's place.
    assert spec_of(width=300, norm="layer").count().total == spec.count().total + 2 * 300


def test_the_outputs_are_those_of_the_formula() -> None:
    module = build(spec_of(activation="tanh", init="default")).double()
    images = torch.randn(5, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    params = dict(module.named_parameters())
    x = images.reshape(5, 784)
    for layer in ("layers.0.linear", "layers.1.linear"):
        x = torch.tanh(x @ params[f"{layer}.weight"].T + params[f"{layer}.bias"])
    expected = x @ params["head.weight"].T + params["head.bias"]
    assert torch.allclose(module(images), expected, atol=1e-12)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_hidden_features_are_normalized(norm: str) -> None:
    module = build(spec_of(norm=norm, width=64))
    seen = []
    module.layers[0].norm.register_forward_hook(lambda _module, _args, out: seen.append(out))
    images = 7 * torch.randn(32, 784, generator=torch.Generator().manual_seed(0)) + 3
    module.layers[0](images)
    dim = 1 if norm == "layer" else 0
    assert torch.allclose(seen[0].mean(dim), torch.zeros(()), atol=1e-5)
    assert torch.allclose(seen[0].var(dim, unbiased=False), torch.ones(()), atol=1e-3)
    assert torch.equal(module.layers[0](images), seen[0].relu())


def test_dropout_acts_in_training_alone() -> None:
    module = build(spec_of(dropout=0.5, width=200))
    images = torch.ones(1, 1, 28, 28)
    torch.manual_seed(0)
    first, second = module(images), module(images)
    assert not torch.equal(first, second)
    module.eval()
    assert torch.equal(module(images), module(images))


def test_a_series_is_read_number_by_number() -> None:
    module = build(spec_of(SERIES))
    series = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(0))
    assert module(series).shape == (3, 1)
    assert torch.equal(module(series), module(series.reshape(3, 12)))
