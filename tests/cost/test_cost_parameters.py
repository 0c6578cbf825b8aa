"""Counts against published ones and against `sum(p.numel())`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kleiber.cost.module_cost import fold_modules
from kleiber.cost.trace.parameters import count_parameters
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.module import GPT


def on_meta(name: str, config_name: str, **sizes: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        module: nn.Module = getattr(transformers, name)(getattr(transformers, config_name)(**sizes))
    return module


LLAMA_3_8B = {
    "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "config", "sizes", "total", "embedding", "head", "is_tied"),
    [
        ("GPT2LMHeadModel", "GPT2Config", {}, 124_439_808, 50_257 * 768, 0, True),
        ("LlamaForCausalLM", "LlamaConfig", LLAMA_3_8B, 8_030_261_248, 128_256 * 4096, 128_256 * 4096, False),
        ("BertModel", "BertConfig", {}, 109_482_240, 30_522 * 768, 0, False),
        ("BertForMaskedLM", "BertConfig", {}, 109_514_298, 30_522 * 768, 0, True),
        ("T5ForConditionalGeneration", "T5Config", {}, 60_506_624, 32_128 * 512, 0, True),
        ("ViTModel", "ViTConfig", {}, 86_389_248, 0, 0, False),
        ("ResNetForImageClassification", "ResNetConfig", {"num_labels": 1000}, 25_557_032, 0, 0, False),
    ],
)
def test_published_counts(
    *, name: str, config: str, sizes: dict[str, Any], total: int, embedding: int, head: int, is_tied: bool
) -> None:
    counts = count_parameters(on_meta(name, config, **sizes))
    assert counts.total == counts.active == counts.trainable == counts.groups.total == total
    assert (counts.groups.embedding, counts.groups.head, counts.groups.is_tied) == (embedding, head, is_tied)


def test_mixtral_visits_two_of_eight_experts() -> None:
    module = on_meta("MixtralForCausalLM", "MixtralConfig")
    counts = count_parameters(module, num_experts=(2, 8))
    experts = 32 * 8 * 3 * 4096 * 14_336
    assert counts.total == 46_702_792_704
    assert counts.active == counts.total - experts * 6 // 8 == 12_879_925_248
    assert count_parameters(module).active == counts.total


class Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
        self.shared_experts = nn.Linear(4, 4)
        self.router = nn.Linear(4, 4, bias=False)


def test_experts_in_a_list_are_visited_in_part_and_shared_ones_always() -> None:
    counts = count_parameters(Mixture(), num_experts=(1, 4))
    assert (counts.total, counts.active) == (4 * 20 + 20 + 16, 20 + 20 + 16)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.position = nn.Embedding(8, 4)
        self.norm = nn.BatchNorm1d(4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.body[1].weight = self.body[0].weight
        self.head = nn.Linear(4, 10)
        self.head.weight = self.table.weight


def test_shared_parameters_count_once_at_their_first_owner() -> None:
    module = Tied()
    counts = count_parameters(module)
    assert (
        counts.total == sum(param.numel() for param in module.parameters()) == 40 + 32 + 8 + 16 + 4 + 4 + 10
    )
    own = {part.path: part.num_params for part in counts.modules}
    assert own == {
        "": 0, "table": 40, "position": 32, "norm": 8, "body": 0, "body.0": 20, "body.1": 4, "head": 10,
    }  # fmt: skip
    tree = fold_modules(counts.modules)
    assert tree.num_params == counts.total
    assert {node.path: node.num_params for node in tree.walk()}["body"] == 24


def test_a_tied_head_is_counted_with_the_table_and_its_bias_with_the_body() -> None:
    groups = count_parameters(Tied()).groups
    assert (groups.embedding, groups.head, groups.is_tied) == (40, 0, True)
    assert groups.body == 32 + 8 + 16 + 4 + 4 + 10  # positions are no tokens


def test_frozen_parameters_and_buffers_stand_apart() -> None:
    module = Tied()
    module.table.requires_grad_(False)
    counts = count_parameters(module)
    assert counts.trainable == counts.total - 40
    assert {part.path: part.num_trainable for part in counts.modules}["table"] == 0
    assert counts.buffer_bytes == 2 * 4 * 4 + 8  # running mean and variance, and how many batches


def test_the_last_linear_layer_as_wide_as_the_vocabulary_is_the_head() -> None:
    module = nn.Sequential(
        nn.Embedding(10, 4), nn.Linear(4, 10), nn.Linear(10, 4), nn.Linear(4, 10), nn.Linear(10, 3)
    )
    groups = count_parameters(module).groups
    assert (groups.embedding, groups.body, groups.head) == (40, 50 + 44 + 33, 50)


@pytest.mark.parametrize("module", [nn.Linear(3, 4), nn.Conv2d(3, 4, 3), nn.LSTM(3, 4), nn.ReLU()], ids=str)
def test_without_a_table_all_is_body(module: nn.Module) -> None:
    counts = count_parameters(module)
    assert counts.groups.body == counts.total == sum(param.numel() for param in module.parameters())


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_family_counts_as_its_spec_does(is_tied: bool) -> None:
    spec = GPTSpec.from_dial({"depth": 3, "width": 48, "is_tied": is_tied}, vocab_size=500, context=64)
    counts = count_parameters(GPT(spec, device="meta"))
    assert counts.groups == spec.count()
    assert counts.modules[2].path == "blocks.0"
