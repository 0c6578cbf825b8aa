import numpy as np
import pytest
import torch
from torch import nn

from kleiber.data import Batch
from kleiber.runs import DataShape, TaskRecipe
from kleiber.tasks.regression import Regression

VALUES = np.float32([[10, 1], [14, 1], [18, 3], [22, 3]])
MEAN, STD = VALUES.mean(0, dtype=float), VALUES.std(0, dtype=float)
OUTPUTS = np.float32([[-1, -1], [0, -1], [0.5, 1], [3.5, 0]])
TARGETS = (VALUES - MEAN) / STD
ERRORS = OUTPUTS - TARGETS


class Given(nn.Module):
    def forward(self, features):
        return features


@pytest.fixture
def data(make_data):
    shape = DataShape(inputs="features", num_features=2, num_outputs=2)
    return make_data(
        {"features": OUTPUTS, "values": VALUES}, shape=shape, target_mean=tuple(MEAN), target_std=tuple(STD)
    )


def loss_of(data, **recipe):
    task = Regression(TaskRecipe(name="regression", **recipe), data.meta)
    return task.loss(Given(), Batch(data.arrays, cursor=4)).item()


def test_squared_error_by_its_formula(data):
    assert loss_of(data) == pytest.approx((ERRORS**2).mean(), rel=1e-6)


def test_hubers_loss_by_its_formula(data):
    size = np.abs(ERRORS)
    for delta in (0.7, 1.0):
        expected = np.where(size <= delta, ERRORS**2 / 2, delta * (size - delta / 2)).mean()
        assert loss_of(data, loss="huber", huber_delta=delta) == pytest.approx(expected, rel=1e-6)
    assert (size > 1).any()
    assert (size < 0.7).any()


def test_measures_are_in_the_values_own_units(data):
    metrics = Regression(TaskRecipe(name="regression"), data.meta).evaluate(Given(), data)
    assert metrics.loss == pytest.approx((ERRORS**2).mean(), rel=1e-6)
    assert metrics.num_tokens == 4
    assert list(metrics.values) == ["r2", "mean_absolute_error"]
    assert metrics.values["mean_absolute_error"].value == pytest.approx(np.abs(ERRORS * STD).mean(), rel=1e-6)
    assert metrics.values["r2"].value == pytest.approx(1 - (ERRORS**2).mean(), rel=1e-6)


def test_a_target_that_never_varies_is_no_division_by_zero(make_data):
    constant = make_data(
        {"features": np.zeros((3, 1), np.float32), "values": np.full((3, 1), 7, np.float32)},
        target_mean=(7.0,),
        target_std=(0.0,),
    )
    metrics = Regression(TaskRecipe(name="regression"), constant.meta).evaluate(Given(), constant)
    assert metrics.loss == 0
    assert list(metrics.values) == ["mean_absolute_error"]


def test_the_worst_is_shown_first_and_the_best_last(data):
    shown = Regression(TaskRecipe(name="regression"), data.meta).show(Given(), data, num=2)
    worst, best = np.abs(ERRORS).mean(1).argmax(), np.abs(ERRORS).mean(1).argmin()
    assert [one.expected for one in shown] == [f"{a:g}, {b:g}" for a, b in VALUES[[worst, best]]]
    first, second = OUTPUTS[worst] * STD + MEAN
    assert shown[0].predicted == f"{first:.6g}, {second:.6g}"
    assert shown[0].is_right is None


def test_no_meta_is_enough_for_what_the_loss_costs():
    task = Regression(TaskRecipe(name="regression"))
    batch = Batch({"features": np.float32([[1]]), "values": np.float32([[3]])}, cursor=1)
    assert task.loss(Given(), batch) == torch.tensor(4.0)
