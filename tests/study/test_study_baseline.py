"""Baselines through the run's own task: known answers on data whose structure is known, and beside a run."""

from __future__ import annotations

import numpy as np
import pytest

from kleiber.errors import DataError, MissingExtraError
from kleiber.runs import Recipe
from kleiber.study.baseline import estimators, run_baseline


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))


def metrics(found, method=0, split="val"):
    return {name: one.value for name, one in getattr(found.results[method], f"{split}_metrics").items()}


def samples(source, task="classification", *more):
    return Recipe().with_values([f"task.name={task}", f"data.source={source}", "data.val_frac=0.2", *more])


def test_digits_are_nearly_linear():
    said = []
    found = run_baseline(samples("digits"), said.append)
    assert [one.method for one in found.results] == ["linear model", "gradient-boosted trees"]
    assert metrics(found)["accuracy"] > 0.93
    assert metrics(found, 1)["accuracy"] > 0.9
    assert "linear model" in said


def test_a_test_split_is_measured_too():
    found = run_baseline(
        samples("breast_cancer", "classification", "data.test_frac=0.2", "task.loss=binary_cross_entropy")
    )
    assert metrics(found, 0, "test")["auc"] > 0.97


def test_a_line_is_found_by_a_linear_model(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    rows = [f"{a},{b},{100 + 20 * a - 10 * b}" for a, b in x]
    path = tmp_path / "line.csv"
    path.write_text("a,b,y\n" + "\n".join(rows))
    found = run_baseline(samples(f"csv:{path}", "regression", "data.target=y"))
    assert metrics(found)["r2"] > 0.999
    assert metrics(found, 1)["r2"] < metrics(found)["r2"]


def test_a_large_table_is_learnt_in_part_and_said(monkeypatch):
    monkeypatch.setitem(estimators._MAX_CELLS, "linear", 64 * 300 + 63)
    monkeypatch.setitem(estimators._MAX_CELLS, "boosting", 64 * 100)
    gathered = []
    whole = estimators.epoch
    monkeypatch.setattr(
        estimators, "epoch", lambda data: (gathered.append(len(batch)) or batch for batch in whole(data))
    )
    found = run_baseline(samples("digits"))
    assert [one.notes[0] for one in found.results] == [
        "It learnt from 300 of 1,438 samples.",
        "It learnt from 100 of 1,438 samples.",
    ]
    assert gathered == [1024, 1024], "no more is read than is learnt from"


def test_words_tell_texts_apart(tmp_path):
    rng = np.random.default_rng(0)
    words = {"good": ["fine", "lovely", "warm"], "bad": ["dull", "cold", "noisy"]}
    rows = []
    for _ in range(200):
        label = ["good", "bad"][rng.integers(2)]
        text = " ".join([*rng.choice(["the", "room", "was", "and", "very"], 5), rng.choice(words[label])])
        rows.append(f"{text}\t{label}")
    path = tmp_path / "texts.tsv"
    path.write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    found = run_baseline(
        samples(
            f"csv:{path}",
            "classification",
            "data.field=text",
            "data.target=label",
            "data.vocab_size=262",
            "data.context=32",
        )
    )
    assert [one.method for one in found.results] == ["linear model"]
    assert metrics(found)["accuracy"] > 0.95


def test_a_pair_seen_in_training_is_looked_up(tmp_path):
    words = ["red", "blue", "green", "small", "large", "house", "dog", "car", "tree", "boat"]
    pairs = [
        (f"a {a} {b} is here", f"ein {b[::-1]} {a[::-1]} ist hier") for a in words for b in words if a != b
    ]
    path = tmp_path / "pairs.tsv"
    rows = [
        f"{split}\t{a}\t{b}"
        for split in ("train", "valid")
        for a, b in (pairs if split == "train" else pairs[:20])
    ]
    path.write_text("split\ta\tb\n" + "\n".join(rows) + "\n")
    found = run_baseline(
        samples(
            f"pairs:{path}", "seq2seq", "data.field=a", "data.target=b", "data.split_field=split", "data.vocab_size=270",
            "data.context=48",
        )
    )  # fmt: skip
    assert metrics(found)["bleu"] > 95
    assert "perplexity" not in metrics(found)


def test_pixels_call_for_the_words_of_their_class():
    found = run_baseline(samples("digits", "contrastive"))
    # Ten captions that differ in a digit: one in ten by chance.
    assert metrics(found)["image_to_text_recall_at_1"] > 0.7


def test_text_is_measured_as_its_runs_are(small_text):
    recipe = Recipe().with_values(
        [
            f"data.source=text:{small_text}",
            "data.vocab_size=300",
            "data.context=32",
            "data.val_frac=0.2",
            "data.val_tokens=1024",
        ]
    )
    found = metrics(run_baseline(recipe))
    assert 1 < found["bits_per_byte"] < 8
    assert found["perplexity"] < 300


def test_one_class_is_refused_in_a_sentence():
    with pytest.raises(
        DataError, match="needs training samples of two classes, and the 1 that are kept of 'digits'"
    ):
        run_baseline(samples("digits", "classification", "data.max_samples=1"))


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"A classical baseline needs the package 'scikit-learn'"):
        run_baseline(samples("digits"))
