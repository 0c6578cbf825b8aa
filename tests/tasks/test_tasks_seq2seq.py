import math

import numpy as np
import pytest
import torch
from torch import nn

from kleiber.data import Batch, open_data
from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.models import build
from kleiber.models.seq2seq.spec import Seq2SeqSpec
from kleiber.runs import DataRecipe, DataShape, TaskRecipe
from kleiber.tasks.seq2seq import SequenceToSequence

SOURCE = np.array([[4, 2, 0], [3, 0, 0]])
TARGET = np.array([[0, 1, 3, 2, 0], [0, 2, 0, 0, 0]])  # a start, the text, an end, padding
PAIRS = SequenceToSequence(TaskRecipe(name="seq2seq"))


class Bigrams(nn.Module):
    """Another loss for every token; writes the source."""

    def __init__(self, vocab_size=5):
        super().__init__()
        self.logits = nn.Parameter(
            torch.randn(vocab_size, vocab_size, generator=torch.Generator().manual_seed(0))
        )
        self.beam_sizes = []

    def forward(self, source, target):
        assert target[:, 0].eq(0).all()
        return self.logits[target]

    def generate(self, source, *, beam_size):
        self.beam_sizes.append(beam_size)
        return source


def losses_by_hand(smoothing=0.0):
    """Return the losses of the tokens that count: 1 3 2 end, and 2 end."""
    table = Bigrams().logits.detach().double().log_softmax(-1).numpy()
    read, asked = [[0, 1, 3, 2], [0, 2]], [[1, 3, 2, 0], [2, 0]]
    return [
        [-(1 - smoothing) * table[a, b] - smoothing * table[a].mean() for a, b in zip(r, q, strict=True)]
        for r, q in zip(read, asked, strict=True)
    ]


def test_the_loss_is_that_of_the_tokens_up_to_the_end():
    module = Bigrams()
    batch = Batch({"source": SOURCE, "target": TARGET}, cursor=2)
    loss = PAIRS.loss(module, batch)
    first, second = losses_by_hand()
    assert loss.item() == pytest.approx((sum(first) + sum(second)) / 6, rel=1e-6)
    loss.backward()
    assert module.logits.grad[4].eq(0).all()  # nothing was read after it
    smoothed = SequenceToSequence(TaskRecipe(name="seq2seq", label_smoothing=0.2)).loss(module, batch)
    first, second = losses_by_hand(0.2)
    assert smoothed.item() == pytest.approx((sum(first) + sum(second)) / 6, rel=1e-6)


def test_evaluation_by_hand(make_data):
    data = make_data({"source": SOURCE, "target": TARGET})
    metrics = SequenceToSequence(TaskRecipe(name="seq2seq", label_smoothing=0.2), data.meta).evaluate(
        Bigrams(), data
    )
    first, second = losses_by_hand()
    mean = (sum(first) + sum(second)) / 6
    assert metrics.loss == pytest.approx(mean, rel=1e-6)
    assert metrics.num_tokens == 2
    assert list(metrics.values) == ["perplexity"]  # no words without a tokenizer
    assert metrics.values["perplexity"].value == pytest.approx(math.exp(mean), rel=1e-6)
    squares = (sum(first) - 4 * mean) ** 2 + (sum(second) - 2 * mean) ** 2
    assert metrics.loss_half_width == pytest.approx(1.96 * math.sqrt(2 * squares) / 6, rel=1e-4)


@pytest.fixture
def words(tmp_path, make_data):
    """Return data of texts that are to be copied, half of them with other endings."""
    said = [
        f"the {animal} sat on the {place}" for animal in ("cat", "dog", "cow") for place in ("mat", "hat")
    ]
    meant = [text.replace("hat", "roof") for text in said]
    tokenizer = train_tokenizer([" ".join([*said, *meant])], 270, source="test")
    TextTokenizer(tokenizer).write(tmp_path, context=64)

    def rows(texts, start):
        ids = [[0] * start + tokenizer.encode(text).ids + [0] for text in texts]
        return np.array([row + [0] * (64 - len(row)) for row in ids])

    arrays = {"source": rows(said, 0), "target": rows(meant, 1)}
    return make_data(
        arrays, has_test=True, tokenizer_path=tmp_path / "tokenizer.json",
        shape=DataShape(inputs="pairs", vocab_size=270, context=64),
    )  # fmt: skip


def test_words_are_compared(words):
    task = SequenceToSequence(TaskRecipe(name="seq2seq", beam_size=3), words.meta)
    module = Bigrams(270)
    metrics = task.evaluate(module, words)
    assert list(metrics.values) == ["bleu", "perplexity"]
    assert 60 < metrics.values["bleu"].value < 100
    assert module.beam_sizes == [3]
    shown = task.show(module, words, num=2)
    assert [(one.text, one.expected, one.predicted) for one in shown] == [
        ("the cat sat on the mat",) * 3,
        ("the cat sat on the hat", "the cat sat on the roof", "the cat sat on the hat"),
    ]
    assert shown[0].is_right is None


def test_a_validation_writes_no_more_than_it_must(words, monkeypatch):
    monkeypatch.setattr("kleiber.tasks.seq2seq.VAL_DECODED", 2)
    sizes = []

    class Counting(Bigrams):
        def generate(self, source, *, beam_size):
            sizes.append(len(source))
            return source

    task = SequenceToSequence(TaskRecipe(name="seq2seq"), words.meta)
    task.evaluate(Counting(270), words, "val")
    task.evaluate(Counting(270), words, "test")
    assert sizes == [2, 6]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_our_own_family_writes_by_our_own_search(words, beam_size):
    spec = Seq2SeqSpec.of_size({"depth": 1, "width": 16}, words.meta.shape)
    metrics = SequenceToSequence(TaskRecipe(name="seq2seq", beam_size=beam_size), words.meta).evaluate(
        build(spec), words
    )
    assert metrics.loss == pytest.approx(math.log(270), rel=0.2)
    assert 0 <= metrics.values["bleu"].value < 5


def test_a_translation_is_held_to_the_whole_target(tmp_path, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))
    words = ["red", "blue", "green", "small", "large", "house", "dog", "car", "tree", "boat"]
    rows = [f"{a} {b}\t{a} and {b} and {a} and {b}" for a in words for b in words if a != b]
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tb\n" + "\n".join(rows) + "\n")
    recipe = DataRecipe(
        source=f"pairs:{path}", field="a", target="b", vocab_size=262, context=16, val_frac=0.2
    )
    task = TaskRecipe(name="seq2seq")
    data = open_data(recipe, seed=0, task=task)

    class Silent(Bigrams):
        def generate(self, source_BS, *, beam_size):
            return torch.zeros(len(source_BS), 1, dtype=torch.int64)

    shown = SequenceToSequence(task, data.meta).show(Silent(262), data, 5)
    assert all(f"{one.text}\t{one.expected}" in rows for one in shown)
    (batch,) = data.batches("val", 0, 100)
    assert (batch.arrays["target"][:, -1] != 0).any()  # what is learnt from is cut
