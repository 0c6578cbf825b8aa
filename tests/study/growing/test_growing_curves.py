"""From points to curves, worked out by hand."""

from types import SimpleNamespace

import pytest

from kleiber.runs import Baseline, BaselineResult, DataShape, Estimate, ModelRecipe, Recipe
from kleiber.study.growing import findings
from kleiber.study.growing.design import StudyDesign, members_of
from kleiber.study.growing.document import Point
from kleiber.study.growing.found import Found

BASELINE = Baseline(
    eval_hash="0123456789abcdef",
    results=(
        BaselineResult(method="linear model", time_s=1.0, val_metrics={"accuracy": Estimate(value=0.7, low=0.6, high=0.8)},
                       notes=("It was stopped before it converged.",)),
        BaselineResult(method="gradient-boosted trees", time_s=2.0, val_metrics={"accuracy": Estimate(value=0.9, low=0.8, high=0.95)},
                       notes=("It learnt from 10 of 100 samples.",)),
    ),
)  # fmt: skip


def found_of(tmp_path):
    """A study of four sizes whose folder holds nothing."""
    shape = DataShape(inputs="tokens", vocab_size=512, context=16)
    base = Recipe().with_values(["data.vocab_size=512", "data.context=16"])
    base = base.model_copy(update={"data": base.data.model_copy(update={"shape": shape})})
    sizes = tuple(ModelRecipe(family="gpt", depth=1, width=width, head_dim=4) for width in (8, 16, 24, 32))
    design = StudyDesign(base=base, both=sizes, budget_s=1.0, num_workers=1)
    return Found(design, tuple(members_of(design)), tmp_path)


def point(found, k, value, **more):
    return Point(member=found.members[k].name, num_params=10 ** (k + 3), lines=("both",), value=value, **more)


def curve(monkeypatch, found, points, quantity="error_frac", baseline=None):
    monkeypatch.setattr(findings, "points_of", lambda *_: points)
    return findings._curve(found, quantity, baseline)


def test_a_size_that_learnt_nothing_is_drawn_and_not_fitted(monkeypatch, tmp_path):
    found = found_of(tmp_path)
    points = [point(found, 0, 0.9, has_trained=False)] + [point(found, k, 10.0**-k) for k in (1, 2, 3)]
    trend = curve(monkeypatch, found, points).trend("both")

    assert trend.num_sizes == 3
    assert trend.slope.value == pytest.approx(-1.0)  # with the first point it would be -0.99
    assert len(curve(monkeypatch, found, points).points) == 4
    all_trained = [one.model_copy(update={"has_trained": True}) for one in points]
    assert curve(monkeypatch, found, all_trained).trend("both").slope.value == pytest.approx(-0.986, abs=1e-3)


def test_whether_a_size_learnt_is_asked_of_the_mean_of_its_runs(tmp_path):
    found = found_of(tmp_path)

    def runs(*losses):
        return [(None, SimpleNamespace(result=SimpleNamespace(val_loss=loss))) for loss in losses]

    # ln 512 is 6.238, and 2% below it 6.114.
    names = [member.name for member in found.members]
    found.__dict__["runs"] = dict(zip(names, [runs(6.2), runs(6.3, 5.9), runs(6.0), []], strict=True))
    assert [found.has_trained(member) for member in found.members] == [False, True, True, True]
    assert found.val_losses(found.members[1]) == [6.3, 5.9]


def test_the_worst_prediction_stands_beside_the_median(monkeypatch, tmp_path):
    found = found_of(tmp_path)
    said = [(1.0, 1.1), (2.0, 1.5), (4.0, 4.0), (8.0, None)]
    points = [point(found, k, value, predicted=predicted) for k, (value, predicted) in enumerate(said)]
    result = curve(monkeypatch, found, points, "step_time_s")

    assert result.prediction_error_frac == pytest.approx(0.1)  # of 0.1, 0.25 and 0
    assert result.worst_error_frac == pytest.approx(0.25)


def test_sizes_without_a_value_are_counted_where_they_were_sought(monkeypatch, tmp_path):
    found = found_of(tmp_path)
    points = [point(found, k, 0.1 * (k + 1)) for k in range(3)]
    rates = curve(monkeypatch, found, points, "highest_rate")
    assert (rates.num_without_value, rates.why_without) == (1, "did_not_train")
    gaps = curve(monkeypatch, found, points, "gap")
    assert (gaps.num_without_value, gaps.why_without) == (1, "not_measured")
    whole = curve(monkeypatch, found, [*points, point(found, 3, 0.4)], "highest_rate")
    assert (whole.num_without_value, whole.why_without) == (0, "")
    assert curve(monkeypatch, found, points[:2]) is None


def test_the_best_classical_method_brings_its_own_notes(monkeypatch, tmp_path):
    found = found_of(tmp_path)
    points = [point(found, k, 0.5 / (k + 1)) for k in range(4)]
    result = curve(monkeypatch, found, points, baseline=BASELINE)

    assert result.baseline == pytest.approx(0.1)
    assert result.baseline_method == "gradient-boosted trees"
    assert result.baseline_notes == ("It learnt from 10 of 100 samples.",)
    assert curve(monkeypatch, found, points, "step_time_s", BASELINE).baseline is None
