"""Benchmarks and evaluations of models that read two things: translations, and images with texts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benching import brief

from kleiber.errors import UsageError
from kleiber.infer.bench import bench
from kleiber.infer.bench.evaluation import evaluate
from kleiber.infer.bench.model import open_benched
from kleiber.infer.bench.opening import _Matched

BRIEF = ("train.num_steps=2", "train.batch_size=4", "model.depth=1", "model.width=16")


@pytest.fixture(scope="module")
def translation(train_once, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    rows = [f"the {one} low {two}\twol {two} {one}\n" for one in "abcdefgh" for two in "klmnopqr"]
    path.write_text("forth\tback\n" + "".join(rows))
    return train_once(
        *BRIEF, "task.name=seq2seq", f"data.source=pairs:{path}", "data.vocab_size=270", "data.context=12", "data.val_frac=0.2",
        "model.family=seq2seq",
    )  # fmt: skip


@pytest.fixture(scope="module")
def towers(train_once) -> Path:
    return train_once(
        *BRIEF, "task.name=contrastive", "data.source=digits", "model.family=dual", "model.patch_size=4"
    )


def test_a_translation_is_benchmarked_by_how_likely_it_finds_the_answers(translation) -> None:
    result = bench([translation], brief(engines=("torch", "onnxruntime"), quality_samples=8))
    assert [(row.engine, row.passes) for row in result.rows] == [("torch", True), ("onnxruntime", True)]
    assert {call.kind for row in result.rows for call in row.calls} == {"forward"}
    assert result.rows[1].quality[0].name == "perplexity"


def test_two_towers_are_benchmarked_in_torch_and_other_engines_are_told(towers) -> None:
    result = bench([towers], brief(engines=("torch", "onnxruntime"), quality_samples=8))
    (row,) = result.rows
    assert (row.engine, row.passes) == ("torch", True)
    assert [call.batch for call in row.calls] == [1, 2]
    (other,) = result.left_out
    assert other.reason == "the engine onnxruntime answers with one tensor; two towers return three."


def test_what_is_timed_of_two_towers_is_how_well_they_match(towers) -> None:
    model = open_benched(towers, name="towers")
    images, tokens = (torch.from_numpy(one[:3]) for one in model.inputs)
    with torch.no_grad():
        images_BE, texts_BE, scale = model.module(images, tokens)
        matched = _Matched(model.module)(images, tokens)
    assert matched.shape == (3, 3)
    torch.testing.assert_close(matched[1, 2], scale * (images_BE[1] * texts_BE[2]).sum())


@pytest.mark.parametrize(
    ("name", "measure", "reason"),
    [
        (
            "translation",
            "bleu",
            "the task seq2seq is measured in torch alone: its measures are of texts that are",
        ),
        (
            "towers",
            "image_to_text_recall_at_1",
            "the task contrastive is measured in torch alone: the two towers",
        ),
    ],
)
def test_measures_of_pairs_are_torchs(request, name, measure, reason) -> None:
    run = request.getfixturevalue(name)
    found = evaluate(run, engine="auto")
    assert (found.engine, found.computes_in) == ("torch", "fp32")
    assert measure in found.metrics
    with pytest.raises(UsageError, match=reason):
        evaluate(run, engine="onnxruntime")
