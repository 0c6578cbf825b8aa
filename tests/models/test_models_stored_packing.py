from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kleiber.models.stored.packing import num_words, pack, pack_mask, unpack, unpack_mask

GOLDEN = {
    2: [9671571],
    3: [1137079619, 5],
    4: [1640443267, 42251],
    5: [2037986563, 223742768],
    6: [390648323, 1546361367, 235],
    7: [1917010947, 726435041, 478552],
    8: [302843907, 639704087, 976564267],
}
"""Words in which compressed-tensors 0.20 packs the codes (5 i + 3) mod 2^bits of i = 0 to 11."""


@st.composite
def codes(draw: st.DrawFn) -> tuple[torch.Tensor, int]:
    num_bits = draw(st.integers(1, 8))
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 70))
    seed = draw(st.integers(0, 1000))
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2**num_bits, (rows, columns), generator=generator).byte(), num_bits


@pytest.mark.parametrize(("num_bits", "words"), GOLDEN.items())
def test_the_words_are_those_of_compressed_tensors(num_bits: int, words: list[int]) -> None:
    codes_RC = ((torch.arange(12) * 5 + 3) % 2**num_bits).byte().reshape(1, 12)
    assert pack(codes_RC, num_bits).tolist() == [words]


@given(codes())
def test_codes_come_back(case: tuple[torch.Tensor, int]) -> None:
    codes_RC, num_bits = case
    words = pack(codes_RC, num_bits)
    assert words.dtype == torch.int32
    assert tuple(words.shape) == (len(codes_RC), num_words(codes_RC.shape[1], num_bits))
    assert torch.equal(unpack(words, num_bits, codes_RC.shape[1]), codes_RC)


@given(codes())
def test_codes_are_packed_as_the_package_packs_them(case: tuple[torch.Tensor, int]) -> None:
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    codes_RC, num_bits = case
    signed = (codes_RC.int() - 2 ** (num_bits - 1)).to(torch.int8)
    assert torch.equal(pack(codes_RC, num_bits), helpers.pack_to_int32(signed, num_bits))
    along_rows = pack(codes_RC.T.contiguous(), num_bits).T
    assert torch.equal(along_rows, helpers.pack_to_int32(signed, num_bits, packed_dim=0))


def test_words_of_a_part_of_a_tensor_are_read() -> None:
    words = pack(torch.arange(64).byte().reshape(4, 16), 8)
    assert unpack(words.T.contiguous().T, 8, 16).tolist() == unpack(words, 8, 16).tolist()


@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 99))
def test_masks_come_back(rows: int, columns: int, seed: int) -> None:
    mask = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < 0.5
    bits = pack_mask(mask)
    assert tuple(bits.shape) == (rows, -(-columns // 8))
    assert torch.equal(unpack_mask(bits, columns), mask)
