from __future__ import annotations

import io
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from kleiber.data.images import decode_image
from kleiber.data.sample_data import open_samples
from kleiber.errors import DataError, MissingExtraError
from kleiber.runs import DataRecipe, TaskRecipe

CLASSIFY = TaskRecipe(name="classification")


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def picture(seed: int, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def pets(tmp_path):
    """Two classes of 5 images, 6 x 4 pixels."""
    root = tmp_path / "pets"
    for number, name in enumerate(("cat", "dog")):
        (root / name / "deeper").mkdir(parents=True)
        for index in range(5):
            folder = root / name / ("deeper" if index == 4 else "")
            picture(10 * number + index).save(folder / f"{index}.png")
        (root / name / ".hidden.png").write_bytes(b"no image")
        (root / name / "notes.txt").write_text("no image")
    return root


def open_folder(root, cache, **options):
    return open_samples(
        DataRecipe(source=f"imagefolder:{root}", val_frac=0.2, **options), CLASSIFY, seed=0, cache=cache
    )


def pixels_of(data, split="val"):
    (batch,) = data.batches(split, 0, 100)
    return data.normalizations["images"].undo(batch.arrays["images"]), batch.arrays["labels"]


def test_pixels_are_those_of_the_files(pets, tmp_path):
    data = open_folder(pets, tmp_path / "cache")
    assert data.meta.classes == ("cat", "dog")
    assert data.meta.class_counts == (4, 4)
    assert (data.meta.shape.channels, data.meta.shape.height, data.meta.shape.width) == (3, 4, 6)
    images, labels = pixels_of(data)
    known = {
        name: [
            np.asarray(Image.open(path)).transpose(2, 0, 1)
            for path in sorted((pets / name).rglob("[0-9].png"))
        ]
        for name in ("cat", "dog")
    }
    for image, label in zip(images.round(), labels, strict=True):
        assert any((image == each).all() for each in known[("cat", "dog")[label]])


def test_a_second_opening_decodes_nothing(pets, tmp_path, monkeypatch):
    first = open_folder(pets, tmp_path / "cache")
    monkeypatch.setattr("kleiber.data.image_folder.prepare_images", None)
    second = open_folder(pets, tmp_path / "cache")
    assert first.meta == second.meta
    picture(99).save(pets / "cat" / "0.png")
    with pytest.raises(TypeError, match="not callable"):  # a changed file is decoded anew
        open_folder(pets, tmp_path / "cache")


def test_folders_may_say_what_is_held_out(pets, tmp_path):
    for split, num in (("valid", 1), ("test", 2)):
        for name in ("cat", "dog"):
            (tmp_path / "split" / split / name).mkdir(parents=True)
            for index in range(num):
                picture(50 + index).save(tmp_path / "split" / split / name / f"{index}.jpg")
    pets.rename(tmp_path / "split" / "train")
    data = open_folder(tmp_path / "split", tmp_path / "cache")
    assert (data.meta.num_train_tokens, data.meta.num_val_tokens, data.meta.num_test_tokens) == (10, 2, 4)


def test_images_are_resized_on_request(pets, tmp_path):
    data = open_folder(pets, tmp_path / "cache", image_size=3, normalization="none")
    (batch,) = data.batches("val", 0, 100)
    assert batch.arrays["images"].shape == (2, 3, 3, 3)
    expected = [
        np.asarray(Image.open(path).resize((3, 3), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        for path in sorted(pets.rglob("[0-9].png"))
    ]
    assert all(any((image == each).all() for each in expected) for image in batch.arrays["images"])
    assert "Images were resized to 3 x 3 pixels." in data.meta.notes


def test_grey_images_stay_grey_unless_others_are_in_colour(pets, tmp_path):
    for path in pets.rglob("[0-9].png"):
        Image.open(path).convert("L").save(path)
    assert open_folder(pets, tmp_path / "cache").meta.shape.channels == 1
    picture(0, mode="RGBA").save(pets / "cat" / "0.png")
    meta = open_folder(pets, tmp_path / "cache").meta
    assert meta.shape.channels == 3
    assert meta.notes == (
        "9 grey images of 10 became RGB, as the others are in colour.",
        "The transparency of 1 image was dropped.",
    )


def test_an_image_that_does_not_decode_is_named_counted_and_skipped_on_request(pets, tmp_path):
    whole = (pets / "dog" / "1.png").read_bytes()
    (pets / "dog" / "1.png").write_bytes(whole[: len(whole) // 2])
    (pets / "dog" / "2.png").write_text("no image")
    with pytest.raises(
        DataError, match=r"2 images of 10 cannot be decoded; the first is dog/1\.png: "
    ) as caught:
        open_folder(pets, tmp_path / "cache")
    assert caught.value.hint == "--set data.skips_bad_samples=true"
    data = open_folder(pets, tmp_path / "cache", skips_bad_samples=True)
    assert data.meta.num_bad_samples == 2
    assert data.meta.num_train_tokens + data.meta.num_val_tokens == 8
    assert data.parts["val"].labels.tolist() == [0, 1]
    with pytest.raises(DataError, match="2 images of 10 cannot be decoded"):
        open_folder(pets, tmp_path / "cache")


def test_splits_of_folders_keep_their_samples_when_others_are_skipped(pets, tmp_path):
    root = tmp_path / "split"
    for split in ("train", "test"):
        shutil.copytree(pets, root / split)
    (root / "train" / "cat" / "0.png").write_text("no image")
    data = open_folder(root, tmp_path / "cache", skips_bad_samples=True)
    assert (data.meta.num_train_tokens + data.meta.num_val_tokens, data.meta.num_test_tokens) == (9, 10)
    assert data.parts["test"].labels.tolist() == [0] * 5 + [1] * 5


def test_not_all_images_can_be_skipped(pets, tmp_path):
    for path in pets.rglob("[0-9].png"):
        path.write_text("no image")
    with pytest.raises(DataError, match="10 images of 10 cannot be decoded"):
        open_folder(pets, tmp_path / "cache", skips_bad_samples=True)


def test_images_of_several_sizes_are_refused(pets, tmp_path):
    picture(0, size=(5, 5)).save(pets / "dog" / "3.png")
    with pytest.raises(DataError, match=r"one size; cat/0\.png is 6 x 4 pixels and dog/3\.png is 5 x 5"):
        open_folder(pets, tmp_path / "cache")


def test_a_class_with_a_single_image_is_refused(pets, tmp_path):
    (pets / "fox").mkdir()
    picture(0).save(pets / "fox" / "0.png")
    with pytest.raises(DataError, match=r"1 class with a single sample, which cannot be .*: fox"):
        open_folder(pets, tmp_path / "cache")


def test_folders_that_are_none_of_classes_are_refused(pets, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match="there is no such folder"):
        open_folder(tmp_path / "nowhere", cache)
    with pytest.raises(DataError, match="images must stand in a folder for each class"):
        open_folder(pets / "cat" / "deeper", cache)
    (pets / "fox").mkdir()
    with pytest.raises(DataError, match="1 folder of the train split without a single image: fox"):
        open_folder(pets, cache)
    (pets / "fox").rmdir()
    root = tmp_path / "split"
    root.mkdir()
    pets.rename(root / "train")
    (root / "val" / "fox").mkdir(parents=True)
    with pytest.raises(DataError, match="the val split has 1 class that train has not: fox"):
        open_folder(root, cache)
    (root / "valid").mkdir()
    with pytest.raises(DataError, match="val and valid both say that they are the val split"):
        open_folder(root, cache)
    (root / "valid").rmdir()
    (root / "extra").mkdir()
    with pytest.raises(DataError, match="beside train stand folders that are no splits: extra"):
        open_folder(root, cache)


def test_pixels_of_other_depths_are_refused():
    with pytest.raises(DataError, match=r"of the mode I;16, not of 8 bits a channel"):
        decode_image(encoded(Image.fromarray(np.zeros((2, 2), np.uint16))))


def test_what_has_no_effect_is_refused(pets, tmp_path):
    with pytest.raises(DataError, match=r"data\.target has no effect on 'imagefolder:.*Got 'label'"):
        open_folder(pets, tmp_path / "cache", target="label")


def test_pillow_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"Decoding images needs the package 'pillow'"):
        decode_image(b"")
