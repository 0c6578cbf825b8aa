import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from kleiber.errors import MissingExtraError
from kleiber.tasks.intervals import wilson
from kleiber.tasks.metrics import (
    accuracy,
    macro_auc,
    macro_f1,
    mean_absolute_error,
    perplexity,
    r2,
    recall_at,
    require_metrics,
)


def drawn(seed, num=300, num_classes=4, skill=1.0):
    """Return probabilities and labels of a model that knows something."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(
        num_classes, num, p=np.arange(1, num_classes + 1) / (num_classes * (num_classes + 1) / 2)
    )
    logits = rng.normal(size=(num, num_classes)) + skill * np.eye(num_classes)[labels]
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels


def covers(measure, truth, num_draws=300):
    """Return how often the interval holds the truth."""
    estimates = [measure(seed) for seed in range(num_draws)]
    return np.mean([one.low <= truth <= one.high for one in estimates])


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), num_classes=st.integers(2, 6), num=st.integers(20, 200))
def test_values_are_those_of_scikit_learn(seed, num_classes, num):
    probs, labels = drawn(seed, num, num_classes)
    predicted = probs.argmax(1)
    assert accuracy(predicted, labels).value == pytest.approx(sk.accuracy_score(labels, predicted))
    assert macro_f1(predicted, labels, num_classes).value == pytest.approx(
        sk.f1_score(labels, predicted, average="macro"), abs=1e-6
    )
    auc = macro_auc(probs, labels)
    present = [k for k in range(num_classes) if (labels == k).any()]
    if len(present) > 1:
        expected = np.mean([sk.roc_auc_score(labels == k, probs[:, k]) for k in present])
        assert auc.value == pytest.approx(expected, abs=1e-6)
        assert 0 <= auc.low <= auc.value <= auc.high <= 1
    else:
        assert auc is None


def test_auc_of_two_classes_has_delongs_variance():
    """By DeLong's double sums, written out."""
    probs, labels = drawn(3, num=60, num_classes=2, skill=0.7)
    scores = probs[:, 1]
    up, down = scores[labels == 1], scores[labels == 0]
    wins = (up[:, None] > down) + 0.5 * (up[:, None] == down)
    variance = wins.mean(1).var(ddof=1) / len(up) + wins.mean(0).var(ddof=1) / len(down)
    auc = macro_auc(probs, labels)
    effective = auc.value * (1 - auc.value) / variance
    z = 1.959964
    centre = (auc.value + z**2 / (2 * effective)) / (1 + z**2 / effective)
    assert (auc.low + auc.high) / 2 == pytest.approx(centre, rel=1e-5)
    assert (auc.high - auc.low) / 2 == pytest.approx(1.96 * math.sqrt(variance), rel=0.1)


def test_the_interval_of_f1_is_that_of_its_slopes():
    """How much F1 moves when one sample weighs a little more, by scikit-learn's weighted F1."""
    probs, labels = drawn(5, num=40, num_classes=3)
    predicted, step = probs.argmax(1), 1e-5
    f1 = sk.f1_score(labels, predicted, average="macro")
    slopes = [
        (sk.f1_score(labels, predicted, average="macro", sample_weight=1 + step * np.eye(40)[i]) - f1) / step
        for i in range(40)
    ]
    expected = wilson(f1, f1 * (1 - f1) / np.square(slopes).sum())
    ours = macro_f1(predicted, labels, 3)
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), rel=1e-4)


def test_intervals_of_shares_hold_the_truth_19_times_of_20():
    probs, labels = drawn(1, num=400_000)
    f1, auc = macro_f1(probs.argmax(1), labels, 4).value, macro_auc(probs, labels).value

    def small(seed):
        probs, labels = drawn(100 + seed, num=200)
        return macro_f1(probs.argmax(1), labels, 4), macro_auc(probs, labels)

    both = [small(seed) for seed in range(300)]
    assert np.mean([one.low <= f1 <= one.high for one, _ in both]) == pytest.approx(0.95, abs=0.04)
    assert np.mean([one.low <= auc <= one.high for _, one in both]) == pytest.approx(0.95, abs=0.04)


def test_perfect_and_absent_classes():
    labels = np.array([0, 0, 0, 1])
    probs = np.eye(3)[labels]
    assert macro_f1(labels, labels, 3).value == 1.0  # the third class does not occur
    assert macro_f1(labels, labels, 3).low < 0.6
    assert macro_auc(probs, labels).value == 1.0
    assert macro_auc(probs, labels).low < 0.3  # one sample of the rarer class
    assert macro_auc(probs, np.zeros(4, np.int64)) is None
    assert macro_auc(np.full((4, 101), 0.5), labels) is None
    constant = macro_auc(np.full((4, 2), 0.5), labels)
    assert constant.value == 0.5
    assert constant.low < 0.15


def drawn_values(seed, num):
    rng = np.random.default_rng(seed)
    values = rng.normal([[1.0, -2.0]], [[1.0, 5.0]], size=(num, 2))
    return values + rng.normal(0, [[0.5, 4.0]], size=(num, 2)), values


def test_regression_values_are_those_of_scikit_learn():
    predicted, values = drawn_values(0, 50)
    assert r2(predicted, values).value == pytest.approx(sk.r2_score(values, predicted))
    assert mean_absolute_error(predicted, values).value == pytest.approx(
        sk.mean_absolute_error(values, predicted)
    )
    assert r2(values, values).high == 1.0
    assert r2(predicted, np.ones_like(values)) is None
    assert r2(predicted[:1], values[:1]) is None


def test_intervals_of_regressions_hold_the_truth_19_times_of_20():
    truth = 1 - (0.25 / 1 + 16 / 25) / 2
    covered = covers(lambda seed: r2(*drawn_values(seed, 150)), truth)
    assert covered == pytest.approx(0.95, abs=0.04)
    distance = math.sqrt(2 / math.pi) * (0.5 + 4.0) / 2
    covered = covers(lambda seed: mean_absolute_error(*drawn_values(seed, 60)), distance)
    assert covered == pytest.approx(0.95, abs=0.04)


def test_perplexity_by_hand():
    confusion = perplexity(np.log([8.0, 32.0]), np.array([3.0, 5.0]))
    assert confusion.value == pytest.approx(2.0)
    assert perplexity(np.array([1e3, 1e3]), np.array([1.0, 1.0])) is None
    assert perplexity(np.array([math.nan, 1.0]), np.array([1.0, 1.0])) is None
    assert perplexity(np.log([4.0]), np.array([1.0])).high == pytest.approx(4.0)


def test_recall_counts_the_first_ranks():
    ranks = np.array([0, 1, 4, 5])
    assert (recall_at(1, ranks).value, recall_at(5, ranks).value) == (0.25, 0.75)


def test_a_missing_package_is_named():
    require_metrics("torchmetrics")
    with pytest.raises(MissingExtraError, match="measuring this task needs the package 'no_such_metrics'"):
        require_metrics("no_such_metrics")
