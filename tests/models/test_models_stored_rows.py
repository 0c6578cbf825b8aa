from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from stored_examples import assert_same, rounded

from kleiber.models.stored import Form, LowRank, Masked, dense_of, join_rows, rows_of

WEIGHT = torch.randn(7, 12, generator=torch.Generator().manual_seed(0))
LEFT, RIGHT = WEIGHT[:, :3], WEIGHT[:3]
FORMS: dict[str, Form] = {
    "quantized": rounded(WEIGHT, num_bits=3, num_groups=5),
    "masked": Masked(WEIGHT > 0),
    "pattern": Masked(WEIGHT > 0, (2, 4)),
    "low_rank": LowRank(LEFT, RIGHT),
    "low_rank_in_bits": LowRank(rounded(LEFT), rounded(RIGHT)),
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


@every_form
def test_parts_join_to_the_whole(form: Form) -> None:
    parts = [rows_of(form, rows) for rows in (slice(0, 2), slice(2, 3), slice(3, 7))]
    joined = join_rows(parts)
    assert joined is not None
    assert_same(joined, form)


@every_form
def test_rows_are_those_of_the_weight(form: Form) -> None:
    part = rows_of(form, slice(2, 5))
    if isinstance(form, Masked):
        assert isinstance(part, Masked)
        assert torch.equal(part.is_kept_RC, form.is_kept_RC[2:5])
    else:
        assert not isinstance(part, Masked)
        assert torch.allclose(part.dense(), form.dense()[2:5], atol=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        FORMS["masked"],
        FORMS["low_rank"],
        rounded(WEIGHT, num_bits=4, num_groups=5),
        rounded(WEIGHT, num_bits=3, num_groups=2),
    ],
)
def test_what_is_stored_in_two_ways_does_not_join(other: Form) -> None:
    assert join_rows([FORMS["quantized"], other]) is None
    assert join_rows([other, FORMS["quantized"]]) is None


def test_patterns_and_factors_that_differ_do_not_join() -> None:
    assert join_rows([FORMS["masked"], FORMS["pattern"]]) is None
    product = LowRank(LEFT, RIGHT)
    assert join_rows([product, replace(product, right_KC=RIGHT.clone())]) is None
    assert join_rows([product, replace(product, left_RK=rounded(LEFT))]) is None


def test_a_form_alone_is_the_whole() -> None:
    assert join_rows([FORMS["masked"]]) is FORMS["masked"]


def test_groups_that_do_not_divide_a_row() -> None:
    form = rounded(WEIGHT, num_bits=8, num_groups=5)
    assert (form.group_size, tuple(form.scale_RG.shape)) == (3, (7, 4))
    assert (dense_of(form) - WEIGHT).abs().max() <= form.scale_RG.max() / 2 + 1e-6


def test_only_the_middle_code_is_symmetric() -> None:
    assert rounded(WEIGHT, is_symmetric=True).is_symmetric
    form = rounded(WEIGHT, is_symmetric=True)
    off = form.zero_RG.clone()
    off[3, 0] += 1
    assert not replace(form, zero_RG=off).is_symmetric
