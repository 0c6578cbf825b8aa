from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lowering_examples import rounded

from kleiber.infer.lowering.codes import blocks_of, signed, widened
from kleiber.infer.lowering.products import input_grid
from kleiber.models.stored import Quantized


def weight(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * columns))


def unpacked(codes: np.ndarray, num_bits: int) -> np.ndarray:
    if num_bits == 8:
        return codes
    return np.stack((codes & 15, codes >> 4), -1).reshape(*codes.shape[:-1], -1)


def test_a_block_by_hand() -> None:
    # Codes 1 to 5 of a row, two to a byte, the first in the lower half; the rest of the block of 16 is filled with 0.
    codes = torch.tensor([[1, 2, 3, 4, 5]], dtype=torch.uint8)
    form = Quantized(codes, torch.tensor([[0.5]]), torch.tensor([[3]], dtype=torch.uint8), 4)
    attributes, packed, scales, zeros = blocks_of(form)
    assert attributes == {"K": 5, "N": 1, "bits": 4, "block_size": 16}
    assert packed.tolist() == [[[0x21, 0x43, 0x05, 0, 0, 0, 0, 0]]]
    assert (scales.tolist(), zeros.tolist()) == ([[0.5]], [[3]])


def test_symmetric_three_bits_become_symmetric_four() -> None:
    form = rounded(weight(3, 8), 3)
    num_bits, codes, zeros = widened(form)
    assert (num_bits, zeros) == (4, None)
    assert np.array_equal(codes.astype(int) - 8, form.codes_RC.numpy().astype(int) - 4)


@given(
    st.integers(2, 8),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([16, 32, 96, 128, 256]),
    st.booleans(),
)
@settings(max_examples=40)
def test_blocks_stand_for_the_same_weight(
    num_bits: int, rows: int, num_groups: int, size: int, is_symmetric: bool
) -> None:
    form = rounded(
        weight(rows, num_groups * size), num_bits, num_groups=num_groups, is_symmetric=is_symmetric
    )
    attributes, packed, scales, zeros = blocks_of(form)
    bits, block = attributes["bits"], attributes["block_size"]
    codes = unpacked(packed, bits).astype(int)
    num_blocks = codes.shape[1]
    middle = np.full((rows, num_blocks), 2 ** (bits - 1))
    zeros = middle if zeros is None else unpacked(zeros, bits)[:, :num_blocks].astype(int)
    dense = (codes - zeros[..., None]) * scales[..., None]
    assert block <= 128
    assert np.array_equal(
        dense.reshape(rows, -1)[:, : form.codes_RC.shape[1]].astype(np.float32), form.dense().numpy()
    )


def test_groups_that_no_block_divides_have_none() -> None:
    assert blocks_of(rounded(weight(2, 80), num_groups=5)) is not None
    assert blocks_of(rounded(weight(2, 80), num_groups=10)) is None
    assert blocks_of(rounded(weight(2, 68), num_groups=4)) is None


def test_codes_too_far_from_their_zero_have_no_sign() -> None:
    far = torch.tensor([[0, 255]], dtype=torch.uint8)
    assert signed(Quantized(far, torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.uint8), 8)) is None
    form = rounded(weight(4, 9), 7, is_symmetric=False)
    assert np.array_equal(signed(form) * form.scale_RG.numpy(), form.dense().numpy())


@given(st.floats(-100, 100), st.floats(-100, 100))
def test_the_grid_of_inputs_holds_their_range_and_zero(one: float, other: float) -> None:
    low, high = sorted((one, other))
    scale, zero = input_grid(low, high)
    assert scale > 0
    step = float(scale) * 0.51
    assert (0 - int(zero)) * float(scale) <= min(low, 0) + step
    assert (255 - int(zero)) * float(scale) >= max(high, 0) - step
