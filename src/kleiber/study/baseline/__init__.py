"""A classical baseline beside a run: n-grams, a linear model, boosted trees, look-ups, by what is learnt."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import torch
from torch import nn

from kleiber.data import Data, TextData, open_data, with_model_tokenizer
from kleiber.errors import DataError, MissingExtraError
from kleiber.runs import Baseline, BaselineResult, Recipe, TaskName
from kleiber.study.baseline.estimators import ESTIMATORS, EstimatorModule, design_of, fit, suits
from kleiber.study.baseline.lookups import NearestTarget, PixelsToWords
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
        recipe: Its data, which is not augmented here, and its task.
        on_progress: Is told each method as it begins.

    Raises:
        DataError: The data is missing, unreadable or too small, or what is kept of it is of one class.
        MissingExtraError: scikit-learn is not installed.
    """
    if recipe.task.name != "lm" and importlib.util.find_spec("sklearn") is None:
        raise MissingExtraError.of("scikit-learn", "data", "A classical baseline")
    recipe = with_model_tokenizer(recipe)
    plain = recipe.data.model_copy(update={"augment": (), "num_workers": 0})
    data = open_data(plain, seed=recipe.train.seed, task=recipe.task, on_progress=on_progress)
    if recipe.task.name == "classification" and np.count_nonzero(data.meta.class_counts) < 2:
        raise DataError(
            f"A classical baseline needs training samples of two classes, and the {data.meta.num_train_tokens:,} that are kept "
            f"of '{recipe.data.source}' are of one.",
            hint="--set data.selection=balanced   or a larger data.max_samples",
        )
    results = _METHODS[recipe.task.name](recipe, data, on_progress or (lambda _: None))
    return Baseline(eval_hash=data.meta.eval_hash, results=tuple(results))


def _of_text(recipe: Recipe, data: Data, tell: Callable[[str], None]) -> Iterator[BaselineResult]:
    del recipe
    title = f"{_ORDER}-gram with Kneser-Ney back-off"
    tell(title)
    start = time.perf_counter()
    tokens = np.asarray(cast("TextData", data).train_tokens[:_MAX_TOKENS])
    model = fit_ngram(tokens, data.meta.shape.vocab_size or 1, order=_ORDER)
    time_s = time.perf_counter() - start
    losses = [-np.log(model.probabilities(batch.tokens)).mean(1) for batch in data.batches("val", 0, 64)]
    metrics = metrics_of_losses(torch.from_numpy(np.concatenate(losses)), data.meta)
    notes = []
    if len(tokens) < data.meta.num_train_tokens:
        notes.append(f"It read {len(tokens):,} of {data.meta.num_train_tokens:,} training tokens.")
    yield _result(title, time_s, metrics, None, notes)


def _of_samples(recipe: Recipe, data: Data, tell: Callable[[str], None]) -> Iterator[BaselineResult]:
    inputs, design = data.meta.shape.inputs, design_of(data)
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
        num, notes = data.meta.num_train_tokens, []
        if fitted.num_samples < num:
            notes.append(f"It learnt from {fitted.num_samples:,} of {num:,} samples.")
        if not fitted.is_converged:
            notes.append("It was stopped before it converged.")
        yield _measured(estimator.title, time_s, recipe, data, module, notes=notes)


def _of_pairs(recipe: Recipe, data: Data, tell: Callable[[str], None]) -> Iterator[BaselineResult]:
    title = "target of the nearest training source"
    tell(title)
    start = time.perf_counter()
    module = NearestTarget(data)
    found = _measured(title, time.perf_counter() - start, recipe, data, module)
    # It has no opinion on single tokens.
    kept = {
        split: {name: value for name, value in getattr(found, split).items() if name != "perplexity"}
        for split in ("val_metrics", "test_metrics")
    }
    yield found.model_copy(update=kept)


def _of_captions(recipe: Recipe, data: Data, tell: Callable[[str], None]) -> Iterator[BaselineResult]:
    title = "ridge regression from pixels to the caption's tokens"
    tell(title)
    start = time.perf_counter()
    module = PixelsToWords(data)
    yield _measured(title, time.perf_counter() - start, recipe, data, module)


_METHODS: dict[TaskName, Callable[[Recipe, Data, Callable[[str], None]], Iterator[BaselineResult]]] = {
    "lm": _of_text,
    "classification": _of_samples,
    "regression": _of_samples,
    "seq2seq": _of_pairs,
    "contrastive": _of_captions,
}


def _measured(
    method: str,
    time_s: float,
    recipe: Recipe,
    data: Data,
    module: nn.Module,
    *,
    notes: list[str] | None = None,
) -> BaselineResult:
    """Return what the run's own task says of a method behind the call of a module."""
    task = task_of(recipe.task, data.meta)
    test = task.evaluate(module, data, "test") if data.meta.num_test_tokens else None
    return _result(method, time_s, task.evaluate(module, data), test, notes or [])


def _result(
    method: str, time_s: float, val: Metrics, test: Metrics | None, notes: list[str]
) -> BaselineResult:
    return BaselineResult(
        method=method,
        time_s=time_s,
        val_metrics=dict(val.values),
        test_metrics=dict(test.values) if test else {},
        notes=tuple(notes),
    )
