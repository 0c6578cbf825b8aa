"""What a study cannot say: sizes that did not train, lines that bend, intervals that hold anything."""

import pytest

from kleiber.report.study import trend_rows
from kleiber.report.study.about import workers_of
from kleiber.report.study.charts import curve_chart
from kleiber.report.study.cues import cue_of
from kleiber.report.study.sentences import finding_of, more_of, tenfold_figure
from kleiber.report.study.values_table import values_table
from kleiber.report.study.words import read_study_words
from kleiber.runs import Estimate

EN = read_study_words("en")


def said(curve):
    return " ".join(more_of(curve, EN))


def with_trend(curve, **values):
    trends = [one.model_copy(update=values) if one.line == "both" else one for one in curve.trends]
    return curve.model_copy(update={"trends": tuple(trends)})


def with_points(curve, **values):
    return curve.model_copy(
        update={"points": tuple(one.model_copy(update=values) for one in curve.points[:2]) + curve.points[2:]}
    )


def test_a_size_that_did_not_train_is_hollow_and_named(study):
    curve = study.curve("loss")
    assert "did not train" not in said(curve)
    curve = with_points(curve, has_trained=False)
    assert "sizes that did not train (2 of them)" in said(curve)
    spec = curve_chart(curve, study, EN)
    assert [row["has_trained"] for row in spec["datasets"]["points"]].count(False) == 2
    hollow = [one["mark"] for one in spec["layer"] if one["mark"].get("filled") is False]
    assert [mark["shape"] for mark in hollow] == ["circle", "square"]
    filters = [one["transform"][0]["filter"] for one in spec["layer"] if "transform" in one]
    assert filters == [
        "!datum.is_bound && datum.has_trained",
        "datum.is_bound && datum.has_trained",
        "!datum.has_trained",
    ]
    first = study.members[0]
    named = curve.points[0].model_copy(update={"member": first.name})
    curve = curve.model_copy(update={"points": (named, *curve.points[1:])})
    assert values_table([curve], study, EN)["rows"][0][3].endswith(", did not train")


def test_nothing_is_said_of_an_empty_trend(study):
    curve = with_trend(study.curve("loss"), is_empty=True)
    assert finding_of(curve, EN) == "How the held-out loss goes with N cannot be said from these 5 sizes."
    assert tenfold_figure(curve, EN) == ("–", "cannot be said from these sizes")
    assert cue_of(curve, EN) is None
    assert "The fitted line" not in said(curve)
    drawn = curve_chart(curve, study, EN)["datasets"]["fit"]
    assert "depth and width together" not in {row["line"] for row in drawn}
    _, rows = trend_rows(study.model_copy(update={"curves": (curve,)}))
    assert rows[0][2:4] == ["–", "–"]


def test_a_line_that_bends_is_said_to(study):
    curve = study.curve("loss")
    assert "bends" not in said(curve)
    upper = Estimate(value=-0.31, low=-0.4, high=-0.22)
    curve = with_trend(curve, upper_exponent=upper, is_empty=False)
    assert "over the larger half of the sizes it goes as N^-0.31 (95% interval -0.40 to -0.22)" in said(curve)
    assert tenfold_figure(curve, EN)[1].endswith("; the line bends")


def test_lines_of_few_sizes_differ_by_an_interval_and_not_by_their_exponents(study):
    curve = study.curve("step_time_s")
    full, empty = (
        curve.model_copy(
            update={"trends": tuple(one.model_copy(update={"is_empty": is_empty}) for one in curve.trends)}
        )
        for is_empty in (False, True)
    )
    assert curve.contrast.differs
    assert "by depth alone and N^" in said(full)
    assert "by depth alone and N^" not in said(empty)
    assert "less that by width alone is 0.4" in said(empty)
    scattered = tuple(
        one.model_copy(
            update={"is_empty": True, "slope": Estimate(value=one.slope.value, low=-3.4, high=2.6)}
        )
        for one in curve.trends
    )
    scattered = said(curve.model_copy(update={"trends": scattered}))
    assert "to compare" in scattered
    assert "less that" not in scattered


def test_a_line_that_bends_is_led_by_its_larger_half(study):
    upper = Estimate(value=-0.30103, low=-0.39794, high=-0.22185)  # factors 0.5, 0.4 and 0.6
    curve = with_trend(study.curve("loss"), upper_exponent=upper, upper_level=2.0, upper_low_params=108_000.0)

    assert (
        "falls to 0.50 of what it was (95% interval 0.40 to 0.60). That is over the larger half"
        in finding_of(curve, EN)
    )
    figure = tenfold_figure(curve, EN)
    assert figure[0] == "× 0.50"
    assert "over the larger half" in figure[1]
    fits = curve_chart(curve, study, EN)["datasets"]["fit"]
    whole = [row for row in fits if row["line"] == "depth and width together" and row["piece"] == "whole"]
    dashed = [row for row in fits if row["piece"] == "dashed"]
    assert min(row["N"] for row in whole) == pytest.approx(108_000)
    assert whole[0]["value"] == pytest.approx(100 * 108_000**-0.30103)
    assert min(row["N"] for row in dashed) == pytest.approx(18_000)
    assert cue_of(curve, EN)["kind"] == "good"
    # Where it goes the other way than all sizes together, the words go with it.
    rising = Estimate(value=0.30103, low=0.22185, high=0.39794)
    rising = with_trend(
        study.curve("loss"), upper_exponent=rising, upper_level=0.0, upper_low_params=108_000.0
    )
    assert "is 2.0 times as large" in finding_of(rising, EN)
    assert cue_of(rising, EN)["kind"] == "bad"
    # A larger half without a trend leads nothing.
    flat = Estimate(value=-0.1, low=-0.3, high=0.1)
    flat = with_trend(study.curve("loss"), upper_exponent=flat, upper_level=2.0, upper_low_params=108_000.0)
    assert "larger half" not in finding_of(flat, EN)
    assert tenfold_figure(flat, EN)[1].endswith("; the line bends")


def test_the_worst_prediction_stands_beside_the_median(study):
    curve = study.curve("step_time_s").model_copy(update={"worst_error_frac": 1.15})
    assert "10.0% off in the median and 115% at worst" in said(curve)


def test_notes_of_a_classical_method_are_shown(study):
    note = "It learnt from 12,755 of 57,000 samples."
    curve = study.curve("loss").model_copy(update={"baseline_notes": (note,)})
    assert note in said(curve)


def test_a_size_of_another_line_that_beats_the_classical_method_earlier_is_named(study):
    curve = study.curve("loss").model_copy(update={"baseline_method": "trees", "baseline": 4.5})
    together = [point for point in curve.points if "both" in point.lines]

    def better(depths):
        points = tuple(
            point.model_copy(
                update={
                    "value": 4.0
                    if point is together[-1] or ("depth" in point.lines and point.num_params in depths)
                    else 5.0
                }
            )
            for point in curve.points
        )
        return said(curve.model_copy(update={"points": points}))

    assert "better from 714 K parameters on, and by depth alone from 110 K" in better(
        (110_000, 290_000, 660_000)
    )
    # A size that beats it while a deeper one does not is no beginning.
    assert "better from 714 K parameters on." in better((29_000, 55_000))


@pytest.mark.parametrize("why", ["did_not_train", "not_told_from_zero", "not_measured", ""])
def test_sizes_without_a_value_are_counted_with_the_reason(study, why):
    assert "gave no value" not in said(study.curve("noise_scale"))
    curve = study.curve("noise_scale").model_copy(update={"num_without_value": 6, "why_without": why})
    reason = EN(f"without_{why}" if why else "without_not_measured")
    assert f"6 of the sizes gave no value: {reason}." in said(curve)


def test_how_many_runs_went_side_by_side(study):
    said = [workers_of(study.model_copy(update={"num_workers": count}), EN) for count in (None, 1, 2)]
    assert said == ["runs side by side", "one run at a time", "2 runs side by side"]
