"""Files become what the run's own data was, and outputs probabilities."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from untrained_runs import untrained_run, val_arrays

from kleiber.errors import DataError, RunFolderError, UsageError
from kleiber.infer.classification import Answer, open_classifier
from kleiber.infer.classification.answer import class_names, probabilities
from kleiber.infer.classification.batches import answered
from kleiber.infer.classification.reading import inputs_in
from kleiber.runs import DataMeta, TaskRecipe

WORDS = ("good", "bad", "film", "plot", "lovely", "dull", "a", "the", "never", "always")


@pytest.fixture(scope="module")
def texts(tmp_path_factory, cache, make_record):
    """Return a run over texts of a table, its data and the texts."""
    root = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    rows = [(" ".join(rng.choice(WORDS, rng.integers(3, 30))), "yn"[i % 2]) for i in range(60)]
    splits = ["train" if i < 40 else "valid" for i in range(60)]
    path = root / "texts.jsonl"
    lines = [json.dumps({"text": t, "label": y, "split": s}) for (t, y), s in zip(rows, splits, strict=True)]
    path.write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLEIBER_CACHE", str(cache))
        run, data = untrained_run(
            root / "run", make_record, f"data.source=jsonl:{path}", "data.field=text", "data.target=label",
            "data.split_field=split", "data.vocab_size=270", "data.context=24", "model.family=encoder", "model.depth=1",
            "model.width=32",
        )  # fmt: skip
    return run, data, [text for (text, _), split in zip(rows, splits, strict=True) if split == "valid"]


@pytest.fixture(scope="module")
def table(tmp_path_factory, cache, make_record):
    """Return a run over rows of a table, its data and the path."""
    root = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    lines = ["age,sex,city,kind"]
    for index in range(80):
        age = "" if index % 7 == 0 else str(rng.integers(1, 90))
        city = "far" if index == 79 else rng.choice(["oslo", "rome"])
        lines.append(f"{age},{rng.choice(['f', 'm'])},{city},{'ab'[index % 2]}")
    path = root / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLEIBER_CACHE", str(cache))
        run, data = untrained_run(
            root / "run", make_record, f"data.source=csv:{path}", "model.family=mlp", "model.depth=1", "model.width=8",
            "data.val_frac=0.2",
        )  # fmt: skip
    return run, data, path


def test_probabilities_are_softmax_and_sigmoid():
    logits = np.random.default_rng(0).normal(0, 30, (5, 4)).astype(np.float32)
    of = torch.from_numpy(logits).double()
    shares = probabilities(logits, TaskRecipe(name="classification"))
    np.testing.assert_allclose(shares, of.softmax(1).numpy(), rtol=1e-12)
    each = probabilities(logits, TaskRecipe(name="classification", loss="binary_cross_entropy"))
    np.testing.assert_allclose(each, of.sigmoid().numpy(), rtol=1e-9, atol=1e-15)


def test_the_likeliest_come_first_and_ties_in_the_order_of_classes():
    answer = Answer(("a", "b", "c"), np.array([0.25, 0.5, 0.25]))
    assert answer.top(3) == [("b", 0.5), ("a", 0.25), ("c", 0.25)]
    assert answer.document(1) == {
        "predicted": "b", "confidence_frac": 0.5, "top": [{"class": "b", "prob_frac": 0.5}],
    }  # fmt: skip


def test_classes_without_names_are_numbers(make_record):
    meta = make_record().data
    shape = meta.shape.model_copy(update={"num_outputs": 1})
    assert class_names(meta.model_copy(update={"shape": shape})) == ("0", "1")
    assert class_names(DataMeta.model_construct(classes=("x", "y"), shape=shape)) == ("x", "y")


def test_texts_become_the_tokens_that_the_runs_data_has(texts, tmp_path):
    run, data, contents = texts
    classifier = open_classifier(run)
    expected = val_arrays(data, "tokens")
    files = []
    for index, text in enumerate(contents):
        files.append(tmp_path / f"{index}.txt")
        files[-1].write_text(text)
    read = np.stack([sample.array for sample in inputs_in(classifier.reader, files)])
    np.testing.assert_array_equal(read, expected)
    with torch.no_grad():
        outputs = classifier.module(torch.from_numpy(expected)).softmax(1).numpy()
    found = np.stack(
        [answer.probs_K for _, answer in answered(classifier, list(map(str, files)), io.BytesIO())]
    )
    np.testing.assert_allclose(found, outputs, atol=1e-6)
    assert np.ptp(found[:, 0]) > 0.01


def test_a_table_of_texts_is_a_text_a_row_and_standard_input_a_text(texts, tmp_path):
    run, data, contents = texts
    classifier = open_classifier(run)
    path = tmp_path / "new.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in contents))
    rows = list(answered(classifier, [str(path)], io.BytesIO()))
    assert [name for name, _ in rows[:2]] == [f"line 1 of {path}", f"line 2 of {path}"]
    ((name, alone),) = answered(classifier, ["-"], io.BytesIO(contents[1].encode()))
    assert name == "-"
    np.testing.assert_allclose(alone.probs_K, rows[1][1].probs_K, atol=1e-6)
    assert len(rows) == len(data.parts["val"])


def test_engines_answer_alike(texts, tmp_path):
    run, _, contents = texts
    (tmp_path / "a.txt").write_text(contents[0])
    for engine in ("onnxruntime", "openvino"):
        found = []
        for name in ("torch", engine):
            ((_, answer),) = answered(
                open_classifier(run, engine=name), [str(tmp_path / "a.txt")], io.BytesIO()
            )
            found.append(answer.probs_K)
        np.testing.assert_allclose(found[1], found[0], atol=1e-5)


def test_texts_that_cannot_be_read_are_refused(texts, tmp_path):
    reader = open_classifier(texts[0]).reader
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "other.csv").write_text("body,x\nhello,1\n")
    with pytest.raises(DataError, match=r"empty\.txt is empty: there is no text to classify"):
        list(inputs_in(reader, [tmp_path / "empty.txt"]))
    with pytest.raises(DataError, match=r"latin\.txt' is not text in UTF-8"):
        list(inputs_in(reader, [tmp_path / "latin.txt"]))
    with pytest.raises(DataError, match="must have the column that the run's texts stood in, 'text'"):
        list(inputs_in(reader, [tmp_path / "other.csv"]))
    with pytest.raises(DataError, match=r"none\.txt' is no file"):
        list(inputs_in(reader, [tmp_path / "none.txt"]))


def test_rows_become_the_features_that_the_runs_data_has(table):
    run, data, path = table
    reader = open_classifier(run).reader
    read = np.stack([sample.array for sample in inputs_in(reader, [path])])
    whole = data.parts["val"].samples
    np.testing.assert_allclose(read[whole.indices], val_arrays(data, "features"), atol=1e-6)


def test_rows_that_do_not_suit_are_refused_and_new_categories_are_known_as_new(table, tmp_path):
    reader = open_classifier(table[0]).reader
    (tmp_path / "new.csv").write_text("city,age,sex\nlima,20,f\n")
    ((_, features),) = reader.read(tmp_path / "new.csv")
    raw = reader.normalization.undo(features[None])[0]
    assert raw[reader.features.names.index("city is new")] == pytest.approx(1, abs=1e-5)
    (tmp_path / "words.csv").write_text("age,sex,city\nold,f,rome\n")
    with pytest.raises(
        DataError, match=r"column 'age' must hold numbers, and it does not at line 2 of .*words\.csv"
    ):
        list(reader.read(tmp_path / "words.csv"))
    (tmp_path / "less.csv").write_text("age,sex\n3,f\n")
    with pytest.raises(DataError, match="must have the column 'city', which the run learnt from"):
        list(reader.read(tmp_path / "less.csv"))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="is not of the kind that the model was trained on"):
        list(inputs_in(reader, [tmp_path / "a.txt"]))


@pytest.fixture
def pictures(tmp_path, make_record):
    """Return a run over a folder of images, its data and the folder."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for index in range(6):
            pixels = rng.integers(0, 255, (12, 9, 3), np.uint8)
            image.fromarray(pixels).save(tmp_path / "images" / kind / f"{index}.png")
    run, data = untrained_run(
        tmp_path / "run", make_record, f"data.source=imagefolder:{tmp_path / 'images'}", "data.image_size=8",
        "data.val_frac=0.4", "model.family=convnet", "model.stage_depths=1", "model.width=4",
    )  # fmt: skip
    return run, data, tmp_path / "images"


def test_images_become_the_pixels_that_the_runs_data_has(pictures):
    run, data, folder = pictures
    reader = open_classifier(run).reader
    files = sorted(folder.glob("*/*.png"))
    read = np.stack([sample.array for sample in inputs_in(reader, files)])
    np.testing.assert_array_equal(read[data.parts["val"].samples.indices], val_arrays(data, "images"))


def test_arrays_are_one_sample_or_several(pictures, tmp_path):
    reader = open_classifier(pictures[0]).reader
    images = np.random.default_rng(0).integers(0, 255, (3, 3, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "several.npy", images)
    np.save(tmp_path / "one.npy", images[1])
    several = list(reader.read(tmp_path / "several.npy"))
    ((name, one),) = reader.read(tmp_path / "one.npy")
    assert (several[2][0], name) == (f"{tmp_path / 'several.npy'} [2]", str(tmp_path / "one.npy"))
    np.testing.assert_array_equal(one, several[1][1])
    np.save(tmp_path / "wrong.npy", images[:, :2])
    with pytest.raises(DataError, match=r"must hold images of the shape \[3, 8, 8\], one or several"):
        list(reader.read(tmp_path / "wrong.npy"))
    np.save(tmp_path / "nan.npy", np.full((3, 8, 8), np.nan))
    with pytest.raises(DataError, match="must hold finite numbers"):
        list(reader.read(tmp_path / "nan.npy"))
    (tmp_path / "no.npy").write_text("no array")
    with pytest.raises(DataError, match=r"no\.npy' is no array"):
        list(reader.read(tmp_path / "no.npy"))


def test_images_that_do_not_suit_are_refused(pictures, tmp_path, make_record):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(DataError, match=r"bad\.png': it is not an image that Pillow knows"):
        list(open_classifier(pictures[0]).reader.read(tmp_path / "bad.png"))
    grey = np.random.default_rng(0).integers(0, 255, (40, 1, 8, 8), np.uint8)
    np.savez(tmp_path / "grey.npz", x_train=grey, y_train=np.arange(40) % 2)
    run, _ = untrained_run(
        tmp_path / "grey", make_record, f"data.source=npz:{tmp_path / 'grey.npz'}", "data.val_frac=0.2",
        "model.family=convnet", "model.stage_depths=1", "model.width=4",
    )  # fmt: skip
    reader = open_classifier(run).reader
    image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "colour.png")
    image.fromarray(np.zeros((8, 6), np.uint8)).save(tmp_path / "narrow.png")
    with pytest.raises(DataError, match=r"colour\.png' is in colour, and the run's images are grey"):
        list(reader.read(tmp_path / "colour.png"))
    with pytest.raises(DataError, match=r"narrow\.png' must be 8 x 8 pixels.*Got '6 x 8'"):
        list(reader.read(tmp_path / "narrow.png"))


def test_digits_are_no_pixels(tmp_path, make_record):
    values = ("data.source=digits", "model.family=mlp", "model.depth=1", "model.width=8")
    classifier = open_classifier(untrained_run(tmp_path / "run", make_record, *values)[0])
    assert classifier.reader.suffixes == {".npy"}  # their numbers go to 16


def test_runs_of_another_task_and_records_without_scales_are_refused(tmp_path, make_record):
    make_record().write(tmp_path / "record.json")
    with pytest.raises(
        UsageError, match="was trained for the task lm, and only classification tells classes"
    ):
        open_classifier(tmp_path)
    values = ("data.source=wine", "model.family=mlp", "model.depth=1", "model.width=8")
    run, data = untrained_run(tmp_path / "run", make_record, *values)
    record = make_record(
        recipe=open_classifier(run).record.recipe, data=data.meta.model_copy(update={"input_scales": {}})
    )
    record.write(run / "record.json")
    with pytest.raises(RunFolderError, match="does not say how its features were normalized"):
        _ = open_classifier(run).reader
