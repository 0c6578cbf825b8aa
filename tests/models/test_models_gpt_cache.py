from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.errors import UsageError
from kleiber.models import build
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.cache import KVCache
from kleiber.models.gpt.int8_heads import decoded_heads, int8_heads
from kleiber.models.gpt.module import GPT

SPEC = GPTSpec.from_dial(
    {"depth": 2, "width": 32, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}, vocab_size=100, context=24
)


def random_model() -> GPT:
    module = build(SPEC, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return module


@given(st.integers(0, 2**31), st.sampled_from([1e-30, 1e-3, 1.0, 1e6]), st.integers(1, 40))
@settings(max_examples=50)
def test_a_feature_is_off_by_half_a_scale_at_most(seed: int, size: float, num_features: int) -> None:
    x = torch.randn(3, 2, num_features, generator=torch.Generator().manual_seed(seed)) * size
    codes, scale = int8_heads(x)
    assert codes.dtype == torch.int8
    assert codes.abs().amax(-1).eq(127).all()  # the whole range of each head is used
    assert ((decoded_heads(codes, scale) - x).abs() <= scale * 0.5001).all()
    assert torch.allclose(decoded_heads(codes, scale).abs().amax(-1), x.abs().amax(-1), rtol=1e-5, atol=0)


def test_heads_of_zeros_and_each_heads_own_scale() -> None:
    x = torch.tensor([[0.0, 0.0], [1000.0, 4.0], [0.001, -0.002]])
    codes, scale = int8_heads(x)
    assert codes.tolist() == [[0, 0], [127, 1], [64, -127]]
    assert decoded_heads(codes, scale)[0].tolist() == [0, 0]


@pytest.mark.parametrize("chunks", [(1,) * 20, (7, 1, 1, 5, 6), (19, 1)])
@torch.no_grad()
def test_a_decoder_over_an_int8_cache_says_nearly_the_same(chunks: tuple[int, ...]) -> None:
    module = random_model()
    tokens = torch.randint(0, 100, (2, 20), generator=torch.Generator().manual_seed(1))
    cache = KVCache(SPEC, 2, cache_bits=8)
    logits = torch.cat([module(part, cache) for part in tokens.split(chunks, 1)], 1)
    off = (logits - module(tokens)).std() / module(tokens).std()
    assert 1e-4 < off < 0.02  # int8 in fact, and no more than that


@torch.no_grad()
def test_what_is_read_is_what_was_stored() -> None:
    # However the tokens came in, the same codes are attended to: a prompt at once or token by token.
    module = random_model()
    tokens = torch.randint(0, 100, (1, 12), generator=torch.Generator().manual_seed(2))
    ends = []
    for chunks in ((1,) * 12, (12,)):
        cache = KVCache(SPEC, 1, cache_bits=8)
        ends.append([module(part, cache) for part in tokens.split(chunks, 1)][-1][:, -1])
    assert torch.allclose(*ends, atol=1e-4)


def test_bytes_of_an_int8_cache() -> None:
    # Keys and values, 2 blocks, 3 sequences, 2 heads, 8 tokens: 8 codes and a scale of 4 bytes each.
    assert KVCache(SPEC, 3, max_tokens=8, cache_bits=8).num_bytes == 2 * 2 * 3 * 2 * 8 * (8 + 4)
    assert KVCache(SPEC, 3, max_tokens=8).num_bytes == 2 * 2 * 3 * 2 * 8 * 8 * 4


def test_other_bits_are_refused() -> None:
    with pytest.raises(UsageError, match=r"in 8 bits, or as they are computed\. Got 4"):
        KVCache(SPEC, 1, cache_bits=4)
