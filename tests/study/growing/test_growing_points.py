"""From measurements to points, worked out by hand."""

import math

import pytest

from kleiber.runs import DataShape, ParamCount, Recipe, Row, TaskRecipe, guessing_loss, has_learnt
from kleiber.study.growing import findings
from kleiber.study.growing.document import Point
from kleiber.study.growing.file_overhead import file_overhead_bytes
from kleiber.study.growing.uncertainty import log10_error, log10_error_in, log10_error_of


def test_guessing_among_ten_classes():
    shape = DataShape(inputs="images", channels=1, height=28, width=28, num_outputs=10)
    data = Recipe().data.model_copy(update={"shape": shape})
    recipe = Recipe().model_copy(update={"data": data, "task": TaskRecipe(name="classification")})

    assert guessing_loss(recipe) == pytest.approx(2.302585)
    # 2% below is 2.2565.
    assert [has_learnt(loss, guessing_loss(recipe)) for loss in (2.3053, 2.26, 2.25)] == [False, False, True]
    of_values = recipe.model_copy(update={"task": TaskRecipe(name="regression")})
    assert guessing_loss(of_values) is None


def test_errors_of_positive_values_are_those_of_their_logarithms():
    # log10 is 0, 1, 2: the standard deviation is 1.
    assert log10_error([1.0, 10.0, 100.0]) == pytest.approx(1 / math.sqrt(3))
    assert log10_error_of(0.1, 10.0) == pytest.approx(2 / (2 * 1.959964))
    assert log10_error_in(1.0, 10.0) == pytest.approx(1 / math.sqrt(12))
    assert log10_error_in(0.0, 10.0) is None


def test_a_line_of_positive_values_takes_the_kind_of_its_quantity():
    def point(k, value, lines):
        return Point(member=f"m{k}", num_params=10**k, lines=lines, value=value)

    points = [point(k, float(k), ("both",)) for k in (1, 2, 3)]
    kind = findings.kind_of([0.0, 1.0, 2.0])
    trend = findings._trend("both", points, kind)

    assert trend.kind == "per_decade"
    assert trend.slope.value == pytest.approx(1.0)


def test_a_floor_above_the_smallest_mean_loss_is_not_determined(monkeypatch):
    class Law:
        coefficients = {"E": 0.05, "alpha": 2.0, "A": 1.0}  # noqa: RUF012
        e_determined = True

        def __init__(self, alpha_high):
            self.intervals = {"E": {"95": (0.04, 0.06)}, "alpha": {"95": (1.4, alpha_high)}}

    def floor(smallest, alpha_high):
        rows = [
            Row(
                run=str(k),
                num_params=ParamCount(embedding=0, body=10**k, head=0),
                num_tokens=1.0,
                loss=loss,
                trunk=str(k),
            )
            for k, loss in ((3, 0.6), (4, smallest))
        ]
        monkeypatch.setattr(findings, "fit", lambda *_, **__: Law(alpha_high))
        return findings._floor_of(rows).is_determined

    assert floor(0.055, 2.5)
    assert not floor(0.0444, 2.5)
    assert not floor(0.055, 3.0)


def test_the_overhead_of_a_file_is_a_constant_and_a_part_of_each_block():
    # 500 bytes and 300 a block.
    assert file_overhead_bytes(6, [(1, 800), (3, 1400), (4, 1700)]) == pytest.approx(2300)
    assert file_overhead_bytes(6, [(1, 800), (1, 810), (1, 790)]) == 0.0
