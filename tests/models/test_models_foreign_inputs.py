from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from kleiber.errors import RecipeError
from kleiber.models.foreign.inputs import DTYPES, make_inputs, parse_inputs, whole_numbers


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.sampled_from(DTYPES))
def test_what_is_parsed_is_made(size: list[int], dtype: str) -> None:
    (shape,) = parse_inputs([f"{'x'.join(map(str, size))}:{dtype}"])
    (tensor,) = make_inputs([shape], size[0]).args
    assert (tuple(tensor.shape), tensor.dtype) == (tuple(size), getattr(torch, dtype))
    assert parse_inputs([str(shape)]) == (shape,)


def test_a_dtype_is_float32_unless_it_is_named() -> None:
    assert [shape.dtype for shape in parse_inputs(["2x3", "2x3:int64"])] == ["float32", "int64"]


def test_another_batch_replaces_the_first_dimension_of_every_input() -> None:
    tensors = make_inputs(parse_inputs(["8x3x4", "8x5:int64"]), 2).args
    assert [tuple(tensor.shape) for tensor in tensors] == [(2, 3, 4), (2, 5)]


def test_inputs_with_unequal_first_dimensions_keep_the_batch_that_was_typed() -> None:
    shapes = parse_inputs(["8x3", "2x8x5"])
    assert [tuple(tensor.shape) for tensor in make_inputs(shapes, 8).args] == [(8, 3), (2, 8, 5)]
    with pytest.raises(
        RecipeError,
        match=r"A batch of 4 needs every --input to begin with the same batch size\. Got \['8x3', '2x8x5'\]",
    ):
        make_inputs(shapes, 4)


@pytest.mark.parametrize(
    "text", ["", "x", "8x", "x3", "8x0", "8x-3", "8x3.5", "8*3", "8x3x", "axb", "8 x 3", "08x3"]
)
def test_a_malformed_input_is_named(text: str) -> None:
    with pytest.raises(
        RecipeError,
        match=r"--input must be whole numbers from 1 up, joined by 'x'.*\n  try: --input 8x3x32x32",
    ):
        parse_inputs([text])


def test_an_unknown_dtype_is_named_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"unknown dtype 'int46'\. Did you mean 'int64'\?"):
        parse_inputs(["8x3:int46"])
    with pytest.raises(RecipeError, match="unknown dtype ''"):
        parse_inputs(["8x3:"])


def test_an_absurd_input_is_refused() -> None:
    with pytest.raises(RecipeError, match="at most 1e\\+13 values"):
        parse_inputs(["1000000x1000000x1000"])


def test_whole_numbers_stay_below_their_end_and_repeat() -> None:
    first, second = whole_numbers((1000,), 7), whole_numbers((1000,), 7)
    assert set(first.tolist()) == set(range(7))
    assert torch.equal(first, second)
    (ids,) = make_inputs(parse_inputs(["50x4:int64"]), 50).args
    assert set(ids.flatten().tolist()) == {0, 1}


def test_tensors_are_made_on_the_device_that_is_current() -> None:
    shapes = parse_inputs(["2x3", "2x3:int64"])
    with torch.device("meta"):
        assert all(tensor.is_meta for tensor in make_inputs(shapes, 2).args)
    with FakeTensorMode():
        assert all(isinstance(tensor, FakeTensor) for tensor in make_inputs(shapes, 2).args)


def test_importing_the_opener_does_not_import_torch() -> None:
    code = (
        "import sys, kleiber.models.foreign; assert not {'torch', 'transformers', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
