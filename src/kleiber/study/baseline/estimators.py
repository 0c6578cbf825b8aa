"""Classical estimators of scikit-learn, fitted to the training split and measured by the run's own task.

Legend: N samples, B samples of a batch, F features, K classes or values.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kleiber.data import Batch, Data
from kleiber.runs import DataMeta, InputKind, TaskRecipe

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "EstimatorModule",
    "Fitted",
    "design_of",
    "epoch",
    "fit",
    "suits",
    "token_grams",
]

_BATCH = 1024
_MAX_CELLS = {"linear": 40_000_000, "boosting": 10_000_000}
"""Numbers that a table holds at most, to learn from in minutes: beyond them a part of the samples is taken, and said."""

_MAX_ITERATIONS = 200
"""Of the linear model of classes: pixels take minutes to the last digit, and gain nothing."""

Design = Callable[[Batch], Any]
"""Rows of a batch as the estimator takes them: [B, F], dense or sparse."""


@dataclass(frozen=True)
class Estimator:
    """A method, by what it is told to do."""

    title: str
    classify: Callable[[], Any]
    regress: Callable[[], Any]
    is_dense: bool
    """Whether it takes dense tables alone."""


@dataclass(frozen=True)
class Fitted:
    """An estimator that has learnt, and how it reads a batch."""

    model: Any
    design: Design
    num_samples: int
    is_converged: bool


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - an extra

    return LogisticRegression(max_iter=_MAX_ITERATIONS)


def _ridge() -> Any:
    from sklearn.linear_model import Ridge  # noqa: PLC0415 - an extra

    return Ridge(alpha=1.0)


def _boosted_classes() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415 - an extra

    return HistGradientBoostingClassifier(random_state=0, early_stopping=True)


def _boosted_values() -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - an extra
    from sklearn.multioutput import MultiOutputRegressor  # noqa: PLC0415 - an extra

    return MultiOutputRegressor(HistGradientBoostingRegressor(random_state=0, early_stopping=True))


ESTIMATORS: dict[str, Estimator] = {
    "linear": Estimator("linear model", _logistic, _ridge, is_dense=False),
    "boosting": Estimator("gradient-boosted trees", _boosted_classes, _boosted_values, is_dense=True),
}


class EstimatorModule(nn.Module):
    """A fitted estimator behind the call of a module, so that a task measures it like any other.

    Args:
        fitted: What has learnt.
        role: Of what goes in.
        is_binary: Whether the task asks of each class by itself.
        num_classes: K of a classification, None of a regression.
    """

    def __init__(self, fitted: Fitted, role: str, *, is_binary: bool, num_classes: int | None) -> None:
        super().__init__()
        self.fitted, self.role = fitted, role
        self.is_binary, self.num_classes = is_binary, num_classes

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits or values, [B, K]."""
        rows = self.fitted.design(Batch({self.role: inputs.numpy()}, cursor=0))
        if self.num_classes is None:
            values = np.asarray(self.fitted.model.predict(rows), np.float32)
            return torch.from_numpy(values.reshape(len(inputs), -1))
        probs_BK = np.full((len(inputs), self.num_classes), 1e-7)
        # A class that no training sample had is unknown to the estimator.
        probs_BK[:, self.fitted.model.classes_] = np.clip(
            self.fitted.model.predict_proba(rows), 1e-7, 1 - 1e-6
        )
        logits_BK = torch.from_numpy(np.log(probs_BK).astype(np.float32))
        return logits_BK - torch.log1p(-logits_BK.exp()) if self.is_binary else logits_BK


def design_of(data: Data) -> Design:
    """Return how batches become rows: numbers flattened, texts as counts of their tokens and pairs of tokens (TF-IDF).

    Source:
        Spärck Jones 1972, Journal of Documentation 28, 11-21, for the weights.
    """
    inputs = data.meta.shape.inputs
    if inputs != "tokens":
        return lambda batch: batch.arrays[inputs].reshape(len(batch), -1)
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415 - an extra

    vectorizer = TfidfVectorizer(
        analyzer=token_grams(data), min_df=2, max_features=200_000, sublinear_tf=True, dtype=np.float32
    )
    vectorizer.fit(row for batch in epoch(data) for row in batch.tokens)
    return lambda batch: vectorizer.transform(batch.tokens)


def token_grams(data: Data) -> Callable[[npt.NDArray[np.int64]], list[int]]:
    """Return what turns a text of `data` into its tokens and pairs of neighbours, each as one number."""
    pad_id = data.meta.shape.pad_id

    def grams(row: npt.NDArray[np.int64]) -> list[int]:
        ids: list[int] = row[row != pad_id].tolist()
        return ids + [(first + 1) * 10_000_000 + second for first, second in pairwise(ids)]

    return grams


def fit(name: str, task: TaskRecipe, data: Data, design: Design) -> Fitted:
    """Return an estimator that has learnt from the training split.

    Args:
        name: A key of `ESTIMATORS`.
        task: Classification or regression.
        data: Without augmentation.
        design: Of `design_of`.
    """
    if task.name == "classification":
        rows, labels_N = _table(data, design, "labels", _MAX_CELLS[name])
        model = ESTIMATORS[name].classify()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of iterations that do not converge, which is said
            model.fit(rows, labels_N)
    else:
        rows, values_NK = _table(data, design, "values", _MAX_CELLS[name])
        model = ESTIMATORS[name].regress()
        model.fit(rows, _standardized(values_NK, data.meta))
    is_converged = ESTIMATORS[name].is_dense or not np.any(getattr(model, "n_iter_", 0) == _MAX_ITERATIONS)
    return Fitted(model, design, rows.shape[0], is_converged)


def _table(data: Data, design: Design, answers: str, max_cells: int) -> tuple[Any, npt.NDArray[np.generic]]:
    """Return the rows that are learnt from and what is asked of each; of dense ones no more than `max_cells` numbers."""
    rows: list[Any] = []
    asked: list[npt.NDArray[np.generic]] = []
    num, most = 0, data.meta.num_train_tokens
    for batch in epoch(data):
        rows.append(design(batch))
        asked.append(batch.arrays[answers])
        num += len(batch)
        if isinstance(rows[-1], np.ndarray):
            most = max(1, max_cells // rows[-1].shape[1])
        if num >= most:
            break
    return _stacked(rows)[:most], np.concatenate(asked)[:most]


def suits(name: str, inputs: InputKind) -> bool:
    """Return whether a method reads such inputs: trees take no sparse counts of text."""
    return not (ESTIMATORS[name].is_dense and inputs == "tokens")


def _standardized(values_NK: npt.NDArray[Any], meta: DataMeta) -> npt.NDArray[np.float64]:
    scaled: npt.NDArray[np.float64] = (values_NK - np.array(meta.target_mean)) / np.array(meta.target_std)
    return scaled


def _stacked(rows: list[Any]) -> Any:
    if isinstance(rows[0], np.ndarray):
        return np.concatenate(rows)
    from scipy.sparse import vstack  # noqa: PLC0415 - comes with scikit-learn

    return vstack(rows).tocsr()


def epoch(data: Data) -> Iterator[Batch]:
    """Yield the training split once."""
    num = data.meta.num_train_tokens
    for batch in data.batches("train", 0, min(_BATCH, num)):
        excess = batch.cursor - num
        if excess > 0:
            yield Batch(
                {role: array[: len(batch) - excess] for role, array in batch.arrays.items()}, cursor=num
            )
        else:
            yield batch
        if excess >= 0:
            return
