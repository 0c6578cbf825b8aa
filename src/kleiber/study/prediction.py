"""What is said of a run before it starts: what it needs, and which forecast it is held to."""

from __future__ import annotations

from collections.abc import Callable

from kleiber.cost import Calibration
from kleiber.data import open_data, with_model_tokenizer
from kleiber.errors import ConventionError
from kleiber.models import resolve_spec
from kleiber.runs import DataMeta, Predicted, Recipe, Record, now, num_cores
from kleiber.scaling import Forecast, check_forecast
from kleiber.study.plan import Plan, plan
from kleiber.train.recover.filled import with_donor
from kleiber.train.settle import settle

__all__ = ["check_started", "num_val_samples", "predict", "settled"]


def predict(
    recipe: Recipe,
    run: str,
    *,
    calibration: Calibration | None = None,
    forecast: Forecast | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> tuple[Plan, Predicted]:
    """Return the plan of a run and what goes into its record, after checking the forecast against the run.

    Args:
        recipe: What will be trained.
        run: Its name, for messages.
        calibration: Of this machine; without it times are assumed.
        forecast: Of this run's loss, if there is one.
        on_progress: Is told each stage of the text's preparation, which the evaluation set needs.

    Raises:
        ConventionError: The forecast was altered, or is about another size, horizon, evaluation set or convention.
        RecipeError: The model's size breaks a rule.
        DataError: The text is missing, unreadable or too small.
    """
    recipe = with_model_tokenizer(with_donor(recipe))
    if forecast is not None and recipe.task.name == "lm" and not recipe.train.stop.is_countable:
        # What takes no text is checked first.
        spec, num_tokens = resolve_spec(recipe), recipe.num_tokens
        check_forecast(forecast, run, num_params=spec.count(), num_tokens=num_tokens)
    meta = open_data(recipe.data, seed=recipe.train.seed, task=recipe.task, on_progress=on_progress).meta
    found = plan(
        settled(recipe, meta, calibration), calibration=calibration, num_val_samples=num_val_samples(meta)
    )
    if forecast is not None:
        check_forecast(
            forecast,
            run,
            num_params=found.num_params,
            num_tokens=found.num_tokens,
            eval_hash=meta.eval_hash,
        )
    return found, Predicted(
        forecast_hash=None if forecast is None else forecast.hash,
        total_time_s=found.total_time_s,
        step_time_s=found.step_time_s,
        peak_memory_bytes=found.memory_bytes.peak,
        at=now(),
    )


def settled(recipe: Recipe, meta: DataMeta, calibration: Calibration | None) -> Recipe:
    """Return the recipe that the run will have; a limit on money needs a step's time first.

    Args:
        recipe: As typed.
        meta: Of its data.
        calibration: Of this machine.

    Raises:
        RecipeError: The model's size breaks a rule, or a limit allows no step.
    """
    step_time_s = None
    if recipe.train.stop.usd is not None:
        step_time_s = plan(recipe.with_shape(meta.shape), calibration=calibration).step_time_s
    return settle(recipe, meta, num_threads=num_cores(), step_time_s=step_time_s)


def num_val_samples(meta: DataMeta) -> int | None:
    """Return the samples of a validation split; None of text that is modelled, of which the recipe says it."""
    return meta.num_val_tokens if meta.unit == "sample" else None


def check_started(record: Record, forecast: Forecast) -> None:
    """Refuse a forecast that a run which has started did not start from.

    Raises:
        ConventionError: It started from another forecast, or from none.
    """
    named = record.predicted.forecast_hash
    if named != forecast.hash:
        raise ConventionError(
            f"run {record.run!r} has started from {'no forecast' if named is None else f'another forecast, {named}'}, "
            "and a forecast must stand before its run does.",
            got=forecast.hash,
            hint="another folder with -o, or --fresh to start again",
        )
