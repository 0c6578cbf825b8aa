"""A forecast scored against the run it was about."""

from __future__ import annotations

from datetime import datetime

from kleiber.errors import ConventionError, UsageError
from kleiber.runs import CONVENTIONS, LedgerEntry, ParamCount, Record, Result
from kleiber.scaling.forecast import Forecast
from kleiber.units import format_count

__all__ = ["check_forecast", "skill", "verify"]

_ROUNDING_FRAC = 0.005
"""How far a size or a number of tokens typed as `1.2B` may be from the run's; a size known by group must be equal."""


def verify(forecast: Forecast, record: Record) -> tuple[LedgerEntry, ...]:
    """Return the ledger of the loss: the law's forecast, then the naive ones, beside what was measured.

    Raises:
        ConventionError: The forecast was altered, was not written before the run, or is about another size,
            horizon, evaluation set or counting convention.
        UsageError: The run has not finished.
    """
    result = _result(record)
    check_forecast(
        forecast,
        record.run,
        num_params=record.num_params,
        num_tokens=result.num_tokens,
        eval_hash=record.data.eval_hash,
    )
    _check_unique(forecast, record)
    _check_order(forecast, record)
    is_accuracy = forecast.loss_unit == "accuracy"
    measured = _accuracy(record, result) if is_accuracy else result.val_loss
    predictions = (
        ("law", forecast.loss, forecast.interval_80),
        ("last_rung", forecast.naive.last_rung_loss, None),
        ("log_log_line", forecast.naive.log_log_line_loss, None),
    )
    return tuple(
        LedgerEntry(
            quantity="val_accuracy" if is_accuracy else "val_loss",
            unit=forecast.loss_unit,
            predicted=predicted,
            measured=measured,
            predicted_at=forecast.created_at,
            measured_at=record.ended_at or record.started_at,
            method=method,
            interval_80=interval,
            skill=skill(predicted, measured, forecast.best_rung_loss, is_accuracy=is_accuracy),
        )
        for method, predicted, interval in predictions
    )


def check_forecast(
    forecast: Forecast, run: str, *, num_params: ParamCount, num_tokens: int, eval_hash: str | None = None
) -> None:
    """Refuse a forecast that is not about this run; all of it is known before the run starts.

    Args:
        forecast: What was said.
        run: Name of the run, for the message.
        num_params: Its parameters.
        num_tokens: What it trains on, repeats included.
        eval_hash: Its evaluation set; None while that is not known.

    Raises:
        ConventionError: The forecast was altered, or is about another size, horizon, evaluation set or counting
            convention.
    """
    if forecast.hash != forecast.expected_hash():
        raise ConventionError(
            "The forecast was altered after it was written: its hash is not that of its content.",
            got=forecast.hash,
            hint="restore forecast.json from a copy",
        )
    _check_size(forecast, run, num_params)
    if not _is_same(forecast.num_tokens, num_tokens):
        raise ConventionError(
            f"The forecast is about {format_count(forecast.num_tokens)} tokens, and run {run!r} trains on "
            f"{format_count(num_tokens)}.",
            hint=f"kleiber forecast law.json --params {forecast.num_params:.10g} --tokens {num_tokens}",
        )
    if eval_hash is not None and forecast.eval_hash not in (None, eval_hash):
        raise ConventionError(
            f"The law's losses are of evaluation set {forecast.eval_hash}, and run {run!r} is evaluated on another.",
            got=eval_hash,
        )


def skill(
    predicted: float, measured: float, best_rung_loss: float, *, is_accuracy: bool = False
) -> float | None:
    """Return |error| / (loss of the best rung - measured loss); None when the run is no better than that rung.

    Of accuracies the better one is the higher.

    Example:
        >>> skill(2.0, 2.5, 3.5), skill(0.75, 1.0, 0.5, is_accuracy=True)
        (0.5, 0.5)
    """
    gain = measured - best_rung_loss if is_accuracy else best_rung_loss - measured
    return abs(predicted - measured) / gain if gain > 0 else None


def _accuracy(record: Record, result: Result) -> float:
    if "accuracy" not in result.val_metrics:
        raise UsageError(
            f"The forecast is of an accuracy, and run {record.run!r} measured none.",
            got=", ".join(result.val_metrics) or "its loss alone",
            hint="kleiber forecast law.json   with a law of losses",
        )
    return result.val_metrics["accuracy"].value


def _result(record: Record) -> Result:
    if record.kind == "compress":
        raise UsageError(
            f"{record.run!r} is a compressed model: a forecast is of a training run, and receipt.json says what was measured.",
            hint="kleiber verify forecast.json runs/NAME   of a run that was trained",
        )
    if record.status != "finished" or record.result is None:
        raise UsageError(
            f"run {record.run!r} has not finished, so there is no loss to compare.", got=record.status
        )
    return record.result


def _check_unique(forecast: Forecast, record: Record) -> None:
    """A law of repeated data was asked for so many different tokens."""
    if forecast.unique_tokens is None or record.result is None:
        return
    seen = min(record.result.num_tokens, record.data.num_train_tokens)
    if not _is_same(min(forecast.unique_tokens, forecast.num_tokens), seen):
        raise ConventionError(
            f"The forecast is about {format_count(forecast.unique_tokens)} different tokens, and run {record.run!r} "
            f"had {format_count(seen)}.",
            hint=f"kleiber forecast law.json --params {forecast.num_params:.10g} --tokens {forecast.num_tokens:.10g} "
            f"--unique-tokens {seen}",
        )


def _check_order(forecast: Forecast, record: Record) -> None:
    """The forecast came first, and the run named no other."""
    named = record.predicted.forecast_hash
    if named is not None and named != forecast.hash:
        raise ConventionError(
            f"run {record.run!r} started from another forecast, {named}.", got=forecast.hash
        )
    if datetime.fromisoformat(record.started_at) < datetime.fromisoformat(forecast.created_at):
        raise ConventionError(
            f"run {record.run!r} started at {record.started_at}, before the forecast was written.",
            got=forecast.created_at,
            hint="write the forecast first: kleiber forecast law.json, then kleiber train",
        )


def _check_size(forecast: Forecast, run: str, count: ParamCount) -> None:
    counted = count.by(forecast.convention)
    known = forecast.param_count
    if known is not None and known.by(forecast.convention) != forecast.num_params:
        raise ConventionError(
            f"The forecast says that it counts N as {forecast.convention!r}, and its N is counted otherwise.",
            got=forecast.num_params,
        )
    if (count == known) if known is not None else _is_same(forecast.num_params, counted):
        return
    other = next((name for name in CONVENTIONS if _is_same(forecast.num_params, count.by(name))), None)
    if other is not None and known is None:
        raise ConventionError(
            f"The forecast counts N as {forecast.convention!r}, by which run {run!r} has {counted} "
            f"parameters; its N is the run's {other!r} count.",
            got=forecast.num_params,
            hint=f"kleiber forecast law.json --params {counted} --tokens {forecast.num_tokens:.10g}",
        )
    raise ConventionError(
        f"The forecast is about {forecast.num_params:g} parameters, and run {run!r} has {counted} "
        f"({forecast.convention}).",
        hint=f"kleiber forecast law.json --params {counted} --tokens {forecast.num_tokens:.10g}",
    )


def _is_same(typed: float, exact: float) -> bool:
    return abs(typed - exact) <= _ROUNDING_FRAC * exact
