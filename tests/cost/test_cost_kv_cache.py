from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kleiber.cost.kv_cache import kv_cache_bytes
from kleiber.cost.layouts import BlockShape

LLAMA_3_8B = BlockShape(depth=32, width=4096, num_heads=32, num_kv_heads=8, head_dim=128, vocab_size=128_256)


def test_llama_3_8b_keeps_a_gibibyte_of_8192_tokens():
    assert kv_cache_bytes(LLAMA_3_8B, 1, 8192, value_bytes=2) == 2**30


@given(st.integers(1, 64), st.integers(1, 4096), st.sampled_from([1, 2, 4]))
def test_it_is_that_of_each_sequence_and_token(batch, tokens, value_bytes):
    one = kv_cache_bytes(LLAMA_3_8B, 1, 1, value_bytes=1)
    assert (
        kv_cache_bytes(LLAMA_3_8B, batch, tokens, value_bytes=value_bytes)
        == one * batch * tokens * value_bytes
    )
