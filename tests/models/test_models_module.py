from __future__ import annotations

import pytest
import torch

from kleiber.errors import UsageError
from kleiber.models import build
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.cache import KVCache
from kleiber.models.gpt.module import EMBEDDING_STD, GPT


def random_model(*, seed: int = 0, **size: object) -> GPT:
    """A model in which no weight is zero and no gain is 1."""
    spec = GPTSpec.from_dial({"depth": 2, "width": 32} | size, vocab_size=300, context=32)
    module = build(spec, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.3 if parameter.ndim == 1 else 0.1))
    return module


SIZES = [
    {},
    {"num_heads": 4, "num_kv_heads": 2},
    {"num_heads": 3, "head_dim": 10, "num_kv_heads": 1, "is_tied": False},
]


def test_initialization_is_the_seeds() -> None:
    spec = GPTSpec.from_dial({"depth": 2, "width": 64, "is_tied": False}, vocab_size=300, context=32)
    one, same, other = build(spec, seed=3), build(spec, seed=3), build(spec, seed=4)
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name))
    assert not torch.equal(one.embedding, other.embedding)


def test_initial_scales() -> None:
    spec = GPTSpec.from_dial({"depth": 2, "width": 64, "is_tied": False}, vocab_size=300, context=32)
    module = build(spec)
    block = module.blocks[0]
    assert module.embedding.std().item() == pytest.approx(EMBEDDING_STD, rel=0.05)
    assert module.head.std().item() == pytest.approx(EMBEDDING_STD, rel=0.05)
    assert block.qkv.std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert block.attn_out.abs().max().item() == block.mlp_down.abs().max().item() == 0
    assert torch.equal(module.final_norm, torch.ones(64))


@pytest.mark.parametrize("size", SIZES)
def test_groups_name_every_parameter_once_and_splits_add_up(size: dict[str, object]) -> None:
    module = random_model(**size)
    groups = module.param_groups()
    assert sorted(groups.names) == sorted(name for name, _ in module.named_parameters())
    assert sum(module.get_parameter(name).numel() for name in groups.names) == module.spec.count().total
    for matrix in groups.hidden:
        assert sum(matrix.row_splits) == module.get_parameter(matrix.name).shape[0]
    fused = {matrix.name: len(matrix.row_splits) for matrix in groups.hidden}
    assert (fused["blocks.0.qkv"], fused["blocks.1.gate_up"], fused["blocks.1.mlp_down"]) == (3, 2, 1)


@pytest.mark.parametrize("size", SIZES)
def test_no_token_sees_a_later_one(size: dict[str, object]) -> None:
    module = random_model(**size)
    tokens = torch.arange(20)[None] * 7 % 300
    changed = tokens.clone()
    changed[0, 12:] += 1
    before, after = module(tokens), module(changed)
    assert torch.allclose(before[:, :12], after[:, :12], atol=1e-6)
    assert (before[:, 12:] - after[:, 12:]).abs().min(dim=-1).values.max() > 1e-4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("chunks", [(1,) * 20, (7, 1, 1, 5, 6), (20,), (19, 1)])
@torch.no_grad()
def test_cached_forward_equals_full_forward(size: dict[str, object], chunks: tuple[int, ...]) -> None:
    module = random_model(**size)
    tokens = torch.randint(0, 300, (2, 20), generator=torch.Generator().manual_seed(1))
    cache = KVCache(module.spec, 2)
    parts = [module(part, cache) for part in tokens.split(chunks, 1)]
    assert cache.length == 20
    assert torch.allclose(torch.cat(parts, 1), module(tokens), atol=1e-5)


@torch.no_grad()
def test_a_full_cache_says_so() -> None:
    module = random_model()
    cache = KVCache(module.spec, 1, max_tokens=8)
    module(torch.zeros(1, 8, dtype=torch.long), cache)
    with pytest.raises(UsageError, match="reads at most 8 tokens"):
        module(torch.zeros(1, 1, dtype=torch.long), cache)
    # 2 tensors, 2 blocks, 2 heads, 8 tokens, 16 features, 4 bytes
    assert cache.num_bytes == 2 * 2 * 2 * 8 * 16 * 4


def test_gradients_reach_every_parameter_and_match_differences() -> None:
    module = random_model().double()
    tokens = torch.randint(0, 300, (2, 9), generator=torch.Generator().manual_seed(2))

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(
            module(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()
        )

    loss().backward()
    for name, parameter in module.named_parameters():
        direction = torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64
        )
        assert parameter.grad is not None, name
        with torch.no_grad():
            parameter.add_(direction * 1e-5)
            above = loss()
            parameter.sub_(direction * 2e-5)
            slope = (above - loss()) / 2e-5
            parameter.add_(direction * 1e-5)
        assert (parameter.grad * direction).sum().item() == pytest.approx(slope.item(), rel=1e-5, abs=1e-8), (
            name
        )
