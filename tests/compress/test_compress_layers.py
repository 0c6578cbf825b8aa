"""Layers: what is found, what is kept and said, what is chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from kleiber.compress.layers import Layer, find_layers, kept_notes, require_finite, select
from kleiber.data import Batch
from kleiber.errors import RecipeError
from kleiber.models import build
from kleiber.models.gpt import GPTSpec
from kleiber.models.resnet import ResNetSpec
from kleiber.models.rnn import RNNSpec

TOKENS = Batch({"tokens": np.arange(18).reshape(2, 9)}, 2)


def gpt_spec(**size: object) -> GPTSpec:
    return GPTSpec.from_dial({"depth": 2, "width": 32, **size}, vocab_size=64, context=16)


def test_a_gpt_has_its_fused_matrices_in_the_order_of_use_and_one_tied_embedding() -> None:
    layers = find_layers(build(gpt_spec()), TOKENS)
    names = [f"blocks.{i}.{one}" for i in (0, 1) for one in ("qkv", "attn_out", "gate_up", "mlp_down")]
    assert [layer.name for layer in layers] == ["embedding", *names]
    assert layers[0] == Layer("embedding", "embedding", (64, 32), is_head=False, is_tied=True)
    assert layers[1] == Layer("blocks.0.qkv", "linear", (96, 32), is_head=False, is_tied=False)
    assert kept_notes(build(gpt_spec()), TOKENS) == ()


def test_an_untied_head_is_one() -> None:
    layers = find_layers(build(gpt_spec(is_tied=False)), TOKENS)
    assert layers[0].is_tied is False
    assert (layers[-1].name, layers[-1].is_head, layers[-1].is_hidden) == ("head", True, False)


def test_a_transformers_model_has_the_same_layers_unfused() -> None:
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    layers = find_layers(transformers.LlamaForCausalLM(config), TOKENS)
    parts = ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down")
    assert [layer.name for layer in layers] == [
        "model.embed_tokens.weight",
        *(f"model.layers.0.{part}_proj.weight" for part in parts),
    ]
    assert layers[0].is_tied


def test_a_resnet_has_its_convolutions_and_a_head() -> None:
    spec = ResNetSpec.of_size({"depth": 8, "width": 8}, ResNetSpec.example_shape)
    layers = find_layers(build(spec), Batch({"images": np.zeros((2, 3, 32, 32), np.float32)}, 2))
    assert {layer.kind for layer in layers[:-1]} == {"conv"}
    assert layers[0].matrix_shape == (8, 27)
    assert layers[-1].is_head


def test_experts_and_recurrences_are_kept_and_named() -> None:
    (note,) = kept_notes(build(gpt_spec(num_experts=4)), TOKENS)
    assert note == (
        "Kept as they are, because no linear layer, convolution or embedding reads them whole: "
        "blocks.0.experts.gate_up, blocks.0.experts.down, blocks.1.experts.gate_up and 1 more."
    )
    rnn = build(RNNSpec.of_size({"depth": 1, "width": 32}, RNNSpec.example_shape))
    assert "recurrence.weight_ih_l0, recurrence.weight_hh_l0." in kept_notes(rnn, TOKENS)[0]


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.pointwise = nn.Conv2d(4, 2, 1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(images_BCHW))
        return out


def test_a_grouped_convolution_is_kept_and_named() -> None:
    batch = Batch({"images": np.zeros((1, 4, 5, 5), np.float32)}, 1)
    assert [layer.name for layer in find_layers(Grouped(), batch)] == ["pointwise.weight"]
    assert kept_notes(Grouped(), batch) == (
        "Kept as they are, because their convolution is grouped: depthwise.weight.",
    )


LAYERS = (
    Layer("table", "embedding", (9, 4), is_head=False, is_tied=False),
    Layer("blocks.0.up", "linear", (4, 4), is_head=False, is_tied=False),
    Layer("blocks.1.up", "linear", (4, 4), is_head=False, is_tied=False),
    Layer("head", "linear", (9, 4), is_head=True, is_tied=False),
)
TIED = Layer("table", "embedding", (9, 4), is_head=False, is_tied=True)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, [1, 2]),
        ({"has_embedding": True}, [0, 1, 2]),
        ({"has_head": True}, [1, 2, 3]),
        ({"keep": ["*.1.*"]}, [1]),
        ({"only": ["head", "*.0.*"]}, [1, 3]),
        ({"only": ["*.up"], "keep": ["blocks.0.*"]}, [2]),
    ],
)
def test_hidden_layers_are_chosen_and_others_as_asked(choice: dict[str, object], expected: list[int]) -> None:
    assert select(LAYERS, **choice) == tuple(LAYERS[index] for index in expected)  # type: ignore[arg-type]


def test_a_tied_table_is_chosen_as_either() -> None:
    for choice in ({"has_embedding": True}, {"has_head": True}):
        assert TIED in select((TIED, *LAYERS[1:]), **choice)


def test_patterns_that_match_nothing_and_choices_of_nothing_are_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"no layer's name matches 'blocks.0.upp'. Did you mean 'blocks.0.up'"
    ):
        select(LAYERS, keep=["blocks.0.upp"])
    with pytest.raises(RecipeError, match="no layer is left to treat"):
        select(LAYERS, keep=["blocks.*"])


def test_weights_that_are_no_numbers_are_refused_by_name() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    layers = find_layers(module, Batch({"features": np.zeros((1, 3), np.float32)}, 1))
    require_finite(module, layers)
    with torch.no_grad():
        module.get_parameter("1.weight")[0, :2] = torch.tensor([torch.nan, torch.inf])
    with pytest.raises(RecipeError, match=r"the weight 1.weight holds 2 numbers that are NaN or infinite"):
        require_finite(module, layers)
