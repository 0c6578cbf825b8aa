import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import nn

from kleiber.data import Batch, open_data
from kleiber.runs import DataRecipe, TaskRecipe
from kleiber.tasks import LanguageModelling, task_of


class Uniform(nn.Module):
    """Knows nothing: every token is equally likely."""

    def __init__(self, vocab_size):
        super().__init__()
        self.vocab_size = vocab_size

    def forward(self, tokens):
        return torch.zeros(*tokens.shape, self.vocab_size)


class Table(nn.Module):
    """A bigram model with random logits: another loss for every token."""

    def __init__(self, vocab_size):
        super().__init__()
        torch.manual_seed(0)
        self.logits = nn.Parameter(torch.randn(vocab_size, vocab_size))

    def forward(self, tokens):
        return self.logits[tokens]


@pytest.fixture
def data(small_text, cache):
    recipe = DataRecipe(
        source=f"text:{small_text}", vocab_size=300, context=32, val_frac=0.2, val_tokens=1024
    )
    return open_data(recipe, seed=0, cache=cache)


def test_the_loss_of_ignorance_is_log_vocabulary(data):
    metrics = LanguageModelling().evaluate(Uniform(300), data)
    assert metrics.loss == pytest.approx(math.log(300), rel=1e-6)
    assert metrics.loss_half_width == pytest.approx(0.0, abs=1e-6)
    assert metrics.values["bits_per_byte"].value == pytest.approx(
        math.log2(300) / data.meta.val_bytes_per_token, rel=1e-6
    )
    assert metrics.num_tokens == data.meta.num_val_tokens


def test_loss_by_hand():
    tokens = np.array([[0, 1, 2], [2, 0, 1]])
    table = Table(3)
    log_p = table.logits.detach().log_softmax(-1)
    expected = -(log_p[0, 1] + log_p[1, 2] + log_p[2, 0] + log_p[0, 1]) / 4
    loss = LanguageModelling().loss(table, Batch({"tokens": tokens}, cursor=2))
    torch.testing.assert_close(loss.detach(), expected)
    loss.backward()
    assert table.logits.grad is not None


def test_the_interval_is_of_the_mean_over_sequences(data):
    table = Table(300)
    metrics = LanguageModelling().evaluate(table, data)
    means = []
    for batch in data.batches("val", 0, 1):
        tokens = torch.from_numpy(batch.tokens)
        means.append(F.cross_entropy(table(tokens[:, :-1])[0], tokens[0, 1:]).item())
    assert metrics.loss == pytest.approx(float(np.mean(means)), rel=1e-5)
    assert metrics.loss_half_width == pytest.approx(
        1.96 * np.std(means, ddof=1) / math.sqrt(len(means)), rel=1e-4
    )


def test_evaluation_leaves_the_mode_alone(data):
    for is_training in (True, False):
        module = Uniform(300).train(is_training)
        LanguageModelling().evaluate(module, data)
        assert module.training is is_training


def test_recipes_name_tasks():
    assert isinstance(task_of(TaskRecipe(name="lm")), LanguageModelling)
