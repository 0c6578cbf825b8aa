from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.infer.export.gguf.blocks import blocks_of
from kleiber.models.stored import Quantized


def form(
    num_bits: int, num_groups: int, columns: int, *, is_symmetric: bool, seed: int = 0, rows: int = 3
) -> Quantized:
    """Return random codes whose scales fp16 holds exactly."""
    rng = np.random.default_rng(seed)
    zeros = (
        np.full((rows, num_groups), 2 ** (num_bits - 1))
        if is_symmetric
        else rng.integers(0, 2**num_bits, (rows, num_groups))
    )
    return Quantized(
        codes_RC=torch.from_numpy(rng.integers(0, 2**num_bits, (rows, columns)).astype(np.uint8)),
        scale_RG=torch.from_numpy(2.0 ** rng.integers(-9, 1, (rows, num_groups))).float(),
        zero_RG=torch.from_numpy(zeros.astype(np.uint8)),
        num_bits=num_bits,
    )


def test_a_block_of_four_bits_by_hand() -> None:
    codes = torch.arange(32, dtype=torch.uint8)[None] % 16
    found = blocks_of(Quantized(codes, torch.full((1, 1), 0.5), torch.tensor([[8]], dtype=torch.uint8), 4))
    assert found is not None
    assert found.kind == "Q4_0"
    # 0.5 in fp16 is 0x3800; the codes 0 to 15 stand in the lower halves, and again in the upper.
    assert found.bytes_RY[0].tolist() == [0x00, 0x38, *(17 * code for code in range(16))]


def test_zeros_become_the_least_value_of_a_block() -> None:
    codes = torch.zeros(1, 32, dtype=torch.uint8)
    found = blocks_of(Quantized(codes, torch.full((1, 1), 2.0), torch.tensor([[3]], dtype=torch.uint8), 4))
    assert found is not None
    assert found.kind == "Q4_1"
    assert found.bytes_RY[0, :4].view(np.float16).tolist() == [2.0, -6.0]


@settings(max_examples=40)
@given(
    num_bits=st.integers(2, 8),
    num_groups=st.sampled_from([1, 2, 4]),
    is_symmetric=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_gguf_library_reads_the_numbers_that_the_codes_stand_for(
    num_bits: int, num_groups: int, is_symmetric: bool, seed: int
) -> None:
    gguf = pytest.importorskip("gguf")
    asked = form(num_bits, num_groups, 128, is_symmetric=is_symmetric, seed=seed)
    found = blocks_of(asked)
    if found is None:  # eight bits whose zeros are far from the middle
        assert num_bits == 8
        assert not is_symmetric
        return
    assert found.kind == ("Q8_0" if num_bits > 4 else "Q4_0" if asked.is_symmetric else "Q4_1")
    kind = gguf.GGMLQuantizationType[found.kind]
    np.testing.assert_array_equal(gguf.quants.dequantize(found.bytes_RY, kind), asked.dense().numpy())


@pytest.mark.parametrize(("num_groups", "columns"), [(1, 48), (4, 64), (2, 96)])
def test_groups_that_no_block_holds(num_groups: int, columns: int) -> None:
    assert blocks_of(form(4, num_groups, columns, is_symmetric=True)) is None
