"""The picture of an advice: lines that are what the document says, and where they meet."""

from __future__ import annotations

import pytest

from kleiber.cost import find_device
from kleiber.errors import UsageError
from kleiber.report.advice_chart import advice_chart, write_advice_chart
from kleiber.scaling import published_law
from kleiber.study.advice.advise import Target, Wanted, advise
from kleiber.study.place import Place


@pytest.fixture(scope="module")
def advice():
    return advise(published_law("besiroglu"), Target(loss=2.2), Place(find_device("h100-sxm")), Wanted(1e12))


def test_lines_pass_through_the_totals(advice):
    data = advice_chart(advice)["datasets"]
    asked = {one["route"]: one["cost"] for one in data["asked"]}
    assert asked == {one.title: pytest.approx(one.total.usd.value) for one in advice.routes}
    assert {one["tokens"] for one in data["asked"]} == {1e12}


def test_lines_meet_where_the_document_says(advice):
    data = advice_chart(advice)["datasets"]
    known = [one for one in advice.break_evens if one.served_tokens is not None]
    assert [one["tokens"] for one in data["meets_at"]] == [one.served_tokens.value for one in known]
    assert known
    other = next(route for route in advice.routes if route.title == known[0].other)
    cost = other.train.usd.value + known[0].served_tokens.value * other.token_amount
    assert data["meets_at"][0]["cost"] == pytest.approx(cost)
    bar = data["meets"][0]
    assert bar["tokens"] < bar["at"] < bar["tokens_high"]


def test_it_is_written_as_a_picture_and_as_a_page(advice, tmp_path):
    for name, start in (("a.svg", b"<svg"), ("a.png", b"\x89PNG"), ("a.html", b"<!doctype html>")):
        assert write_advice_chart(advice, tmp_path / name).read_bytes().startswith(start)
    page = (tmp_path / "a.html").read_text()
    assert advice.why[0] in page
    with pytest.raises(UsageError, match=r"--chart writes \.svg, \.png or \.html"):
        write_advice_chart(advice, tmp_path / "a.pdf")


def test_where_nothing_is_served_lines_are_drawn_all_the_same(advice):
    none = advise(published_law("besiroglu"), Target(loss=2.2), Place(find_device("h100-sxm")), Wanted(0.0))
    data = advice_chart(none)["datasets"]
    assert not data["asked"]
    assert len({one["route"] for one in data["lines"]}) == len(none.routes)
