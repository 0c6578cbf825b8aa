import pytest

from kleiber.errors import ConventionError
from kleiber.models import resolve_spec
from kleiber.runs import ParamCount, Predicted, Row
from kleiber.scaling import fit, forecast
from kleiber.study.design import target_recipe
from kleiber.study.plan import plan
from kleiber.study.prediction import check_started, predict


@pytest.fixture(scope="module")
def law():
    rows = [
        Row(run="r", num_params=ParamCount(embedding=0, body=n, head=0), num_tokens=d, trunk=f"{n}",
            loss=1.7 + 40 / n**0.3 + 90 / d**0.35)
        for n in (10**4, 10**5, 10**6) for d in (1e6, 3e6, 1e7)
    ]  # fmt: skip
    return fit(rows, num_bootstrap=100)


def test_what_is_said_is_the_plan_and_the_forecasts_hash(design, law):
    recipe = target_recipe(design)
    foretold = forecast(law, resolve_spec(recipe).count(), recipe.num_tokens)
    found, predicted = predict(recipe, "target", forecast=foretold)
    assert found == plan(recipe)
    assert predicted.forecast_hash == foretold.hash
    assert (predicted.total_time_s, predicted.step_time_s) == (found.total_time_s, found.step_time_s)
    assert predicted.peak_memory_bytes == found.memory_bytes.peak
    assert predicted.at > foretold.created_at
    assert predict(recipe, "target")[1].forecast_hash is None


def test_a_forecast_of_another_run_is_refused_before_the_text_is_prepared(design, law):
    recipe = target_recipe(design).with_values(["data.source=text:/nowhere"])
    with pytest.raises(ConventionError, match=r"is about 123 parameters, and run 'target' has"):
        predict(recipe, "target", forecast=forecast(law, 123.0, recipe.num_tokens))


def test_another_evaluation_set_is_refused(design, law):
    recipe = target_recipe(design)
    elsewhere = law.model_copy(update={"eval_hash": "e2"})
    foretold = forecast(elsewhere, resolve_spec(recipe).count(), recipe.num_tokens)
    with pytest.raises(ConventionError, match="are of evaluation set e2, and run 'target' is evaluated on"):
        predict(recipe, "target", forecast=foretold)


def test_a_run_goes_on_with_its_own_forecast_only(law, make_record):
    foretold = forecast(law, 1e7, 1e8)
    check_started(make_record(predicted=Predicted(forecast_hash=foretold.hash)), foretold)
    with pytest.raises(ConventionError, match=r"'small' has started from no forecast, .*\n.* --fresh"):
        check_started(make_record(), foretold)
    with pytest.raises(
        ConventionError, match="'small' has started from another forecast, feed, and a forecast"
    ):
        check_started(make_record(predicted=Predicted(forecast_hash="feed")), foretold)
