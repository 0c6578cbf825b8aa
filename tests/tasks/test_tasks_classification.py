import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import nn

from kleiber.data import Batch
from kleiber.errors import DataError
from kleiber.runs import DataShape, TaskRecipe
from kleiber.tasks.classification import Classification, log_odds

LOGITS = np.float32([[2, 0, -1], [0.5, 1, 0], [-1, 0, 3], [0, 0.2, 0.1]])
LABELS = np.array([0, 0, 2, 1])
LOG_P = np.log(np.exp(LOGITS.astype(float)) / np.exp(LOGITS.astype(float)).sum(1, keepdims=True))


class Given(nn.Module):
    """Returns what it is given."""

    def forward(self, features):
        return features


def loss_of(labels=LABELS, outputs=LOGITS, meta=None, **recipe):
    task = Classification(TaskRecipe(name="classification", **recipe), meta)
    return float(task.loss(Given(), Batch({"features": outputs, "labels": labels}, cursor=4)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(float)))


def test_cross_entropy_by_its_formula():
    assert loss_of() == pytest.approx(-np.mean(LOG_P[range(4), LABELS]), rel=1e-6)


def test_label_smoothing_by_its_formula():
    targets = 0.9 * np.eye(3)[LABELS] + 0.1 / 3
    assert loss_of(label_smoothing=0.1) == pytest.approx(-np.mean((targets * LOG_P).sum(1)), rel=1e-6)


def test_mixed_labels_by_their_formula():
    shares = np.float32([[0.7, 0.3, 0], [1, 0, 0], [0, 0.5, 0.5], [0, 1, 0]])
    assert loss_of(shares) == pytest.approx(-np.mean((shares * LOG_P).sum(1)), rel=1e-6)


def test_binary_cross_entropy_by_its_formula():
    p, y = sigmoid(LOGITS), np.eye(3)[LABELS]
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    assert loss_of(loss="binary_cross_entropy") == pytest.approx(expected, rel=1e-6)
    z, y = LOGITS[:, :1], np.array([1, 0, 1, 0])
    p = sigmoid(z[:, 0])
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    assert loss_of(y, z, loss="binary_cross_entropy") == pytest.approx(expected, rel=1e-6)


def test_log_odds_are_those_of_the_softmax():
    odds = log_odds(torch.from_numpy(LOGITS).double())
    np.testing.assert_allclose(odds.sigmoid(), np.exp(LOG_P), rtol=1e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_a_sure_model_keeps_its_samples_in_order(loss, make_data):
    # All probabilities of the second class round to 1: by them nothing could be told apart.
    logits = np.float32([[-40, 40], [-50, 50], [-39, 39], [-45, 45]])
    data = make_data({"features": logits, "labels": np.array([0, 1, 0, 1])}, classes=("a", "b"))
    task = Classification(TaskRecipe(name="classification", loss=loss), data.meta)
    assert task.evaluate(Given(), data).values["auc"].value == 1.0


def test_balanced_classes_weigh_the_same_and_micro_batches_add_up(make_data):
    meta = make_data({"labels": LABELS}, classes=("a", "b", "c"), class_counts=(6, 2, 0)).meta
    weights = np.array([8 / 12, 8 / 4, 0])
    expected = -np.mean(weights[LABELS] * LOG_P[range(4), LABELS])
    assert loss_of(meta=meta, class_weights="balanced") == pytest.approx(expected, rel=1e-6)
    halves = [
        loss_of(LABELS[part], LOGITS[part], meta=meta, class_weights="balanced")
        for part in (slice(0, 2), slice(2, 4))
    ]
    assert np.mean(halves) == pytest.approx(expected, rel=1e-6)
    binary = loss_of(meta=meta, class_weights="balanced", loss="binary_cross_entropy")
    p, y = sigmoid(LOGITS), np.eye(3)[LABELS]
    each = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(1)
    assert binary == pytest.approx(np.mean(weights[LABELS] * each), rel=1e-6)


def data_of(make_data, outputs=LOGITS, labels=LABELS, **meta):
    names = {"classes": ("ant", "bee", "cat"), "class_counts": (2, 1, 1)}
    shape = DataShape(inputs="features", num_features=3, num_outputs=3)
    return make_data({"features": outputs, "labels": labels}, **{"shape": shape} | names | meta)


def test_evaluation_by_hand(make_data):
    data = data_of(make_data)
    metrics = Classification(TaskRecipe(name="classification", label_smoothing=0.1), data.meta).evaluate(
        Given(), data
    )
    losses = -LOG_P[range(4), LABELS]
    assert metrics.loss == pytest.approx(losses.mean(), rel=1e-6)  # without smoothing
    assert metrics.loss_half_width == pytest.approx(1.96 * losses.std(ddof=1) / 2, rel=1e-3)
    assert metrics.num_tokens == 4
    assert list(metrics.values) == ["accuracy", "macro_f1", "auc"]
    assert metrics.values["accuracy"].value == 0.75
    # a: 1 of 2 found, 1 of 1 right; b: 1 of 1 found, 1 of 2 right; c: all.
    assert metrics.values["macro_f1"].value == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_one_logit_is_the_second_classs(make_data):
    outputs, labels = np.float32([[-2], [1], [0.5], [-1]]), np.array([0, 1, 0, 0])
    data = data_of(make_data, outputs, labels, classes=("no", "yes"), class_counts=(3, 1))
    task = Classification(TaskRecipe(name="classification", loss="binary_cross_entropy"), data.meta)
    metrics = task.evaluate(Given(), data)
    assert metrics.values["accuracy"].value == 0.75
    assert metrics.values["auc"].value == 1.0
    shown = task.show(Given(), data, num=4)
    assert (shown[0].expected, shown[0].predicted, shown[0].is_right) == ("no", "yes", False)
    assert shown[0].confidence_frac == pytest.approx(1 / (1 + math.exp(-0.5)))


def test_one_class_has_no_area(make_data):
    data = data_of(make_data, labels=np.zeros(4, np.int64))
    metrics = Classification(TaskRecipe(name="classification"), data.meta).evaluate(Given(), data)
    assert list(metrics.values) == ["accuracy", "macro_f1"]


def test_the_wrong_ones_are_shown_first(make_data):
    data = data_of(make_data, has_test=True)
    shown = Classification(TaskRecipe(name="classification"), data.meta).show(Given(), data, num=3)
    assert [(one.expected, one.predicted, one.is_right) for one in shown] == [
        ("ant", "bee", False),
        ("ant", "ant", True),
        ("cat", "cat", True),
    ]
    assert shown[0].text == "0.5, 1, 0"
    assert shown[0].confidence_frac == pytest.approx(math.exp(LOG_P[1, 1]), rel=1e-6)


def test_many_batches_are_one_split(make_data):
    torch.manual_seed(0)
    outputs, labels = torch.randn(300, 3).numpy(), torch.randint(0, 3, (300,)).numpy()
    data = data_of(make_data, outputs, labels)
    module = Given().train()
    metrics = Classification(TaskRecipe(name="classification"), data.meta).evaluate(module, data)
    assert module.training
    expected = F.cross_entropy(torch.from_numpy(outputs), torch.from_numpy(labels))
    assert metrics.loss == pytest.approx(float(expected), rel=1e-5)
    assert metrics.values["accuracy"].value == pytest.approx((outputs.argmax(1) == labels).mean())


def test_a_split_that_is_not_there_is_named(make_data):
    data = data_of(make_data)
    with pytest.raises(DataError, match=r"data.source 'memory' has no test split to be measured on"):
        Classification(TaskRecipe(name="classification"), data.meta).evaluate(Given(), data, "test")
