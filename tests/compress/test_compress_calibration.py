"""Calibration: samples of the training split, none invented, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kleiber.compress.calibration import calibration_of
from kleiber.data import TextData, open_data
from kleiber.errors import DataError, RecipeError
from kleiber.runs import AugmentRecipe, DataShape, Record, TaskRecipe
from kleiber.runs.recipe import DataRecipe


@pytest.fixture
def text(make_record: Callable[..., Record]) -> Callable[[int], TextData]:
    """Return a function that makes text of so many tokens in sequences of 128."""

    def make(num_tokens: int) -> TextData:
        meta = make_record().data.model_copy(update={"num_train_tokens": num_tokens})
        tokens, nothing = np.arange(num_tokens, dtype=np.uint16), np.zeros(0, np.uint16)
        return TextData(
            meta=meta, seed=0, train_tokens=tokens, val_tokens=nothing, val_starts=np.zeros(0, np.intp),
            val_bytes=0, tokenizer_path=Path("tokenizer.json"),
        )  # fmt: skip

    return make


def test_samples_are_those_of_the_first_epoch_of_training(text: Callable[[int], TextData]) -> None:
    data = text(128 * 100 + 1)
    calibration = calibration_of(data, 40)
    assert [len(batch) for batch in calibration.batches] == [16, 16, 8]
    assert (calibration.num_samples, calibration.source, calibration.notes) == (40, "stdlib", ())
    trained_on = next(data.batches("train", 0, 40)).tokens
    assert np.array_equal(np.concatenate([batch.tokens for batch in calibration.batches]), trained_on)


def test_a_seed_says_which_samples_and_the_hash_knows_them(text: Callable[[int], TextData]) -> None:
    data = text(128 * 100 + 1)
    one, same, other = (calibration_of(data, 8, seed) for seed in (1, 1, 2))
    assert one.hash == same.hash != other.hash
    assert len(one.hash) == 16


def test_fewer_than_asked_are_all_taken_once_and_said(text: Callable[[int], TextData]) -> None:
    calibration = calibration_of(text(128 * 5 + 1), 128, seed=4)
    assert calibration.num_samples == 5
    tokens = np.concatenate([batch.tokens for batch in calibration.batches])
    assert len({tuple(row) for row in tokens}) == 5
    assert calibration.notes == ("Calibrated on 5 samples: 'stdlib' has no more, of the 128 asked for.",)


def test_no_samples_are_refused(text: Callable[[int], TextData]) -> None:
    with pytest.raises(DataError, match="'stdlib' has no training samples to calibrate on"):
        calibration_of(text(100))
    for num, seed in ((0, 0), (1, -1)):
        with pytest.raises(RecipeError, match="1 sample or more and a seed of 0 or more"):
            calibration_of(text(500), num, seed)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (DataShape(inputs="images", channels=3), r"must be images, which the model reads; 'stdlib' holds tokens"),
        (DataShape(inputs="tokens", vocab_size=512, context=128), r"has vocab_size 1024, and the model reads at most 512"),
        (DataShape(inputs="tokens", vocab_size=1024, context=64), r"has context 128, and the model reads at most 64"),
    ],
)  # fmt: skip
def test_data_of_the_wrong_kind_are_refused(
    text: Callable[[int], TextData], shape: DataShape, message: str
) -> None:
    data = text(128 * 5 + 1)
    with pytest.raises(DataError, match=message):
        calibration_of(data, shape=shape)
    calibration_of(data, shape=data.meta.shape)


def test_images_come_without_augmentation_and_of_the_right_size() -> None:
    task = TaskRecipe(name="classification")
    augment = (AugmentRecipe(name="shift"), AugmentRecipe(name="mixup"))
    data = open_data(DataRecipe(source="digits", augment=augment), seed=0, task=task)
    (batch,) = calibration_of(data, 16).batches
    plain = open_data(DataRecipe(source="digits"), seed=0, task=task)
    expected = next(plain.batches("train", 0, 16))
    assert np.array_equal(batch.arrays["images"], expected.arrays["images"])
    assert np.array_equal(batch.arrays["labels"], expected.arrays["labels"])
    wide = data.meta.shape.model_copy(update={"width": 16})
    with pytest.raises(DataError, match=r"'digits' must have width 16, as the model reads. Got 8"):
        calibration_of(data, shape=wide)
