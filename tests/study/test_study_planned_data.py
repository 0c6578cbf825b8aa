from __future__ import annotations

import pytest

from kleiber.errors import DataError, RecipeError, UsageError
from kleiber.runs import DataShape
from kleiber.study.job import Job
from kleiber.study.place import here, place_of
from kleiber.study.planned_data import as_typed, of_data, size_recipe
from kleiber.study.planned_model import Asked, open_planned

HERE = here(None, num_threads=1)
IMAGES = DataShape(inputs="images", channels=1, height=28, width=28, num_outputs=10)
CAPTIONS = DataShape(inputs="captions", vocab_size=60, context=8, channels=3, height=16, width=16)
DIGITS = """
model: {family: mlp, depth: 2, width: 16}
task: {name: classification}
data: {source: digits}
train: {num_steps: 50, batch_size: 16}
"""


@pytest.mark.parametrize(
    ("text", "example", "shape"),
    [
        ("3x32x16", IMAGES, DataShape(inputs="images", channels=3, height=32, width=16, num_outputs=10)),
        ("30", IMAGES, DataShape(inputs="features", num_features=30, num_outputs=10)),
        ("24x2", IMAGES, DataShape(inputs="series", context=24, num_features=2, num_outputs=10)),
        ("1x8x8", CAPTIONS, CAPTIONS.model_copy(update={"channels": 1, "height": 8, "width": 8})),
    ],
)
def test_a_sample_is_typed(text, example, shape):
    assert as_typed([text], example) == shape
    assert as_typed([], example) == example


@pytest.mark.parametrize(
    ("inputs", "example", "sentence"),
    [
        (["8x3x32x32"], IMAGES, "--input of a family is one sample, without the batch. Got '8x3x32x32'"),
        (["3x4x4", "5"], IMAGES, "A family takes one --input. Got '3x4x4 5'"),
        (["3xa"], IMAGES, "--input must be whole numbers"),
        (["8"], DataShape(inputs="tokens", vocab_size=9, context=8), "--input is not for text. Got '8'"),
    ],
)
def test_what_is_no_sample(inputs, example, sentence):
    with pytest.raises(RecipeError, match=sentence):
        as_typed(inputs, example)


@pytest.mark.parametrize(
    ("size", "task"),
    [
        ("gpt:depth=2", "lm"),
        ("rnn:depth=1", "lm"),
        ("resnet:depth=20", "classification"),
        ("encoder:depth=1", "classification"),
        ("seq2seq:depth=1", "seq2seq"),
        ("dual:depth=1", "contrastive"),
    ],
)
def test_a_size_is_planned_for_what_its_family_is_for(size, task):
    assert size_recipe(size).task.name == task
    assert size_recipe("mlp:depth=1", ["24x2"]).task.name == "regression"


def test_sizes_of_data_are_typed_beside_a_size():
    asked = Asked("mlp:depth=2", inputs=("3x8x8",), sets=("data.shape.num_outputs=7", "train.batch_size=5"))
    planned = open_planned(asked, HERE, Job())
    assert planned.model.spec.shape == DataShape(
        inputs="images", channels=3, height=8, width=8, num_outputs=7
    )
    assert planned.usage.batch_size == 5
    texts = open_planned(Asked("encoder:depth=1", context=32, vocab_size=99), HERE, Job()).model.spec
    assert (texts.shape.context, texts.shape.vocab_size, texts.shape.num_outputs) == (32, 99, 2)
    with pytest.raises(UsageError, match=r"--context is for text, and mlp:depth=2 reads images\. Got 32"):
        open_planned(Asked("mlp:depth=2", context=32), HERE, Job())


def test_an_accelerator_gets_a_batch_of_samples():
    planned = open_planned(Asked("mlp:depth=2"), place_of("h100-sxm", num_devices=4), Job())
    assert planned.usage.batch_size == 4 * 256


def test_a_recipe_is_planned_on_what_its_data_says(tmp_path, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path))
    (tmp_path / "digits.yaml").write_text(DIGITS)
    planned = open_planned(Asked(str(tmp_path / "digits.yaml")), HERE, Job())
    assert planned.model.spec.shape == DataShape(
        inputs="images", channels=1, height=8, width=8, num_outputs=10
    )
    assert (planned.job, planned.usage.batch_size) == (Job(steps=50), 16)
    text = DIGITS.replace("num_steps: 50", "is_full_batch: true, stop: {epochs: 3}")
    (tmp_path / "whole.yaml").write_text(text)
    whole = open_planned(Asked(str(tmp_path / "whole.yaml")), HERE, Job())
    assert whole.job == Job(steps=3)
    assert whole.usage.batch_size > 1000


def test_a_recipe_without_its_data_is_planned_on_what_is_typed(tmp_path):
    text = DIGITS.replace("digits", "imagefolder:/nowhere/at/all")
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(DataError, match="/nowhere/at/all") as caught:
        open_planned(Asked(str(tmp_path / "recipe.yaml")), HERE, Job())
    assert (caught.value.hint or "").endswith("--input 3x32x32, which plans without the data")
    planned = open_planned(Asked(str(tmp_path / "recipe.yaml"), inputs=("3x8x8",)), HERE, Job())
    assert planned.model.spec.shape.num_inputs == 192
    assert planned.job == Job(steps=50)


def test_text_that_is_modelled_is_not_opened(monkeypatch):
    recipe = size_recipe("gpt:depth=2")
    monkeypatch.setattr("kleiber.data.open_data", lambda *_, **__: pytest.fail("opened"))
    assert of_data(recipe) is recipe
