from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import pytest

from kleiber.errors import UsageError
from kleiber.runs import ParamCount, Row, hash_of
from kleiber.scaling import Forecast, forecast, naive_forecasts, rule_of_thumb_flops

COUNT = ParamCount(embedding=200_000, body=600_000, head=0, is_tied=True)


def test_a_forecast_says_what_the_law_says_and_where_it_comes_from(law):
    made = forecast(law, COUNT, 3e6)
    assert (made.loss, made.interval_80) == (law.predict(8e5, 3e6).loss, law.predict(8e5, 3e6).interval_80)
    assert made.interval_95[0] < made.interval_80[0] < made.loss < made.interval_80[1] < made.interval_95[1]
    assert (made.law_hash, made.eval_hash, made.convention) == (law.hash, "e1", "total")
    assert (made.num_params, made.param_count) == (8e5, COUNT)
    assert made.best_rung_loss == min(row.loss for row in law.rows)
    assert abs(datetime.fromisoformat(made.created_at) - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_size_is_counted_by_the_laws_convention(law):
    by_body = law.model_copy(update={"convention": "body"})
    assert forecast(by_body, COUNT, 3e6).num_params == 6e5
    assert forecast(by_body, 6e5, 3e6).loss == forecast(by_body, COUNT, 3e6).loss
    assert forecast(by_body, 6e5, 3e6).param_count is None


def test_the_hash_is_of_everything_else(law):
    made = forecast(law, 8e5, 3e6)
    assert made.hash == made.expected_hash()
    assert made.hash == hash_of(
        {key: value for key, value in made.model_dump(mode="json").items() if key != "hash"}
    )
    for change in ({"loss": 2.0}, {"created_at": "2020"}, {"num_tokens": 4e6}):
        assert made.model_copy(update=change).expected_hash() != made.hash


def test_it_reads_back_with_its_hash(law, tmp_path):
    made = forecast(law, COUNT, 3e6)
    made.write(tmp_path / "forecast.json")
    again = Forecast.read(tmp_path / "forecast.json")
    assert again == made
    assert again.expected_hash() == made.hash


def test_a_bad_number_is_refused(law):
    with pytest.raises(UsageError, match=r"num_params must be a positive number\. Got -1"):
        forecast(law, -1.0, 3e6)


def rows_of(*cells: tuple[int, float, float]) -> tuple[Row, ...]:
    return tuple(
        Row(
            run=f"r{k}",
            trunk=f"r{k}",
            num_params=ParamCount(embedding=0, body=n, head=0),
            num_tokens=d,
            loss=loss,
        )
        for k, (n, d, loss) in enumerate(cells)
    )


def test_naive_forecasts_worked_by_hand():
    # Best rungs: (100, 1000) with mean loss 4 of two seeds, (1000, 10000) with 2: compute grows 100-fold as the
    # loss halves. A target of another 100-fold gets 1.
    rows = rows_of((100, 1e3, 3.9), (100, 1e3, 4.1), (100, 5e2, 5.0), (1000, 1e4, 2.0), (1000, 5e3, 2.5))
    naive = naive_forecasts(rows, "total", 1e4, 1e5)
    assert naive.last_rung_loss == 2.0
    assert naive.log_log_line_loss == pytest.approx(1.0)
    assert naive_forecasts(rows, "total", 1e4, 1e4).log_log_line_loss == pytest.approx(math.sqrt(2))


def test_compute_is_six_operations_a_parameter_and_token():
    assert rule_of_thumb_flops(1e4, 1e5) == 6e9


def test_the_last_rung_is_of_the_largest_size_even_when_a_smaller_one_is_better():
    rows = rows_of((100, 1e6, 1.5), (1000, 1e4, 2.0), (1000, 1e3, 2.6))
    assert naive_forecasts(rows, "total", 1e4, 1e5).last_rung_loss == 2.0


def test_a_forecast_of_version_1_keeps_its_hash(law, tmp_path):
    made = json.loads(forecast(law, COUNT, 3e6).to_json()) | {"version": 1}
    for name in ("unique_tokens", "active_params", "hash"):
        del made[name]
    (tmp_path / "forecast.json").write_text(json.dumps(made | {"hash": hash_of(made)}))
    again = Forecast.read(tmp_path / "forecast.json")
    assert again.expected_hash() == again.hash
    assert again.model_copy(update={"loss": 2.0}).expected_hash() != again.hash


def test_what_has_no_effect_on_the_form_is_refused(law):
    with pytest.raises(
        UsageError, match=r"unique_tokens has no effect on a law of form 'chinchilla'\. Got 1000000\.0"
    ):
        forecast(law, COUNT, 3e6, unique_tokens=1e6)
    with pytest.raises(UsageError, match="active_params has no effect on a law of form 'chinchilla'"):
        forecast(law, COUNT, 3e6, active_params=1e5)


def test_rungs_of_one_size_give_a_line_through_their_horizons():
    naive = naive_forecasts(rows_of((1000, 1e4, 8.0), (1000, 1e5, 4.0), (1000, 1e6, 2.0)), "total", 1e3, 1e7)
    assert naive.log_log_line_loss == pytest.approx(1.0)
    assert naive.last_rung_loss == 2.0


def test_of_accuracies_the_highest_counts():
    rows = rows_of((1000, 1e4, 0.25), (10_000, 1e4, 0.4), (10_000, 1e5, 0.5))
    naive = naive_forecasts(rows, "total", 1e9, 1e9, is_accuracy=True)
    assert (naive.last_rung_loss, naive.log_log_line_loss) == (0.5, 1.0)
