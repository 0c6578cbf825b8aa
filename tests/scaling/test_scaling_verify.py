from __future__ import annotations

import pytest

from kleiber.errors import ConventionError, UsageError
from kleiber.runs import Estimate, ParamCount, Predicted
from kleiber.scaling import check_forecast, fit, forecast, skill, verify

COUNT = ParamCount(embedding=200_000, body=600_000, head=0, is_tied=True)
TOKENS = 3_276_800


@pytest.fixture
def made(law):
    return forecast(law, COUNT, TOKENS)


def test_the_ledger_holds_the_law_and_the_naive_forecasts(made, record_of):
    law, last, line = verify(made, record_of(val_loss=2.75))
    assert [entry.method for entry in (law, last, line)] == ["law", "last_rung", "log_log_line"]
    assert (law.predicted, last.predicted, line.predicted) == (
        made.loss, made.naive.last_rung_loss, made.naive.log_log_line_loss,
    )  # fmt: skip
    assert {entry.measured for entry in (law, last, line)} == {2.75}
    assert (law.unit, law.predicted_at, law.measured_at) == (
        "nats/token",
        made.created_at,
        "2999-01-01T01:00:00.000+00:00",
    )
    assert (law.interval_80, last.interval_80) == (made.interval_80, None)
    assert law.skill == pytest.approx(abs(made.loss - 2.75) / (made.best_rung_loss - 2.75))
    assert last.skill == pytest.approx(1.0)  # here the last rung is the best one
    assert law.is_inside == (made.interval_80[0] <= 2.75 <= made.interval_80[1])


def test_skill_worked_by_hand():
    assert skill(3.1, 3.0, 4.0) == pytest.approx(0.1)
    assert skill(4.0, 3.0, 4.0) == 1.0
    assert skill(3.0, 4.0, 4.0) is None
    assert skill(3.0, 4.5, 4.0) is None


def test_a_typed_size_may_be_rounded(law, record_of):
    assert verify(forecast(law, 803_000, 3.28e6), record_of())
    with pytest.raises(
        ConventionError, match=r"is about 805000 parameters, and run 'target' has 800000 \(total\)"
    ):
        verify(forecast(law, 805_000, TOKENS), record_of())


def test_a_size_known_by_group_must_be_equal(made, record_of):
    other = ParamCount(embedding=200_001, body=599_999, head=0, is_tied=True)
    with pytest.raises(ConventionError, match="is about 800000 parameters"):
        verify(made, record_of(num_params=other))


def test_another_horizon_is_refused(made, record_of):
    with pytest.raises(ConventionError, match=r"is about 3\.28 M tokens, and run 'target' trains on 4\.00 M"):
        verify(made, record_of(num_tokens=4_000_000))


def test_another_evaluation_set_is_refused(made, record_of):
    record = record_of()
    elsewhere = record.model_copy(update={"data": record.data.model_copy(update={"eval_hash": "e2"})})
    with pytest.raises(ConventionError, match=r"losses are of evaluation set e1, .* on another\. Got 'e2'"):
        verify(made, elsewhere)


def test_a_law_of_rows_without_an_evaluation_set_is_taken_at_its_word(law, record_of):
    assert verify(forecast(law.model_copy(update={"eval_hash": None}), COUNT, TOKENS), record_of())


def test_another_counting_convention_is_refused(law, record_of):
    with pytest.raises(ConventionError, match=r"counts N as 'total', .* its N is the run's 'body' count"):
        verify(forecast(law, 600_000, TOKENS), record_of())


def test_a_forecast_whose_size_is_not_counted_as_it_says_is_refused(made, record_of):
    relabelled = made.model_copy(update={"convention": "body"})
    resealed = relabelled.model_copy(update={"hash": relabelled.expected_hash()})
    with pytest.raises(
        ConventionError, match="says that it counts N as 'body', and its N is counted otherwise"
    ):
        verify(resealed, record_of())


def test_an_altered_forecast_is_refused(made, record_of):
    with pytest.raises(ConventionError, match="was altered after it was written"):
        verify(made.model_copy(update={"loss": 2.75}), record_of())


def test_a_forecast_is_checked_before_its_run_starts(made):
    known = {"num_params": COUNT, "num_tokens": TOKENS}
    check_forecast(made, "target", **known)
    check_forecast(made, "target", **known, eval_hash="e1")
    for change, message in (
        ({"num_tokens": 4_000_000}, "run 'target' trains on 4"),
        ({"num_params": ParamCount(embedding=1, body=2, head=3)}, "run 'target' has 6"),
        ({"eval_hash": "e2"}, "run 'target' is evaluated on another"),
    ):
        with pytest.raises(ConventionError, match=message):
            check_forecast(made, "target", **known | change)
    with pytest.raises(ConventionError, match="was altered after it was written"):
        check_forecast(made.model_copy(update={"loss": 2.75}), "target", **known)


def test_a_hint_of_a_size_is_exact(made):
    with pytest.raises(ConventionError, match=r"--params 800000 --tokens 4000001$"):
        check_forecast(made, "target", num_params=COUNT, num_tokens=4_000_001)
    other = ParamCount(embedding=200_000, body=600_001, head=0, is_tied=True)
    with pytest.raises(ConventionError, match=r"--params 800001 --tokens 3276800$"):
        check_forecast(made, "target", num_params=other, num_tokens=TOKENS)


def test_a_run_that_started_before_its_forecast_is_refused(made, record_of):
    with pytest.raises(ConventionError, match=r"started at 2020-01-01T00:00:00\+00:00, before the forecast"):
        verify(made, record_of(started_at="2020-01-01T00:00:00+00:00"))


def test_a_run_that_names_another_forecast_is_refused(made, record_of):
    with pytest.raises(ConventionError, match="started from another forecast, feed"):
        verify(made, record_of(predicted=Predicted(forecast_hash="feed")))
    assert verify(made, record_of(predicted=Predicted(forecast_hash=made.hash)))


def test_a_run_that_has_not_finished_is_refused(made, record_of):
    with pytest.raises(
        UsageError, match=r"has not finished, so there is no loss to compare\. Got 'interrupted'"
    ):
        verify(made, record_of(status="interrupted", result=None))


def test_a_run_on_other_different_tokens_is_refused(law, record_of):
    rows = [
        row.model_copy(update={"unique_tokens": row.num_tokens / (1 + k % 3)})
        for k, row in enumerate(law.rows)
    ]
    repeated = fit(rows, form="repeated", num_bootstrap=100)
    # The record's run trains on 3.28 M tokens of which 2 M are different.
    assert verify(forecast(repeated, COUNT, TOKENS, unique_tokens=2e6), record_of())
    with pytest.raises(
        ConventionError, match=r"is about 1\.00 M different tokens, and run 'target' had 2\.00 M"
    ) as caught:
        verify(forecast(repeated, COUNT, TOKENS, unique_tokens=1e6), record_of())
    assert "--unique-tokens 2000000" in str(caught.value)


def test_a_forecast_of_an_accuracy_is_scored_by_the_accuracy(made, record_of):
    other = made.model_copy(update={
        "loss_unit": "accuracy", "loss": 0.8, "interval_80": (0.75, 0.85), "best_rung_loss": 0.7,
        "naive": made.naive.model_copy(update={"last_rung_loss": 0.7, "log_log_line_loss": 0.95}),
    })  # fmt: skip
    sealed = other.model_copy(update={"hash": other.expected_hash()})
    with pytest.raises(UsageError, match=r"forecast is of an accuracy, and run 'target' measured none"):
        verify(sealed, record_of())
    record = record_of()
    assert record.result is not None
    measured = {"accuracy": Estimate(value=0.9, low=0.88, high=0.92)}
    result = record.result.model_copy(update={"val_metrics": measured})
    law, last, line = verify(sealed, record.model_copy(update={"result": result}))
    assert {one.measured for one in (law, last, line)} == {0.9}
    assert (law.quantity, law.unit, law.is_inside) == ("val_accuracy", "accuracy", False)
    assert law.skill == pytest.approx(0.5)
    assert last.skill == pytest.approx(1.0)
    assert line.skill == pytest.approx(0.25)
