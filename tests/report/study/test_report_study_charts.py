import pytest

from kleiber.report.study.charts import bytes_chart, curve_chart, has_linear_axis
from kleiber.report.study.sentences import more_of
from kleiber.report.study.words import read_study_words

EN = read_study_words("en")


def encodings(spec, channel):
    found = [layer.get("encoding", {}).get(channel) for layer in spec["layer"]]
    return [one for one in [*found, spec.get("encoding", {}).get(channel)] if one]


def y_scale(spec):
    return next(one["scale"] for one in encodings(spec, "y") if "scale" in one)


def with_point(curve, k, **values):
    points = list(curve.points)
    points[k] = points[k].model_copy(update=values)
    return curve.model_copy(update={"points": tuple(points)})


def test_a_bar_below_zero_leaves_the_axis_logarithmic_and_is_cut_at_its_edge(study):
    curve = with_point(study.curve("loss"), 0, low=-1.0, high=30.0)
    spec = curve_chart(curve, study, EN)
    low, high = y_scale(spec)["domain"]
    assert y_scale(spec)["type"] == "log"
    smallest = min(point.value for point in curve.points)
    assert low == pytest.approx(smallest / 3 / 1.15)
    assert high < 30
    assert 0 < spec["datasets"]["points"][0]["low"] < low
    assert EN("says_linear") not in more_of(curve, EN)


def test_a_value_of_zero_makes_the_axis_linear_and_the_page_says_so(study):
    assert min(point.value for point in study.curve("gap").points) < 0
    assert has_linear_axis(study.curve("gap"))
    curve = study.curve("decode_s")
    assert not has_linear_axis(curve)
    curve = with_point(curve, 0, value=0.0)
    assert "type" not in y_scale(curve_chart(curve, study, EN))
    assert EN("says_linear") in more_of(curve, EN)


def test_a_line_has_one_colour_on_every_chart_and_the_legend_holds_what_is_drawn(study):
    whole = curve_chart(study.curve("step_time_s"), study, EN)
    alone = study.curve("decode_s")
    alone = alone.model_copy(
        update={"points": tuple(one for one in alone.points if one.lines != ("depth",)), "trends": ()}
    )
    part = curve_chart(alone, study, EN)
    domains = {tuple(one["scale"]["domain"]) for spec in (whole, part) for one in encodings(spec, "color")}
    assert domains == {("depth and width together", "depth alone", "width alone")}
    legends = [one["legend"] for one in encodings(part, "color")]
    assert legends[0]["values"] == ["depth and width together", "width alone"]


def test_a_size_on_two_lines_is_no_measurement_of_the_second(study):
    curve = study.curve("seed_sd")
    assert {point.lines for point in curve.points} == {("both",)}
    curve = with_point(curve, 1, lines=("both", "width"))
    spec = curve_chart(curve, study, EN)
    assert {row["line"] for row in spec["datasets"]["points"]} == {"depth and width together"}
    assert len(spec["datasets"]["points"]) == len(curve.points)
    assert all(one["legend"] is None for one in encodings(spec, "color"))


def test_bytes_are_predicted_where_they_were_measured(study):
    curves = [study.curve(name) for name in ("stored_bytes", "packed_bytes")]
    data = bytes_chart(curves, EN)["datasets"]
    assert {row["N"] for row in data["predicted"]} == {row["N"] for row in data["points"]}


def test_a_line_is_drawn_only_of_a_trend(study):
    curve = study.curve("highest_rate")
    assert [trend.has_trend for trend in curve.trends] == [False, False, False]
    assert curve_chart(curve, study, EN)["datasets"]["fit"] == []
    drawn = {row["line"] for row in curve_chart(study.curve("step_time_s"), study, EN)["datasets"]["fit"]}
    assert drawn == {"depth and width together", "depth alone", "width alone"}
