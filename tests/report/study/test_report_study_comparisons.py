from kleiber.report.study import trend_rows
from kleiber.report.study.sentences import finding_of, more_of, tenfold_figure
from kleiber.report.study.words import read_study_words
from kleiber.runs import Estimate

EN = read_study_words("en")


def with_slopes(curve, **slopes):
    """Return the curve with other exponents on its lines, each `(value, low, high)`."""
    trends = [
        trend.model_copy(update={"slope": Estimate(value=one[0], low=one[1], high=one[2])})
        if (one := slopes.get(trend.line))
        else trend
        for trend in curve.trends
    ]
    return curve.model_copy(update={"trends": tuple(trends)})


def said(curve):
    return " ".join(more_of(curve, EN))


def compared(study, difference, depth, width):
    curve = with_slopes(study.curve("step_time_s"), depth=depth, width=width)
    contrast = curve.contrast.model_copy(
        update={"difference": Estimate(value=difference[0], low=difference[1], high=difference[2])}
    )
    return said(curve.model_copy(update={"contrast": contrast}))


def test_depth_and_width_are_alike_only_where_both_have_a_trend(study):
    unsure = (0.1, -0.2, 0.4)
    assert "(N^0.60) and width alone (N^0.50) cannot be told apart" in compared(
        study, unsure, (0.6, 0.3, 0.9), (0.5, 0.3, 0.7)
    )
    scattered = compared(study, (1.29, -0.68, 3.27), (0.76, -0.81, 2.34), (-0.53, -2.92, 1.86))
    assert "too few sizes, or too scattered, to compare" in scattered
    assert "told apart" not in scattered
    assert "0.76" not in scattered


def test_no_factor_stands_where_the_interval_holds_no_change(study):
    curve = with_slopes(study.curve("loss"), both=(0.5, -0.5, 1.5), depth=(0.5, -0.5, 1.5))
    assert tenfold_figure(curve, EN) == ("–", "no trend: 95% interval 0.32 to 32")
    assert "3.2 times" not in finding_of(curve, EN)
    assert "The fitted line" not in said(curve)
    _, rows = trend_rows(study.model_copy(update={"curves": (curve,)}))
    assert [row[2] for row in rows[:2]] == ["–", "–"]
    assert rows[2][2].startswith("× 0.8")


def test_single_runs_are_called_that(study):
    curve = study.curve("loss")
    assert "are single runs" not in said(curve)
    points = tuple(
        point if "both" in point.lines else point.model_copy(update={"low": None, "high": None})
        for point in curve.points
    )
    assert "are single runs" in said(curve.model_copy(update={"points": points}))
    assert "are single runs" not in said(study.curve("train_flops"))


def test_a_share_changes_by_percentage_points_and_has_no_exponent(study):
    spikes = study.curve("gap").model_copy(update={"quantity": "spike_frac"})
    change = Estimate(value=0.0032, low=0.0012, high=0.0052)
    trend = spikes.trend("both").model_copy(update={"slope": change})
    spikes = spikes.model_copy(update={"trends": (trend,)})
    assert finding_of(spikes, EN) == (
        "With ten times the parameters the rate of loss spikes changes by +0.32 percentage points"
        " (95% interval +0.12 to +0.52 percentage points)."
    )
    _, rows = trend_rows(study.model_copy(update={"curves": (spikes,)}))
    assert rows[0][2:4] == ["+0.32 percentage points", "–"]


def test_memory_that_hardly_grows_is_called_mostly_constant(study):
    memory = study.curve("peak_memory_bytes")
    assert "no power law" not in said(memory)  # N^0.4
    assert "no power law" in said(with_slopes(memory, both=(0.056, 0.042, 0.070)))
    assert "no power law" not in said(with_slopes(study.curve("decode_s"), both=(0.056, 0.042, 0.070)))
