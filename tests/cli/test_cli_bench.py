"""`kleiber bench` and `kleiber eval` as they are typed."""

from __future__ import annotations

import csv
import json

import pytest

from kleiber.errors import UsageError


@pytest.fixture(scope="module")
def digits(train_once):
    return train_once(
        "model.family=mlp", "model.depth=1", "model.width=16", "task.name=classification", "data.source=digits",
        "train.batch_size=64", "train.num_steps=30", "data.test_frac=0.2",
    )  # fmt: skip


def test_a_benchmark_as_it_is_typed_and_two_side_by_side(cli, digits, tmp_path):
    typed = [
        "bench", digits, "--engine", "torch", "--precision", "fp32,int8", "-b", "1,4", "--rounds", "2", "--samples", "40",
        "--no-memory", "--threads", "1",
    ]  # fmt: skip
    ran = cli(*typed, "--csv", "b.csv", "--markdown", "b.md", "--chart", "b.svg", "--json")
    assert ran.code == 0, ran.stderr
    found = ran.document
    assert found == json.loads((tmp_path / "bench.json").read_text())
    assert [(row["engine"], row["precision"]) for row in found["rows"]] == [
        ("torch", "fp32"),
        ("torch", "int8"),
    ]
    assert found["rows"][0]["passes"] is True
    assert found["rows"][0]["quality"][0]["name"] == "accuracy"
    lines = list(csv.DictReader((tmp_path / "b.csv").read_text().splitlines()))
    assert [(one["precision"], one["batch"]) for one in lines] == [
        ("fp32", "1"), ("fp32", "4"), ("int8", "1"), ("int8", "4"),
    ]  # fmt: skip
    assert float(lines[0]["p50_s"]) == found["rows"][0]["calls"][0]["p50_s"]["value"]
    markdown = (tmp_path / "b.md").read_text()
    assert "| torch fp32 | 1 |" in markdown
    assert "Gains are over" in markdown
    assert "lost" in ran.stderr
    assert "fastest" in ran.stderr
    assert (tmp_path / "b.svg").is_file()

    side = cli("bench", "--compare", "bench.json", "bench.json", "--json")
    assert side.code == 0, side.stderr
    assert [one["ratio"]["value"] for one in side.document["calls"]] == [1.0] * 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "a benchmark needs a model, or --compare two documents."),
        (("x", "-b", "0"), "-b must be a whole number from 1 to"),
        (("x", "-b", "1,,2"), "-b takes words with commas between them, each once. Got '1,,2'."),
        (("x", "--engine", "torch,torch"), "--engine takes words with commas between them, each once."),
        (("x", "--rounds", "1"), "--rounds must be a whole number from 2 to"),
        (("x", "--max-quality-loss", "1"), "--max-quality-loss is a percentage above 0% and below 100%. Got '1'."),
        (("x", "--chart", "a.pdf"), "the ending of --chart must be one of .html, .svg, .png. Got '.pdf'."),
        (("x",), "x is neither a run nor a folder with a config.json."),
        (("x", "--compare", "a", "b"), "--compare measures nothing: it takes two documents and no runs. Got 'x'."),
        (("--compare", "a.json", "b.json"), "a.json cannot be read as a benchresult: No such file or directory."),
    ],
)  # fmt: skip
def test_what_cannot_be_benchmarked_is_refused(cli, arguments, says):
    ran = cli("bench", *arguments)
    assert ran.code == UsageError.exit_code
    assert says in ran.stderr


def test_an_evaluation_has_the_measures_of_the_training_run(cli, digits):
    record = json.loads((digits / "record.json").read_text())["result"]
    ran = cli("eval", digits, "--json")
    assert ran.code == 0, ran.stderr
    assert ran.document["loss"]["value"] == pytest.approx(record["val_loss"], rel=1e-6)
    assert ran.document["metrics"]["accuracy"] == pytest.approx(record["val_metrics"]["accuracy"])
    tested = cli("eval", digits, "--split", "test", "--engine", "onnxruntime", "--json")
    assert tested.document["metrics"]["accuracy"] == pytest.approx(record["test_metrics"]["accuracy"])
    assert "onnxruntime computes in fp32" in tested.stderr


def test_what_cannot_be_evaluated_is_refused(cli, digits):
    for arguments, says in (
        (("--precision", "int5"), "--precision must be one of stored, fp32, int8, int4. Got 'int5'."),
        (("--limit", "5"), "--limit is of --lm-eval; a split is measured whole."),
        (("--engine", "llamacpp"), "the engine llamacpp is for language models."),
        (("--own-tasks", "."), "--own-tasks is of --lm-eval. Got '.'."),
        (("--lm-eval", "a,,b"), "--lm-eval takes names of tasks with commas between them. Got 'a,,b'."),
    ):
        ran = cli("eval", digits, *arguments)
        assert ran.code == UsageError.exit_code
        assert says in ran.stderr
