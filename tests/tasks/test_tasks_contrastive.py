import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import nn

from kleiber.data import Batch
from kleiber.runs import DataShape, TaskRecipe
from kleiber.tasks.contrastive import Contrastive
from kleiber.tasks.retrieval import Retrieval

TASK = Contrastive(TaskRecipe(name="contrastive"))
SCALE = 3.0


class Given(nn.Module):
    """Embeds an image as its first pixels and a text as the row of a table that its first token names."""

    def __init__(self, table):
        super().__init__()
        self.table = torch.tensor(table)

    def forward(self, images, tokens):
        return images[:, 0, 0], self.table[tokens[:, 0]], torch.tensor(SCALE)


def pairs(rng, num, num_captions):
    table = F.normalize(torch.from_numpy(rng.normal(size=(num_captions, 4)).astype(np.float32)), dim=1)
    caption = rng.integers(num_captions, size=num)
    images = table[caption] + 0.7 * torch.from_numpy(rng.normal(size=(num, 4)).astype(np.float32))
    images = F.normalize(images, dim=1).numpy()[:, None, None]
    tokens = np.stack([caption, np.zeros_like(caption)], 1)
    return {"images": images, "tokens": tokens}, Given(table.tolist())


def test_distinct_captions_have_clips_loss():
    rng = np.random.default_rng(0)
    _, module = pairs(rng, 1, 6)
    images = rng.normal(size=(6, 1, 1, 4)).astype(np.float32)
    arrays = {"images": images, "tokens": np.stack([np.arange(6), np.zeros(6, int)], 1)}
    images, texts, scale = module(*map(torch.from_numpy, (arrays["images"], arrays["tokens"])))
    logits = scale * images @ texts.T
    expected = (F.cross_entropy(logits, torch.arange(6)) + F.cross_entropy(logits.T, torch.arange(6))) / 2
    assert TASK.loss(module, Batch(arrays, cursor=6)).item() == pytest.approx(expected.item(), rel=1e-6)


def test_equal_captions_are_all_right_answers():
    images = np.float32([[1, 0], [0.8, 0.6], [0, 1]])
    arrays = {"images": images[:, None, None], "tokens": np.array([[0, 7], [0, 7], [1, 7]])}
    module = Given([[1.0, 0.0], [0.0, 1.0]])
    logits = SCALE * images @ np.array([[1, 0], [1, 0], [0, 1]]).T
    shares = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])

    def cross_entropy(logits):
        return -(shares * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1).mean()

    expected = (cross_entropy(logits) + cross_entropy(logits.T)) / 2
    assert TASK.loss(module, Batch(arrays, cursor=3)).item() == pytest.approx(expected, rel=1e-6)


def test_recall_is_that_of_looking_at_every_one(make_data, monkeypatch):
    monkeypatch.setattr("kleiber.tasks.retrieval._CHUNK", 64)
    arrays, module = pairs(np.random.default_rng(1), 200, 20)
    shape = DataShape(inputs="captions", channels=1, height=1, width=4, context=2, vocab_size=20)
    data = make_data(arrays, shape=shape)
    metrics = TASK.evaluate(module, data)
    table, images = module.table.numpy(), arrays["images"][:, 0, 0]
    caption = arrays["tokens"][:, 0]
    present = np.unique(caption)
    scores = images @ table[present].T
    for k in (1, 5):
        found = np.argsort(-scores, 1)[:, :k]
        to_text = np.mean([caption[i] in present[found[i]] for i in range(200)])
        found = np.argsort(-scores.T, 1)[:, :k]
        to_image = np.mean([present[c] in caption[found[c]] for c in range(len(present))])
        assert metrics.values[f"image_to_text_recall_at_{k}"].value == pytest.approx(to_text)
        assert metrics.values[f"text_to_image_recall_at_{k}"].value == pytest.approx(to_image)
        assert 0.1 < to_text < 1
    assert metrics.num_tokens == 200
    batches = [TASK.loss(module, batch).item() * len(batch) for batch in data.batches("val", 0, 128)]
    assert metrics.loss == pytest.approx(sum(batches) / 200, rel=1e-5)


def test_embeddings_that_are_all_the_same_find_nothing():
    same = np.ones((30, 4), np.float32)
    retrieval = Retrieval.of(same, same, np.arange(30)[:, None], scale=1.0)
    assert retrieval.text_ranks().tolist() == [14] * 30
    assert retrieval.image_ranks().tolist() == [14] * 30


def test_images_are_shown_with_the_text_found_for_each(make_data):
    images = np.float32([[1, 0], [0.6, 0.8], [0, 1]])
    shape = DataShape(inputs="captions", channels=1, height=1, width=2, context=2, vocab_size=9)
    arrays = {"images": images[:, None, None], "tokens": np.array([[0, 7], [0, 7], [1, 7]])}
    shown = TASK.show(Given([[1.0, 0.0], [0.0, 1.0]]), make_data(arrays, shape=shape), num=3)
    assert [(one.expected, one.predicted, one.is_right) for one in shown] == [
        ("0, 7", "1, 7", False), ("0, 7", "0, 7", True), ("1, 7", "1, 7", True),
    ]  # fmt: skip
    assert shown[0].confidence_frac == pytest.approx(1 / (1 + math.exp(SCALE * (0.6 - 0.8))), rel=1e-5)
    assert shown[0].image_png
    assert shown[0].text is None
