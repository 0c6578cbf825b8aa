"""Scores of samples are what the metrics are means of."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from kleiber.runs import DataShape, TaskRecipe
from kleiber.tasks import LanguageModelling, task_of


class Says(nn.Module):
    """Returns what it is made of, whatever goes in."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = torch.as_tensor(outputs, dtype=torch.float32)

    def forward(self, *inputs):
        return self.outputs[: len(inputs[0])]


def test_classes_by_hand(make_data):
    data = make_data(
        {"features": np.zeros((3, 1), np.float32), "labels": np.array([0, 1, 1])},
        classes=("a", "b"),
        class_counts=(1, 2),
    )
    task = task_of(TaskRecipe(name="classification"), data.meta)
    module = Says([[0.0, 0.0], [0.0, math.log(3)], [math.log(3), 0.0]])
    scores, metrics = task.scores(module, data), task.evaluate(module, data)
    assert scores.losses_N == pytest.approx([math.log(2), math.log(4 / 3), math.log(4)])
    assert scores.hits_N.tolist() == [True, True, False]
    assert scores.loss == pytest.approx(metrics.loss)
    assert scores.hits_N.mean() == pytest.approx(metrics.values["accuracy"].value)


def test_values_by_hand(make_data):
    data = make_data(
        {"features": np.zeros((2, 1), np.float32), "values": np.array([[1.0, 3.0], [5.0, 1.0]], np.float32)},
        target_mean=(1.0, 1.0), target_std=(2.0, 2.0),
    )  # fmt: skip
    task = task_of(TaskRecipe(name="regression"), data.meta)
    module = Says([[0.0, 0.0], [0.0, 0.0]])
    scores = task.scores(module, data)
    assert scores.losses_N == pytest.approx([0.5, 2.0])
    assert scores.hits_N is None
    assert scores.loss == pytest.approx(task.evaluate(module, data).loss)


def test_targets_weigh_by_their_tokens(make_data):
    target = np.array([[2, 3, 0, 0], [2, 3, 3, 0]])
    data = make_data({"source": np.ones((2, 2), np.int64), "target": target})
    task = task_of(TaskRecipe(name="seq2seq"))
    module = Says(torch.zeros(2, 3, 4))
    scores, metrics = task.scores(module, data), task.evaluate(module, data)
    assert scores.losses_N == pytest.approx([math.log(4)] * 2)
    assert scores.weights_N.tolist() == [2, 3]
    assert scores.loss == pytest.approx(metrics.loss)


def test_sequences_of_text(make_data):
    data = make_data(
        {"tokens": np.array([[0, 1], [1, 0]])}, shape=DataShape(inputs="tokens", vocab_size=2, context=1)
    )
    module = Says([[[0.0, math.log(3)]], [[0.0, 0.0]]])
    module.train()
    scores = LanguageModelling().scores(module, data)
    assert scores.losses_N == pytest.approx([math.log(4 / 3), math.log(2)])
    assert scores.loss == pytest.approx(LanguageModelling().evaluate(module, data).loss)
    assert module.training
