from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from kleiber.data.hub import open_hf
from kleiber.data.source import Source
from kleiber.errors import DataError, MissingExtraError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

PIXELS = np.random.default_rng(0).integers(0, 255, (12, 3, 4, 4), np.uint8)
LABELS = datasets.ClassLabel(names=["cat", "dog", "owl"])


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def png(pixels: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(stream, "png")
    return stream.getvalue()


def saved(folder: Path, features: dict[str, Any], **splits: dict[str, list[Any]]) -> str:
    kinds = datasets.Features(features)
    datasets.DatasetDict(
        {name: datasets.Dataset.from_dict(rows, features=kinds) for name, rows in splits.items()}
    ).save_to_disk(str(folder / "saved"))
    return str(folder / "saved")


def source_of(argument: str, cache: Path, task: str = "classification", **keys: object) -> Source:
    recipe = DataRecipe.model_validate({"source": f"hf:{argument}", "vocab_size": 262, "context": 8, **keys})
    return open_hf(
        recipe, TaskRecipe.model_validate({"name": task}), argument, cache=cache, on_progress=lambda _: None
    )


def images(folder: Path, first: bytes | None = None) -> str:
    cells = [{"bytes": png(pixels), "path": None} for pixels in PIXELS]
    if first is not None:
        cells[0]["bytes"] = first
    labels = [row % 3 for row in range(12)]
    rows = {"picture": cells, "animal": labels}
    part = {"picture": cells[:3], "animal": labels[:3]}
    return saved(folder, {"picture": datasets.Image(), "animal": LABELS}, train=rows, test=part)


def test_images_come_with_the_names_of_their_classes(tmp_path: Path) -> None:
    source = source_of(images(tmp_path), tmp_path)
    assert source.classes == ("cat", "dog", "owl")
    assert source.shape.model_dump(exclude_defaults=True) == {
        "inputs": "images",
        "channels": 3,
        "height": 4,
        "width": 4,
        "num_outputs": 3,
    }
    np.testing.assert_array_equal(source.train.samples.gather(np.arange(12))["images"], PIXELS)
    assert source.train.labels is not None
    assert source.train.labels.tolist() == [0, 1, 2] * 4
    assert (source.val, len(source.parts["test"])) == (None, 3)


def test_an_image_that_does_not_decode_is_named_or_left_out_with_its_label(tmp_path: Path) -> None:
    path = images(tmp_path, first=b"no image")
    with pytest.raises(
        DataError, match=r"2 images of 15 cannot be decoded; the first is row 1 of the train split"
    ):
        source_of(path, tmp_path)
    source = source_of(path, tmp_path, skips_bad_samples=True)
    np.testing.assert_array_equal(source.train.samples.gather(np.array([0]))["images"][0], PIXELS[1])
    assert source.train.labels is not None
    assert source.train.labels[:3].tolist() == [1, 2, 0]
    assert source.num_bad_samples == 2


def test_images_may_be_resized_and_columns_named(tmp_path: Path) -> None:
    source = source_of(images(tmp_path), tmp_path, field="picture", target="animal", image_size=2)
    assert (source.shape.height, source.shape.width) == (2, 2)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"field": "animal"}, r"data\.field must name the column of images .*: picture\. Got 'animal'"),
        ({"target": "picture"}, r"data\.target must name the column to predict .*'picture' holds images.*\n  try: --set data\.target=animal"),
        ({"columns": ["animal"]}, r"data\.columns has no effect"),
    ],
)  # fmt: skip
def test_columns_that_do_not_fit_are_refused(tmp_path: Path, keys: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        source_of(images(tmp_path), tmp_path, **keys)


def test_images_with_classes_suit_captions(tmp_path: Path) -> None:
    source = source_of(images(tmp_path), tmp_path, "contrastive", field="picture", target="animal")
    assert source.train.labels is not None
    assert source.classes == ("cat", "dog", "owl")


def test_a_format_that_was_saved_along_changes_nothing(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict(
        {"x": [0.5, 1.5, 2.5, 3.5], "y": [0, 1, 0, 1]},
        features=datasets.Features({"x": datasets.Value("float32"), "y": LABELS}),
    )
    rows.with_format("numpy", columns=["x"]).save_to_disk(str(tmp_path / "formatted"))
    source = source_of(str(tmp_path / "formatted"), tmp_path)
    assert source.train.samples.gather(np.arange(4))["features"].ravel().tolist() == [0.5, 1.5, 2.5, 3.5]
    assert source.train.labels is not None
    assert source.train.labels.tolist() == [0, 1, 0, 1]


def test_texts_splits_and_unlabelled_rows(tmp_path: Path) -> None:
    texts = [f"the owl saw {row} mice" for row in range(12)]
    train = {"text": texts, "label": [row % 3 for row in range(12)]}
    path = saved(
        tmp_path, {"text": datasets.Value("string"), "label": LABELS},
        train=train, validation={"text": ["one"], "label": [2]}, test={"text": ["two"], "label": [-1]},
        unsupervised={"text": ["three"], "label": [-1]},
    )  # fmt: skip
    with pytest.raises(DataError, match=r"it is empty at row 1 of the test split of hf:"):
        source_of(path, tmp_path, field="text")
    source = source_of(path, tmp_path, field="text", skips_bad_samples=True)
    assert {name: len(part) for name, part in source.parts.items()} == {"train": 12, "val": 1}
    assert source.classes == ("cat", "dog", "owl")


def test_translations_are_pairs(tmp_path: Path) -> None:
    rows = {"translation": [{"de": f"hallo {row}", "en": f"hello {row}"} for row in range(12)]}
    path = saved(tmp_path, {"translation": datasets.Translation(["de", "en"])}, train=rows)
    source = source_of(path, tmp_path, "seq2seq", field="translation.en", target="translation.de")
    assert source.shape.inputs == "pairs"
    assert len(source.train) == 12


def test_a_folder_of_files_is_read_and_keeps_its_types(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for split, num in (("train", 20), ("test", 4)):
        (folder / f"{split}.jsonl").write_text(
            "".join(f'{{"code": "0{row % 2}", "y": {row % 2}}}\n' for row in range(num))
        )
    source = source_of(str(folder), tmp_path)
    assert source.shape.num_features == 3, "00, 01 and new: texts that spell numbers are texts"
    assert len(source.parts["test"]) == 4


def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"data\.source 'hf:.*nowhere' cannot be opened: .*\n  try: .*hf:NAME:CONFIG"
    ):
        source_of(f"{tmp_path}/nowhere", tmp_path)


def test_splits_must_agree_and_hold_train(tmp_path: Path) -> None:
    path = saved(tmp_path, {"x": datasets.Value("int64"), "y": LABELS}, test={"x": [1], "y": [0]})
    with pytest.raises(DataError, match=r"has no training split\. Got \['test'\]"):
        source_of(path, tmp_path)
    other = datasets.DatasetDict(
        {
            "train": datasets.Dataset.from_dict({"x": [1], "y": [0]}),
            "test": datasets.Dataset.from_dict({"x": [1], "z": [0]}),
        }
    )
    other.save_to_disk(str(tmp_path / "other"))
    with pytest.raises(
        DataError, match=r"the train and test splits must have the same columns\. Got \['y', 'z'\]"
    ):
        source_of(str(tmp_path / "other"), tmp_path)


def test_a_missing_datasets_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match="needs the package 'datasets'"):
        source_of(str(tmp_path), tmp_path)
