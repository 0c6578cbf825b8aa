import pytest

from kleiber.report.study import write_study_page
from kleiber.report.study.cues import cue_of
from kleiber.report.study.figures import value_text
from kleiber.report.study.values_table import values_table
from kleiber.report.study.words import read_study_words

EN = read_study_words("en")


@pytest.mark.parametrize(
    ("quantity", "said"),
    [
        ("loss", "growing helps"),
        ("step_time_s", "growing costs"),
        ("onset_epoch", "growing costs"),
        ("highest_rate", None),
        ("noise_scale", None),
    ],
)
def test_whether_growing_helps_or_costs(study, quantity, said):
    curve = study.curve(quantity)
    trends = tuple(trend.model_copy(update={"is_empty": False}) for trend in curve.trends)
    cue = cue_of(curve.model_copy(update={"trends": trends}), EN)
    assert (cue and cue["says"]) == said


def test_every_value_stands_in_a_table_with_its_interval_and_prediction(study, tmp_path):
    curve = study.curve("step_time_s")
    named = tuple(
        point.model_copy(update={"member": member.name})
        for point, member in zip(curve.points, study.members, strict=True)
    )
    whole = curve.model_copy(update={"points": named})
    curve = curve.model_copy(
        update={"points": (named[0].model_copy(update={"is_bound": True}), *named[1:-1])}
    )
    table = values_table([curve], study, EN)
    assert table["head"][3:] == ["the time of a training step", "predicted"]
    assert len(table["rows"]) == len(study.members) - 1
    value, low, high, predicted = (
        value_text("step_time_s", one)
        for one in (named[1].value, named[1].low, named[1].high, named[1].predicted)
    )
    assert table["rows"][1][:2] == ["d2-w45000", "45,000"]
    assert table["rows"][1][3:] == [f"{value} ({low} to {high})", predicted]
    assert table["rows"][0][3].endswith("), only a bound")
    text = write_study_page(study.model_copy(update={"curves": (whole,)}), tmp_path / "p.html").read_text()
    assert f"<td>{value} ({low} to {high})</td>" in text


def test_the_glossary_explains_what_the_page_calls_its_terms(study, tmp_path):
    text = write_study_page(study, tmp_path / "study.html").read_text(encoding="utf-8")
    terms = text[text.index('id="terms"') :]
    for term in ("nat", "decade", "deflated", "jackknife", "Poisson interval", "robust deviation"):
        assert f"<dt>{term}</dt>" in terms
