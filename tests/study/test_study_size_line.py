from __future__ import annotations

import pytest

from kleiber.errors import RecipeError
from kleiber.models.gpt import GPTSpec
from kleiber.study.size_line import size_line


def test_it_reaches_from_the_smallest_gpt_to_trillions() -> None:
    line = size_line({}, 32_768, 2048, "total")
    assert (line.specs[0].depth, line.specs[0].width) == (1, 16)
    assert line.low == line.specs[0].count().total
    assert line.high > 1e12
    assert list(line.sizes) == sorted(set(line.sizes))


@pytest.mark.parametrize(("depth", "width"), [(9, 576), (11, 704), (13, 832), (30, 1920), (100, 6400)])
def test_operations_between_its_points_are_those_of_the_specs(depth, width) -> None:
    spec = GPTSpec.from_dial({"depth": depth, "width": width}, 32_768, 2048)
    flops = size_line({}, 32_768, 2048, "total").along(lambda one: one.flops(1, 2048).total)
    assert flops(spec.count().total) == pytest.approx(spec.flops(1, 2048).total, rel=3e-3)


def test_a_value_is_computed_once_and_only_where_it_is_needed() -> None:
    line, asked = size_line({}, 1024, 128, "total"), []
    value = line.along(lambda spec: asked.append(spec) or 2.0)
    assert value(1.1 * line.sizes[5]) == value(1.2 * line.sizes[5]) == pytest.approx(2.0)
    assert asked == [line.specs[5], line.specs[6]]


def test_at_its_points_it_asks_for_no_neighbour() -> None:
    line = size_line({}, 1024, 128, "total")
    counts = line.along(lambda spec: spec.count().total)
    assert [counts(size) for size in line.sizes] == pytest.approx(list(line.sizes))


def test_n_is_counted_by_the_convention() -> None:
    line = size_line({}, 32_768, 2048, "body")
    assert line.low == line.specs[0].count().body < line.specs[0].count().total


def test_keys_of_the_dial_are_kept() -> None:
    line = size_line({"head_dim": 128, "num_kv_heads": 1}, 32_768, 2048, "total")
    assert {(spec.head_dim, spec.num_kv_heads) for spec in line.specs} == {(128, 1)}
    assert {spec.depth for spec in size_line({"depth": 12}, 1024, 128, "total").specs} == {12}
    assert {spec.width for spec in size_line({"width": 96}, 1024, 128, "total").specs} == {96}


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ({"params": 1e9}, "params cannot be set where the size is sought"),
        ({"mlp_width": 64}, "mlp_width cannot be set where the size is sought"),
        ({"depth": 2, "width": 64}, "depth and width cannot both be set"),
        ({"hedas": 2}, "unknown key 'hedas'"),
        ({"head_dim": 6_700}, "width must be a multiple of head_dim 6700"),
    ],
)
def test_keys_that_leave_no_size_open(size, says) -> None:
    with pytest.raises(RecipeError, match=says):
        size_line(size, 1024, 128, "total")
