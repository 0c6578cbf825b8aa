from __future__ import annotations

import pytest
import torch

from kleiber.models.activations import NormName
from kleiber.models.image_layers import ConvLayer, image_norm
from kleiber.models.stages import convolution


@pytest.mark.parametrize(
    ("name", "dims"), [("batch", (0, 3, 4)), ("group", (2, 3, 4)), ("layer", (1, 2, 3, 4))]
)
def test_a_norm_is_its_formula(name: NormName, dims: tuple[int, ...]) -> None:
    # 48 channels are 16 groups of 3, the most that 32 and 48 share.
    x = 5 * torch.randn(4, 48, 6, 5, generator=torch.Generator().manual_seed(0)) + 2
    grouped = x.reshape(4, 16, 3, 6, 5)
    if name == "batch":
        grouped, dims = x[:, :, None], (0, 2, 3, 4)
    mean, var = grouped.mean(dims, keepdim=True), grouped.var(dims, keepdim=True, unbiased=False)
    expected = ((grouped - mean) / (var + 1e-5).sqrt()).reshape(x.shape)
    assert torch.allclose(image_norm(name, 48)(x), expected, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
@pytest.mark.parametrize("is_padded", [True, False])
def test_a_layer_holds_what_is_counted(norm: NormName, is_padded: bool) -> None:
    layer = ConvLayer(3, 8, 5, norm, "relu", is_padded=is_padded)
    size = tuple(layer(torch.zeros(2, 3, 12, 9)).shape[2:])
    assert size == ((12, 9) if is_padded else (8, 5))
    counted = convolution(3, 8, 5, (size[0], size[1]), norm)
    assert counted.num_params == sum(parameter.numel() for parameter in layer.parameters())
    assert counted.forward_flops == 2 * 8 * 75 * size[0] * size[1]


def test_the_activation_follows_the_norm() -> None:
    x = torch.randn(2, 3, 12, 9, generator=torch.Generator().manual_seed(0))
    layer, bare = ConvLayer(3, 8, 3, "batch", "relu"), ConvLayer(3, 8, 3, "batch", None)
    bare.load_state_dict(layer.state_dict())
    assert bare(x).min() < 0
    assert torch.equal(layer(x), bare(x).relu())
