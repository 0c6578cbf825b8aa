"""A classical baseline beside a run: n-grams for text, a linear model and boosted trees for samples."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import torch

from kleiber.data import Data, TextData, open_data
from kleiber.errors import MissingExtraError, RecipeError
from kleiber.runs import Baseline, BaselineResult, Recipe
from kleiber.study.baseline.estimators import ESTIMATORS, EstimatorModule, design_of, fit, suits
from kleiber.study.baseline.ngram import fit_ngram
from kleiber.tasks import Metrics, task_of
from kleiber.tasks.language import metrics_of_losses

__all__ = ["run_baseline"]

_ORDER = 5
_MAX_TOKENS = 8_000_000
"""Of a training text whose n-grams are counted: a gigabyte of numbers."""


def run_baseline(recipe: Recipe, on_progress: Callable[[str], None] | None = None) -> Baseline:
    """Fit what suits the recipe's task to its data, and measure it as its runs are measured.

    Args:
        recipe: Its data without augmentation, and its task.
        on_progress: Is told each method as it begins.

    Raises:
        RecipeError: No classical method is known for the task.
        DataError: The data is missing, unreadable or too small.
        MissingExtraError: scikit-learn is not installed.
    """
    tell = on_progress or (lambda _: None)
    plain = recipe.data.model_copy(update={"augment": (), "num_workers": 0})
    data = open_data(plain, seed=recipe.train.seed, task=recipe.task, on_progress=on_progress)
    if recipe.task.name == "lm":
        results = _of_text(cast("TextData", data), tell)
    elif recipe.task.name in {"classification", "regression"}:
        if importlib.util.find_spec("sklearn") is None:
            raise MissingExtraError.of("scikit-learn", "data", "A classical baseline")
        results = _of_samples(recipe, data, tell)
    else:
        raise RecipeError(
            "a classical baseline is known for lm, classification and regression.",
            got=recipe.task.name,
            hint="kleiber train recipe.yaml   without --baseline",
        )
    return Baseline(eval_hash=data.meta.eval_hash, results=tuple(results))


def _of_text(data: TextData, tell: Callable[[str], None]) -> Iterator[BaselineResult]:
    title = f"{_ORDER}-gram with Kneser-Ney back-off"
    tell(title)
    start = time.perf_counter()
    tokens = np.asarray(data.train_tokens[:_MAX_TOKENS])
    model = fit_ngram(tokens, data.meta.shape.vocab_size or 0, order=_ORDER)
    time_s = time.perf_counter() - start
    losses = [-np.log(model.probabilities(batch.tokens)).mean(1) for batch in data.batches("val", 0, 64)]
    metrics = metrics_of_losses(torch.from_numpy(np.concatenate(losses)), data.meta)
    notes = (
        (f"It read {len(tokens):,} of {data.meta.num_train_tokens:,} training tokens.",)
        if len(tokens) < data.meta.num_train_tokens
        else ()
    )
    yield _result(title, time_s, metrics, None, notes)


def _of_samples(recipe: Recipe, data: Data, tell: Callable[[str], None]) -> Iterator[BaselineResult]:
    inputs, design = data.meta.shape.inputs, design_of(data)
    task = task_of(recipe.task, data.meta)
    is_classified = recipe.task.name == "classification"
    for name, estimator in ESTIMATORS.items():
        if not suits(name, inputs):
            continue
        tell(estimator.title)
        start = time.perf_counter()
        fitted = fit(name, recipe.task, data, design)
        module = EstimatorModule(
            fitted,
            inputs,
            is_binary=recipe.task.minimized == "binary_cross_entropy",
            num_classes=len(data.meta.classes) if is_classified else None,
        )
        time_s = time.perf_counter() - start
        num = data.meta.num_train_tokens
        notes = (
            (f"It learnt from {fitted.num_samples:,} of {num:,} samples.",)
            if fitted.num_samples < num
            else ()
        )
        test = task.evaluate(module, data, "test") if data.meta.num_test_tokens else None
        yield _result(estimator.title, time_s, task.evaluate(module, data), test, notes)


def _result(
    method: str, time_s: float, val: Metrics, test: Metrics | None, notes: tuple[str, ...]
) -> BaselineResult:
    return BaselineResult(
        method=method,
        time_s=time_s,
        val_metrics=dict(val.values),
        test_metrics=dict(test.values) if test else {},
        notes=notes,
    )
