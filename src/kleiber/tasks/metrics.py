"""Measures of predictions, each with its 95% interval.

Values are those of torchmetrics; how much each sample moves them gives the interval.
Legend: N samples, K classes or predicted values.
"""

from __future__ import annotations

import importlib.util
import math
import warnings

import numpy as np
import numpy.typing as npt
import torch

from kleiber.errors import MissingExtraError
from kleiber.runs import Estimate
from kleiber.tasks.intervals import Z_95, mean_estimate, ratio_estimate, share_estimate, wilson

__all__ = [
    "accuracy",
    "macro_auc",
    "macro_f1",
    "mean_absolute_error",
    "perplexity",
    "r2",
    "recall_at",
    "require_metrics",
]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


_MAX_AUC_CLASSES = 100


def require_metrics(package: str) -> None:
    """Refuse a task whose measures need a package that is not installed, before anything is trained.

    Raises:
        MissingExtraError: It is not there.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError.of(package, "metrics", "measuring this task")


def accuracy(predicted_N: Labels, labels_N: Labels) -> Estimate:
    """Return the share of right predictions."""
    return wilson(float((predicted_N == labels_N).mean()), len(labels_N))


def macro_f1(predicted_N: Labels, labels_N: Labels, num_classes: int) -> Estimate:
    """Return the mean over classes of F1, the harmonic mean of precision and recall; of classes that occur.

    Source:
        Takahashi et al. 2022, Applied Intelligence 52, 4961-4972, section 3: the interval by the delta method.
    """
    from torchmetrics.functional.classification import (  # noqa: PLC0415 - an extra, and it takes a second
        multiclass_f1_score,
    )

    f1_K = multiclass_f1_score(
        torch.from_numpy(predicted_N), torch.from_numpy(labels_N), num_classes, average="none"
    ).numpy()
    num_true_K = np.bincount(labels_N, minlength=num_classes)
    num_either_K = num_true_K + np.bincount(predicted_N, minlength=num_classes)
    occurs_K = num_either_K > 0
    # F1 of a class is 2 hits / (true + predicted): a sample is in each of the three counts or not.
    gain_K, cost_K = (
        np.divide(top, num_either_K, out=np.zeros(num_classes), where=occurs_K)
        for top in (np.full(num_classes, 2.0), f1_K.astype(np.float64))
    )
    is_hit_N = predicted_N == labels_N
    influences_N = (is_hit_N * gain_K[labels_N] - cost_K[labels_N] - cost_K[predicted_N]) / occurs_K.sum()
    return share_estimate(float(f1_K[occurs_K].mean()), influences_N, num_at_bounds=len(labels_N))


def macro_auc(scores_NK: Floats, labels_N: Labels) -> Estimate | None:
    """Return the mean over classes of the area under the ROC curve of one class against the rest.

    Of two classes that is the usual area. Classes that no sample or every sample has are left out; None without others, and
    of more than a hundred classes, whose sorting would take longer than what it measures.

    Args:
        scores_NK: The more likely a class, the higher its score; probabilities or their log-odds.
        labels_N: Classes.

    Source:
        DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44, 837-845; by ranks as Sun and Xu 2014, IEEE SPL 21, 1389.
    """
    from torchmetrics.functional.classification import multiclass_auroc  # noqa: PLC0415 - as above

    num, num_classes = scores_NK.shape
    counts_K = np.bincount(labels_N, minlength=num_classes)
    measured = np.flatnonzero((counts_K > 0) & (counts_K < num))
    if not len(measured) or num_classes > _MAX_AUC_CLASSES:
        return None
    ranks_NK = np.stack([_ranks(scores_N) for scores_N in scores_NK.T], 1)
    with warnings.catch_warnings():  # of classes without samples, which are left out here
        warnings.simplefilter("ignore", UserWarning)
        auc_K = multiclass_auroc(
            torch.from_numpy(ranks_NK), torch.from_numpy(labels_N), num_classes, average="none"
        ).numpy()
    influences_N = sum(_auc_influences(ranks_NK[:, k], labels_N == k) for k in measured) / len(measured)
    rarest = min(counts_K[measured].min(), (num - counts_K[measured]).min())
    return share_estimate(float(auc_K[measured].mean()), np.asarray(influences_N), num_at_bounds=rarest)


def _ranks(scores_N: Floats) -> Floats:
    """Return numbers from 0 to 1 in the order of the scores, equal ones for equal scores."""
    distinct, rank_N = np.unique(scores_N, return_inverse=True)
    ranks: Floats = rank_N / len(distinct)
    return ranks


def _auc_influences(scores_N: Floats, is_positive_N: npt.NDArray[np.bool_]) -> Floats:
    """Return how much each sample moves the area: DeLong's components about their mean."""
    positives, negatives = scores_N[is_positive_N], scores_N[~is_positive_N]
    above = _share_below(positives, negatives)
    below = 1 - _share_below(negatives, positives)
    influences_N = np.empty(len(scores_N))
    influences_N[is_positive_N] = _spread(above)
    influences_N[~is_positive_N] = _spread(below)
    return influences_N


def _share_below(values: Floats, others: Floats) -> Floats:
    """Return for each value the share of `others` under it, ties by half."""
    ordered = np.sort(others)
    twice: Floats = np.searchsorted(ordered, values, "left") + 1.0 * np.searchsorted(ordered, values, "right")
    return twice / (2 * len(others))


def _spread(components: Floats) -> Floats:
    """Return deviations whose squares add up to the variance of the components' mean."""
    num = len(components)
    spread: Floats = (components - components.mean()) / math.sqrt(num * max(1, num - 1))
    return spread


def r2(predicted_NK: Floats, values_NK: Floats) -> Estimate | None:
    """Return the share of the variance that is explained, its mean over the values; None where nothing varies."""
    from torchmetrics.functional import r2_score  # noqa: PLC0415 - as above

    squares_NK = np.square(values_NK - values_NK.mean(0))
    total_K = squares_NK.sum(0)
    if len(values_NK) < 2 or not (total_K > 0).all():
        return None
    score = float(r2_score(torch.from_numpy(predicted_NK), torch.from_numpy(values_NK)))
    errors_NK = np.square(values_NK - predicted_NK)
    unexplained_K = errors_NK.sum(0) / total_K
    influences_N = ((errors_NK - unexplained_K * squares_NK) / total_K).mean(1)
    reach = Z_95 * math.sqrt(float(np.square(influences_N).sum()) * len(values_NK) / (len(values_NK) - 1))
    return Estimate(value=score, low=score - reach, high=min(1.0, score + reach))


def mean_absolute_error(predicted_NK: Floats, values_NK: Floats) -> Estimate:
    """Return the mean distance between prediction and value, in the value's own unit."""
    return mean_estimate(np.abs(predicted_NK - values_NK).mean(1))


def perplexity(losses_N: Floats, num_tokens_N: Floats) -> Estimate | None:
    """Return e to the mean loss a token; None of a loss that diverged.

    Args:
        losses_N: Of all tokens of a sample together [nats].
        num_tokens_N: Tokens of each.

    Example:
        >>> round(perplexity(np.array([math.log(4.0), math.log(16.0)]), np.array([1.0, 2.0])).value, 6)
        4.0
    """
    loss, reach = ratio_estimate(losses_N, num_tokens_N)
    reach = 0.0 if math.isnan(reach) else reach
    if not loss + reach < math.log(1e30):
        return None
    return Estimate(value=math.exp(loss), low=math.exp(loss - reach), high=math.exp(loss + reach))


def recall_at(num_retrieved: int, ranks_N: Labels) -> Estimate:
    """Return how often what was sought is among the first retrieved.

    Args:
        num_retrieved: How many are looked at.
        ranks_N: Of the best right answer to each query, 0 for the first.

    Example:
        >>> recall_at(5, np.array([0, 4, 5, 9])).value
        0.5
    """
    return wilson(float((ranks_N < num_retrieved).mean()), len(ranks_N))
