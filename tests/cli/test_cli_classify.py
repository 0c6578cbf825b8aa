"""`kleiber classify`: files and streams, for people and for programs."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from kleiber.infer.classification import open_classifier

SMALL = (
    "task.name=classification",
    "train.num_steps=2",
    "train.batch_size=4",
    "model.depth=1",
    "model.width=8",
)


@pytest.fixture(scope="module")
def wine(train_once):
    """Return a run over rows of numbers."""
    return train_once(*SMALL, "data.source=wine", "model.family=mlp")


@pytest.fixture(scope="module")
def reviews(train_once, tmp_path_factory):
    """Return a run of a recurrent model over texts."""
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    rows = [
        f"{'a good film' if index % 2 else 'a dull plot'} {index},{'ny'[index % 2]}\n" for index in range(40)
    ]
    path.write_text("text,label\n" + "".join(rows))
    return train_once(
        *SMALL, f"data.source=csv:{path}", "data.field=text", "data.vocab_size=262", "data.context=32", "data.val_frac=0.2",
        "model.family=rnn",
    )  # fmt: skip


@pytest.fixture
def standard_input(monkeypatch):
    """Return a function that says what stands on standard input."""
    return lambda content: monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


def test_samples_of_an_array_are_rows_of_a_table_and_of_the_document(cli, wine, tmp_path):
    np.save(tmp_path / "wines.npy", np.random.default_rng(0).normal(5, 3, (3, 13)))
    ran = cli("classify", wine, tmp_path / "wines.npy", "--top", "2", "--json")
    assert (ran.code, len(ran.stdout.splitlines())) == (0, 1)
    found = ran.document
    assert (found["run"], found["engine"], found["precision"]) == (str(wine), "torch", "fp32")
    classifier = open_classifier(wine)
    arrays = [array for _, array in classifier.reader.read(tmp_path / "wines.npy")]
    for index, (said, answer) in enumerate(zip(found["answers"], classifier.answers(arrays), strict=True)):
        assert said == {"input": f"{tmp_path / 'wines.npy'} [{index}]"} | answer.document(2)
    table = cli("classify", wine, tmp_path / "wines.npy").stdout
    first = found["answers"][0]
    assert f"{first['predicted']} {first['confidence_frac']:.1%}" in table
    assert "wines.npy [2]" in table


def test_the_fastest_engine_is_found(cli, wine, tmp_path, monkeypatch):
    monkeypatch.setattr("kleiber.infer.fastest_predictor.ENGINES", ("torch", "onnxruntime"))
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))
    np.save(tmp_path / "wines.npy", np.random.default_rng(0).normal(5, 3, (2, 13)))
    ran = cli("classify", wine, tmp_path / "wines.npy", "--engine", "auto", "--json")
    assert ran.code == 0, ran.stderr
    assert "measuring the engine onnxruntime, once for models of these sizes on this machine." in ran.stderr
    assert ran.document["engine"] in ("torch", "onnxruntime")
    plain = cli("classify", wine, tmp_path / "wines.npy", "--json").document
    for one, other in zip(ran.document["answers"], plain["answers"], strict=True):
        assert one["confidence_frac"] == pytest.approx(other["confidence_frac"], abs=1e-5)


def test_a_text_on_standard_input_is_one_text(cli, reviews, standard_input):
    standard_input(b"a good film")
    (answer,) = cli("classify", reviews, "-", "--json").document["answers"]
    assert answer["input"] == "-"
    assert sum(one["prob_frac"] for one in answer["top"]) == pytest.approx(1)


def test_a_stream_is_answered_piece_by_piece(cli, reviews, standard_input, tmp_path, monkeypatch):
    monkeypatch.setattr("kleiber.infer.streaming.pieces._BYTES", 40)
    (tmp_path / "long.txt").write_text("a dull plot " * 6)
    ran = cli("classify", reviews, tmp_path / "long.txt", "--stream", "--json")
    assert ran.code == 0
    found = ran.document
    assert (found["is_exact"], found["num_answers"]) == (True, 2)
    assert [line.strip().split("  ")[0] for line in ran.stderr.splitlines() if "characters" in line] == [
        "40 characters",
        "72 characters",
    ]
    standard_input(b"a good film")
    streamed = cli("classify", reviews, "-", "--stream", "--json").document["answer"]
    standard_input(b"a good film")
    (whole,) = cli("classify", reviews, "-", "--json").document["answers"]
    assert streamed["confidence_frac"] == pytest.approx(whole["confidence_frac"], abs=1e-6)
    standard_input(b"")
    assert cli("classify", reviews, "-", "--stream", "--json").document["answer"] is None


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (
            ["x.npy", "--chunk-ms", "50"],
            "--chunk-ms has no effect without --stream.\n  try: kleiber classify",
        ),
        (["x.npy", "--top", "0"], "--top must be a whole number from 1 to"),
        (
            ["x.npy", "--engine", "tensorrt"],
            "--engine must be one of torch, compiled, onnxruntime, openvino, auto. Got 'tensorrt'",
        ),
        (["none.npy"], "'none.npy' is no file."),
        (["a.npy", "b.npy", "--stream"], "--stream reads one file, or standard input."),
        (["-"], "classifies features, and standard input is read as text."),
        (["a.npy", "--stream"], "classifies features, which do not arrive in pieces."),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_line_that_works(cli, wine, more, text):
    ran = cli("classify", wine, *more)
    assert (ran.code, ran.stdout) == (2, "")
    assert text in ran.stderr
    assert "\n  try: kleiber classify" in ran.stderr
