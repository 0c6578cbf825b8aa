from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer

from kleiber.data.sample_data import open_samples
from kleiber.errors import DataError
from kleiber.runs import DataRecipe, TaskRecipe

CONTRAST = TaskRecipe(name="contrastive")


def test_every_image_has_the_caption_of_its_class(tmp_path):
    data = open_samples(DataRecipe(source="digits"), CONTRAST, seed=0, cache=tmp_path)
    batch = next(data.batches("train", 0, 32)).arrays
    assert batch["images"].shape == (32, 1, 8, 8)
    tokenizer = Tokenizer.from_file(str(data.tokenizer_path))
    texts = tokenizer.decode_batch(batch["tokens"].tolist())
    assert texts == [f"a photo of {'a'} {label}." for label in batch["labels"]]
    shape = data.meta.shape
    assert (shape.inputs, shape.vocab_size, shape.context, shape.num_outputs) == ("captions", 257, 15, None)
    assert sum(data.meta.class_counts) == data.meta.num_train_tokens
    assert (
        "Captions are made of the names of classes: 'a photo of a 0.'; their tokens are bytes."
        in data.meta.notes
    )


def test_shorter_captions_are_padded(tmp_path):
    labels = np.arange(20) % 2
    np.savez(
        tmp_path / "x.npz",
        x_train=np.zeros((20, 4, 4), np.uint8),
        y_train=labels,
        classes=np.array(["ox", "horse"]),
    )
    data = open_samples(DataRecipe(source=f"npz:{tmp_path / 'x.npz'}"), CONTRAST, seed=0, cache=tmp_path)
    batch = next(data.batches("train", 0, 18)).arrays
    lengths = (batch["tokens"] != 0).sum(1)
    assert set(zip(batch["labels"].tolist(), lengths.tolist(), strict=True)) == {
        (0, len("a photo of an ox.")),
        (1, len("a photo of a horse.")),
    }
    assert (np.sort(batch["tokens"] == 0, 1) == (batch["tokens"] == 0)).all()  # at the end


def test_tables_have_no_captions(tmp_path):
    with pytest.raises(
        DataError, match="'wine' does not suit the task contrastive: it has no images with captions"
    ):
        open_samples(DataRecipe(source="wine"), CONTRAST, seed=0, cache=tmp_path)
