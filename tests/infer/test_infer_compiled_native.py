"""Products by native code: against plain arithmetic on the same rounded numbers, on processors with VNNI and without."""

import ctypes

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.errors import RecipeError
from kleiber.infer.compiled import native
from kleiber.infer.compiled.compiler import has_compiler
from kleiber.infer.compiled.held import Codes, UnitCodes, held
from kleiber.models.stored import Quantized
from kleiber.models.stored.grid import Grid
from kleiber.models.stored.rounding import round_to_nearest

pytestmark = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler here")


def in_int8(x_NC, block):
    """Round rows as the code does: each block of columns on a grid of its own, its largest number on 127."""
    N, C = x_NC.shape
    padded = torch.nn.functional.pad(x_NC, (0, -C % block)).view(N, -1, block)
    step = padded.abs().amax(-1, keepdim=True) / 127
    codes = torch.where(step > 0, (padded * (1 / step)).round(), 0)
    return (codes * step).view(N, -1)[:, :C]


grids = st.builds(
    Grid,
    num_bits=st.integers(2, 8),
    group_size=st.sampled_from([None, 64, 128, 192, 256]),
    is_symmetric=st.booleans(),
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The same code for processors without VNNI."""
    path = tmp_path_factory.mktemp("kernels") / "plain.so"
    native.compile_kernels(path, "-mno-avx512f")
    return ctypes.CDLL(str(path))


def by(library, x_NC, weight):
    y_NR = torch.empty(len(x_NC), len(weight.scale_RG))
    tensors = (x_NC, weight.codes_RUx, weight.scale_RG, weight.zero)
    sizes = (
        weight.zero.numel(),
        len(x_NC),
        *weight.scale_RG.shape[:1],
        x_NC.shape[1],
        weight.scale_RG.shape[1],
    )
    library.kleiber_products(
        *(ctypes.c_void_p(one.data_ptr()) for one in tensors),
        *map(ctypes.c_int64, (*sizes, weight.num_bits, weight.group_size)),
        ctypes.c_void_p(y_NR.data_ptr()),
    )
    return y_NR


@given(
    grid=grids,
    rows=st.integers(1, 11),
    columns=st.integers(1, 400),
    num_and_seed=st.tuples(st.integers(1, 11), st.integers(0, 99)),
)
@settings(max_examples=150)
def test_products_are_those_of_the_rounded_rows(plain, grid, rows, columns, num_and_seed):
    num, seed = num_and_seed
    generator = torch.Generator().manual_seed(seed)
    form = round_to_nearest(torch.randn(rows, columns, generator=generator), grid)
    weight = held(torch.empty(0), form)
    assert isinstance(weight, UnitCodes)
    x_NC = torch.randn(num, columns, generator=generator)
    x_NC[0] *= 100  # rows do not share a scale
    expected = in_int8(x_NC, 128 if weight.group_size % 128 == 0 else 64) @ form.dense().t()
    tolerance = 1e-5 * x_NC.abs().amax() * form.dense().abs().sum(1).amax() + 1e-5
    assert (weight.many_rows(x_NC) - expected).abs().amax() <= tolerance
    assert (weight.one_row(x_NC[0]) - expected[0]).abs().amax() <= tolerance
    assert (by(plain, x_NC, weight) - expected).abs().amax() <= tolerance
    assert torch.allclose(weight.rows_at(torch.arange(rows)), form.dense(), atol=1e-6)


@given(rows=st.integers(1, 9), columns=st.integers(1, 300), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_plain_products(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    weight, x = torch.randn(rows, columns, generator=generator), torch.randn(columns, generator=generator)
    assert torch.allclose(native.plain_product(x, weight), weight @ x, atol=1e-4)
    assert torch.allclose(native.plain_product(x, weight.t().contiguous().t()), weight @ x, atol=1e-4)


def test_a_hand_worked_product():
    # (3 - 8, 15 - 8) x 0.5 times (127, -1): x is on its grid as it is.
    form = Quantized(
        torch.tensor([[3, 15]], dtype=torch.uint8),
        torch.tensor([[0.5]]),
        torch.tensor([[8]], dtype=torch.uint8),
        4,
    )
    assert held(torch.empty(0), form).one_row(torch.tensor([127.0, -1.0])).tolist() == [-321.0]


def test_many_rows_of_int8_are_rounded_whole():
    generator = torch.Generator().manual_seed(0)
    form = round_to_nearest(torch.randn(9, 200, generator=generator), Grid(8))
    x_NC = torch.randn(40, 200, generator=generator)
    expected = in_int8(x_NC, 200) @ form.dense().t()
    assert torch.allclose(held(torch.empty(0), form).many_rows(x_NC), expected, atol=1e-3)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(odd):
    weight = held(torch.empty(0), round_to_nearest(torch.randn(5, 300), Grid(4, group_size=128)))
    x_NC = torch.randn(2, 300)
    x_NC[1, 150] = odd
    found = weight.many_rows(x_NC)
    assert found[0].isfinite().all()
    assert not found[1].isfinite().any()


def test_rows_of_zeros_give_zeros():
    weight = held(
        torch.empty(0), round_to_nearest(torch.randn(5, 300), Grid(4, group_size=64, is_symmetric=False))
    )
    assert weight.many_rows(torch.zeros(3, 300)).tolist() == [[0.0] * 5] * 3


def test_other_groups_are_left_to_the_compiler():
    assert isinstance(
        held(torch.empty(0), round_to_nearest(torch.randn(5, 300), Grid(4, group_size=48))), Codes
    )


def test_few_bits_take_half_a_byte_a_column_of_whole_units():
    weight = held(torch.empty(0), round_to_nearest(torch.randn(6, 300), Grid(3, group_size=64)))
    assert (weight.computed_in, weight.codes_RUx.nbytes) == ("int4 weights", 6 * 3 * 64)
    weight = held(torch.empty(0), round_to_nearest(torch.randn(6, 300), Grid(5)))
    assert (weight.computed_in, weight.codes_RUx.nbytes) == ("int8 weights", 6 * 3 * 128)


def test_code_that_does_not_compile_is_said(tmp_path):
    with pytest.raises(RecipeError, match="the engine compiled could not compile its native code") as caught:
        native.compile_kernels(tmp_path / "x.so", "-DKLEIBER_VNNI", "-mno-avx512f")
    assert "error" in str(caught.value.got)
    assert list(tmp_path.iterdir()) == []
