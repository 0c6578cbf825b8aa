"""`kleiber train` on bad input: exit 2, one sentence and a line that works, and no run folder; then on every good choice once."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification

from kleiber.runs import AugmentRecipe, OptimizerRecipe, RunFolder, ScheduleRecipe

TABLE = "age,height,colour,verdict\n" + "".join(
    f"{row},{row * row % 7},{'red' if row % 2 else 'blue'},{'yes' if row % 3 else 'no'}\n"
    for row in range(40)
)
X = np.random.default_rng(0).random((40, 5)).astype(np.float32)
Y = np.arange(40) % 2
MLP = {"family": "mlp", "depth": 1, "width": 8}


@pytest.fixture
def kleiber_train(cli, tmp_path):
    """Return a function that trains a recipe of three steps into the folder `run`."""

    def run(*values: str, model=MLP, task="classification"):
        recipe = {
            "model": model,
            "task": {"name": task},
            "train": {"batch_size": 4, "num_steps": 3, "log_every": 1, "schedule": {"warmup_steps": 1}},
            "parallel": {"num_threads": 1},
        }
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        sets = [part for value in values for part in ("--set", value)]
        return cli("train", "recipe.yaml", "-o", "run", *sets)

    return run


def refused(ran, message: str, hint: str = "") -> None:
    """A sentence that begins so, a line that works, nothing else; and no run folder."""
    assert ran.code == 2
    sentence, *rest = ran.stderr.removeprefix("error: ").splitlines()
    assert message in sentence
    assert len(rest) == 1
    assert rest[0].startswith("  try: ")
    assert hint in rest[0]
    assert not Path("run").exists()


def trained(ran) -> None:
    assert ran.code == 0, ran.stderr
    assert RunFolder(Path("run")).read_record().status == "finished"


def archive(**arrays) -> None:
    np.savez("data.npz", **arrays)


def picture(path: str, height: int = 8, width: int = 8) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(height).integers(0, 255, (height, width), np.uint8)
    Image.fromarray(pixels).save(path)


def pictures(*classes: str, num: int = 6) -> None:
    for name in classes:
        for index in range(num):
            picture(f"photos/{name}/{index}.png")


def with_label(index: int, label: int) -> np.ndarray:
    return np.where(np.arange(40) == index, label, Y)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y_train": with_label(7, -1)}, "labels out of range: 1 sample, the first of which is number 7; 2 classes have labels 0 to 1. Got -1."),
        ({"y_train": with_label(7, 5), "classes": np.array(["a", "b"])}, "labels out of range: 1 sample, the first of which is number 7; 2 classes have labels 0 to 1. Got 5."),
        ({"y_train": with_label(7, 2**40)}, "there is none of 2, but sample 7 has label 1099511627776"),
        ({"y_train": Y, "x_test": X, "y_test": Y + 1}, "the test split has labels out of range: 20 samples, the first of which is number 1"),
        ({"y_train": np.eye(2, dtype=int)[Y]}, "y_train must hold a whole number or a name for each sample, its class. Got '(40, 2) of int64'"),
        ({"y_train": Y[:30]}, "y_train must hold a class or a number for each of the 40 samples. Got '(30,) of int64'"),
        ({"y_train": Y * 0}, "training samples of one class only"),
        ({"y_train": Y, "x_test": X[:, :4], "y_test": Y}, "samples must have one shape, and x_train has (5,), x_test has (4,)"),
        ({"y_train": np.array([str(label) for label in Y], object)}, "the array y_train of data.npz holds pickled Python objects, which are not read"),
        ({"x_train": np.where(X[3, 2] == X, np.nan, X), "y_train": Y}, "x_train are not all finite: sample 3 has NaN or infinity"),
        ({"x_train": X.astype(float) * 1e300, "y_train": Y}, "x_train are not all finite: sample 0 has NaN or infinity in float32"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "x_train is empty. Got (0, 5)"),
        ({"x_train": X[:, 0], "y_train": Y}, "x_train must be [N, F]"),
        ({"x_train": np.array([["a", "b"]] * 40), "y_train": Y}, "x_train must be of numbers, and is of <U1"),
    ],
)  # fmt: skip
def test_arrays_that_nothing_can_be_learnt_from(kleiber_train, arrays, message):
    archive(**{"x_train": X, **arrays})
    refused(kleiber_train("data.source=npz:data.npz"), message)


def test_archives_of_other_layouts_or_none(kleiber_train):
    refused(kleiber_train("data.source=npz:data.npz"), "'npz:data.npz': there is no such file")
    archive(a=X, b=Y)
    refused(
        kleiber_train("data.source=npz:data.npz"), "must be named x_train, y_train; or jpeg", "numpy.savez"
    )
    Path("data.npz").write_bytes(Path("data.npz").read_bytes()[:-40])
    refused(kleiber_train("data.source=npz:data.npz"), "data.npz is not a whole .npz file", "numpy.savez")
    blob = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(blob, "PNG")
    one = np.frombuffer(blob.getvalue(), np.uint8)
    archive(jpeg=np.tile(one, 4), offsets=np.arange(5) * len(one), labels=np.array([0, 1, 0, -3]))
    refused(
        kleiber_train("data.source=npz:data.npz"),
        "labels out of range: 1 sample, the first of which is number 3",
    )


def test_images_that_do_not_decode_are_counted_named_and_skipped_on_request_only(kleiber_train):
    pictures("cat", "dog")
    Path("photos/cat/0.png").write_bytes(b"no image")
    Path("photos/dog/3.png").write_bytes(Path("photos/dog/4.png").read_bytes()[:60])
    refused(
        kleiber_train("data.source=imagefolder:photos"),
        "2 images of 12 cannot be decoded; the first is cat/0.png: it is not an image",
        "--set data.skips_bad_samples=true",
    )
    ran = kleiber_train("data.source=imagefolder:photos", "data.skips_bad_samples=true")
    trained(ran)
    assert "2 of the samples of imagefolder:photos could not be read and were left out." in ran.stdout
    assert "Left out: cat/0.png: it is not an image that Pillow knows; dog/3.png: " in ran.stdout
    assert RunFolder(Path("run")).read_record().data.num_bad_samples == 2


def test_images_of_which_none_decodes_are_refused_even_then(kleiber_train):
    for path in ("photos/cat/0.png", "photos/dog/0.png"):
        Path(path).parent.mkdir(parents=True)
        Path(path).write_bytes(b"no image")
    skips = "data.skips_bad_samples=true"
    refused(kleiber_train("data.source=imagefolder:photos", skips), "2 images of 2 cannot be decoded", "PNG")


def test_images_of_several_sizes(kleiber_train):
    pictures("cat", "dog")
    picture("photos/dog/3.png", 9, 7)
    message = "images must be of one size; cat/0.png is 8 x 8 pixels and dog/3.png is 7 x 9 pixels"
    refused(kleiber_train("data.source=imagefolder:photos"), message, "--set data.image_size=")
    refused(kleiber_train("data.source=imagefolder:photos", "data.skips_bad_samples=true"), message)
    trained(kleiber_train("data.source=imagefolder:photos", "data.image_size=8"))


def test_class_folders_with_too_little_in_them(kleiber_train):
    source = "data.source=imagefolder:photos"
    refused(kleiber_train(source), "'imagefolder:photos': there is no such folder")
    refused(
        kleiber_train("data.source=imagefolder:"),
        "'imagefolder:': there is no such folder",
        "imagefolder:FOLDER",
    )
    Path("photos").mkdir()
    refused(
        kleiber_train(source),
        "images must stand in a folder for each class, and there is none",
        "photos/cat/1",
    )
    pictures("cat")
    refused(
        kleiber_train(source), "training samples of one class only: nothing is to be told apart. Got 'cat'"
    )
    pictures("dog")
    picture("photos/bird/1.png")
    refused(
        kleiber_train(source),
        "1 class with a single sample, which cannot be both learnt from and held out: bird",
    )
    Path("photos/bird/1.png").unlink()
    refused(
        kleiber_train(source), "1 folder of the train split without a single image: bird", "remove the folder"
    )


def rows(cell) -> str:
    return "".join(f"{row},{cell(row)},{'yes' if row % 3 else 'no'}\n" for row in range(40))


@pytest.mark.parametrize(
    ("text", "values", "message", "hint"),
    [
        (TABLE, ["data.target=verdit"], "data.target: 'csv:table.csv' has no column 'verdit'. Did you mean 'verdict'?", "data.target=verdict"),
        (TABLE, ["data.columns=[age, size]"], "data.columns: 'csv:table.csv' has no column 'size'", "'data.columns=[age, height, colour]'"),
        (TABLE, ["data.columns=[age, verdict]"], "data.columns must not hold 'verdict', the target", "'data.columns=[age]'"),
        (TABLE, ["data.split_field=colour"], "data.split_field must say train, valid or test, and it does not at line 2 of table.csv. Got 'blue'", "data.split_field=null"),
        (TABLE, ["task.name=regression"], "column 'verdict' must hold numbers, and it does not at line 2 of table.csv. Got 'no'", "--set task.name=classification"),
        (TABLE, ["task.name=lm"], "'csv:table.csv' is made of samples, and the task lm models running text", "--set task.name=classification"),
        ("age,height,verdict\n" + rows(lambda _: ""), [], "'csv:table.csv' has empty columns: 'height'", "'data.columns=[age]'"),
        ("age,height,verdict\n" + rows(lambda row: "inf" if row == 3 else row), [], "column 'height' holds a number that is not finite in float32 at line 5 of table.csv. Got 'inf'", ""),
        ("age,verdict\n" + "".join(f"{row},{'' if row == 4 else 'ab'[row % 2]}\n" for row in range(40)), [], "what is to be predicted, and it is empty at line 6 of table.csv", "--set data.skips_bad_samples=true"),
        ("age,verdict\n" + "".join(f"{row},\n" for row in range(40)), ["data.skips_bad_samples=true"], "column 'verdict' of 'csv:table.csv' is empty", "--set data.target=age"),
        ("age,verdict\n" + "".join(f"{row},k{row}\n" for row in range(400)), [], "has 400 different values in 400 rows: too many for classes", "--set task.name=regression"),
        (TABLE + "1,2\n", [], "line 42 of table.csv has 2 cells, and the table has 4 columns. Got '1 | 2'", "--set data.skips_bad_samples=true"),
        (TABLE + '1,2,"red,yes\n', [], "table.csv does not parse at line 42", "check the quotes"),
        (TABLE.replace(",", "^"), [], "has no columns to learn from beside the one to predict. Got ['age^height^colour^verdict']", ", ; tab or |"),
        (TABLE + "1,2,red,maybe\n", [], "1 class with a single sample, which cannot be both learnt from and held out: maybe", ""),
        (TABLE.replace("age", "height"), [], "table.csv has two columns called 'height'", "rename one"),
        ("", [], "table.csv is empty: it has no row", "a header and rows"),
        ("age,verdict\n", [], "'csv:table.csv' is empty: it has columns and no rows. Got ['age', 'verdict']", "a header and rows"),
    ],
)  # fmt: skip
def test_tables_that_nothing_can_be_learnt_from(kleiber_train, text, values, message, hint):
    Path("table.csv").write_text(text)
    refused(kleiber_train("data.source=csv:table.csv", *values), message, hint)


def test_rows_that_do_not_parse_are_counted_when_they_are_skipped(kleiber_train):
    Path("table.csv").write_text(TABLE + "1,2\n")
    ran = kleiber_train("data.source=csv:table.csv", "data.skips_bad_samples=true")
    trained(ran)
    assert "1 of the samples of csv:table.csv could not be read and was left out." in ran.stdout


@pytest.mark.parametrize(
    ("encoding", "message", "hint"),
    [
        ("latin-1", "table.csv is not UTF-8 text: byte 30 is 0xe9", "iconv -f latin1 -t utf-8 table.csv"),
        (
            "utf-16",
            "table.csv is not UTF-8 text: it begins with the byte order mark of UTF-16",
            "iconv -f utf-16",
        ),
    ],
)
def test_tables_in_another_encoding(kleiber_train, encoding, message, hint):
    Path("table.csv").write_bytes(TABLE.replace("blue", "é").encode(encoding))
    refused(kleiber_train("data.source=csv:table.csv"), message, hint)


def test_running_text_in_another_encoding(kleiber_train):
    Path("book.txt").write_bytes(("é" * 3000).encode("latin-1"))
    ran = kleiber_train(
        "data.source=text:book.txt", model={"family": "gpt", "depth": 1, "width": 16}, task="lm"
    )
    refused(ran, "book.txt is not UTF-8 text: byte 0 is 0xe9", "iconv -f latin1")


def test_files_that_are_not_there_or_of_another_kind(kleiber_train):
    Path("table.csv").write_text(TABLE)
    refused(kleiber_train("data.source=csv:tabel.csv"), "no such file or folder. Did you mean 'table.csv'?")
    refused(
        kleiber_train("data.source=jsonl:table.csv"), "must name a file that ends in .jsonl. Got 'table.csv'"
    )
    Path("nothing").mkdir()
    refused(kleiber_train("data.source=csv:nothing"), "the folder holds no .csv or .tsv files")
    Path("table.tsv").write_text(TABLE)
    refused(kleiber_train("data.source=csv:table.tsv"), "has no columns to learn from", "by tabs in a .tsv")
    Path("lines.jsonl").write_text('{"age": 1, "verdict": "yes"}\n{"age": 2, "verdict":\n')
    refused(
        kleiber_train("data.source=jsonl:lines.jsonl"),
        "line 2 of lines.jsonl is no JSON object",
        "mend the line",
    )
    Path("rows.parquet").write_text("no parquet")
    refused(kleiber_train("data.source=parquet:rows.parquet"), "rows.parquet is not a whole .parquet file")


def test_files_of_a_folder_must_agree(kleiber_train):
    Path("tables").mkdir()
    Path("tables/train.csv").write_text(TABLE)
    Path("tables/test.csv").write_text(TABLE.replace("height", "length"))
    refused(
        kleiber_train("data.source=csv:tables"),
        "must have the same columns, and only one of them has 'length'",
    )
    Path("tables/test.csv").write_text(TABLE.replace("yes", "maybe"))
    refused(
        kleiber_train("data.source=csv:tables"), "a class that no training row has. Got 'maybe'", "no, yes"
    )


SEQ2SEQ = {"family": "seq2seq", "depth": 1, "width": 16}
RNN = {"family": "rnn", "depth": 1, "width": 8}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("here\n" + "a word\n" * 30, "'pairs:pairs.tsv' has no two columns: pairs of texts are a source and its target. Got ['here']", "by tabs in a .tsv"),
        ("a\tb\tc\n" + "x y\tz\tw\n" * 30, "data.field must name the source's side", "--set data.field=a --set data.target=c"),
        ("a\tb\n" + "hello there\t\n" * 30, "column 'b' of 'pairs:pairs.tsv' must hold a text, and it is empty at line 2", "data.skips_bad_samples=true"),
        ("a\tb\nhello there\tx\n", "has a single training sample, which cannot be both learnt from and held out", "more samples"),
    ],
)  # fmt: skip
def test_pairs_that_are_none(kleiber_train, text, message, hint):
    Path("pairs.tsv").write_text(text)
    refused(kleiber_train("data.source=pairs:pairs.tsv", model=SEQ2SEQ, task="seq2seq"), message, hint)


def test_series_that_are_too_short_or_full_of_holes(kleiber_train):
    def run(*values):
        return kleiber_train("data.source=series:series.csv", *values, model=RNN, task="regression")

    Path("series.csv").write_text("count\n" + "".join(f"{row}\n" for row in range(20)))
    refused(
        run("data.context=100"),
        "too short: of its 20 rows 0 can be predicted in the train split",
        "data.context=9",
    )
    refused(
        run("data.context=4", "task.name=classification"),
        "is a time series, whose next values are a regression",
    )
    Path("series.csv").write_text(
        "day,count\n" + "".join(f"{row},{'' if row == 5 else row}\n" for row in range(20))
    )
    refused(
        run("data.context=4"),
        "column 'count' has no number at line 7 of series.csv",
        "data.skips_bad_samples=true",
    )


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        (["data.source=digit"], "data.source must be one of the known kinds for the task classification. Did you mean 'digits'? Got 'digit'.", "data.source=digits"),
        (["data.source=wikipedia:en", "task.name=lm"], "data.source must be stdlib or text:PATH", "text:book.txt"),
        (["data.source=digits", "task.name=lm"], "'digits' is made of samples, and the task lm models running text", "task.name=classification"),
        (["data.source=stdlib"], "'stdlib' is running text, and the task classification learns from samples", "task.name=lm"),
        (["data.source=digits:x"], "'digits' takes nothing after a colon. Got 'digits:x'", "data.source=digits"),
        (["data.source=digits", "task.name=classify"], "task.name: input should be 'lm', 'classification'", "kleiber schema recipe"),
        (["data.source=digits", "task.name=regression"], "'digits' does not suit the task regression: it has no numbers to predict", "task.name=classification"),
        (["data.source=diabetes"], "'diabetes' does not suit the task classification: its samples have no classes", "task.name=regression"),
        (["data.source=digits", "task.name=seq2seq"], "'digits' does not suit the task seq2seq: it is not made of pairs", "task.name=classification"),
        (["data.source=digits", "model.family=resnett"], "unknown family 'resnett'. Did you mean 'resnet'?", ""),
        (["data.source=digits", "model.family=gpt"], "gpt models text, token by token. Got 'images'", "model.family=encoder"),
        (["data.source=digits", "model.family=encoder"], "encoder reads tokens. Got 'images'", "model.family=resnet"),
        (["data.source=digits", "model.family=rnn"], "rnn reads tokens, to model or to answer, and series, to answer. Got 'images'", ""),
        (["data.source=digits", "model.family=seq2seq"], "seq2seq reads pairs of texts", "data.source=pairs:PATH"),
        (["data.source=digits", "model.family=dual"], "dual reads square images with a text each", "task.name=contrastive"),
        (["data.source=digits", "task.name=contrastive"], "mlp reads features or images or series. Got 'captions'", "model.family=dual"),
        (["data.source=wine", "model.family=resnet"], "resnet reads images. Got 'features'", "model.family=mlp"),
        (["data.source=digits", "model.hidden=5"], "mlp size: unknown key 'hidden'", "mlp:depth=2"),
        (["data.source=digits", "data.field=text"], "data.field has no effect on 'digits'. Got 'text'", "data.field=null"),
        (["data.source=digits", "data.context=64"], "data.context has no effect on 'digits'. Got 64", "data.context=128"),
        (["data.source=wine", "data.image_size=8"], "data.image_size has no effect on 'wine'. Got 8", "data.image_size=null"),
        (["data.source=digits", "data.max_samples=9999"], "data.max_samples must be at most the 1,707 training samples of 'digits'. Got 9999", "null"),
        (["data.source=digits", "data.positive_frac=0.1"], "thins out the rarer of two classes, and 'digits' has 10. Got 0.1", "null"),
        (["data.source=digits", "train.batch_size=5000"], "train.batch_size must be at most the 1,707 training samples of 'digits': a step would take some of them twice. Got 5000", "train.is_full_batch=true"),
        (["data.source=digits", "data.augment=[{name: flop}]"], "data.augment.0.name: input should be 'flip', 'rotate'", "kleiber schema recipe"),
        (["data.source=digits", "data.augment=[flip]"], "data.augment.0: an augmentation is written {name: flip}, got 'flip'", "kleiber schema recipe"),
        (["data.source=digits", "data.augment=[{name: token_mask}]"], "data.augment token_mask has nothing to change in images of the task classification", "flip, rotate"),
        (["data.source=wine", "data.augment=[{name: flip}]"], "data.augment flip has nothing to change in features", "noise"),
        (["data.source=digits", "data.augment=[{name: rotate, strength: 50}]"], "the strength of data.augment rotate must be at most 12. Got 50.0", "1 is the usual amount"),
        (["data.source=digits", "data.augment=[{name: flip, strength: 2}]"], "strength has no effect on data.augment flip. Got 2.0", "{name: flip}"),
        (["data.source=digits", "data.augment=[{name: mixup}]", "train.accumulation=4"], "mixup needs two samples or more in a micro-batch, and train.batch_size / train.accumulation is one. Got '4 / 4'", "train.accumulation=1"),
        (["data.source=digits", "train.optimizer.name=adamm"], "train.optimizer.name: input should be 'sgd', 'adagrad'", "kleiber schema recipe"),
        (["data.source=digits", "train.optimizer.learning_rate=0.1"], "unknown key 'train.optimizer.learning_rate'", "kleiber schema recipe"),
        (["data.source=digits", "train.optimizer.name=adam", "train.optimizer.is_nesterov=true"], "is_nesterov is for sgd with a momentum above 0, got adam", ""),
        (["data.source=digits", "train.optimizer.name=sgd", "train.optimizer.beta1=0.5"], "beta1 has no effect on sgd, only on adam, adamw, muon; got 0.5", ""),
        (["data.source=digits", "train.optimizer.name=adam", "train.optimizer.momentum=0.5"], "momentum has no effect on adam, only on sgd, rmsprop, muon; got 0.5", ""),
        (["data.source=digits", "train.optimizer.name=adagrad", "train.optimizer.beta2=0.5"], "beta2 has no effect on adagrad", ""),
        (["data.source=digits", "train.schedule.name=cosine", "train.schedule.cooldown_frac=0.5"], "cooldown_frac has no effect on cosine, only on wsd; got 0.5", ""),
        (["data.source=digits", "train.schedule.final_frac=0.5"], "final_frac has no effect on wsd, only on cosine, linear; got 0.5", ""),
        (["data.source=digits", "train.schedule.name=linear", "train.schedule.milestones=[0.3]"], "milestones has no effect on linear, only on step; got (0.3,)", ""),
        (["data.source=digits", "train.stop.usd_per_hour=2"], "usd_per_hour has no effect without usd, got 2", ""),
        (["data.source=digits", "task.loss=mse"], "loss of classification must be cross_entropy or binary_cross_entropy, got mse", ""),
    ],
)  # fmt: skip
def test_what_does_not_go_together(kleiber_train, values, message, hint):
    refused(kleiber_train(*values), message, hint)


def test_a_family_that_predicts_no_tokens(kleiber_train, small_text):
    ran = kleiber_train(f"data.source=text:{small_text}", "data.vocab_size=300", task="lm")
    refused(
        ran,
        "the task lm predicts the next token of a text, and mlp does not. Got 'mlp'",
        "model.family=gpt",
    )


def test_one_pair_has_nothing_to_be_told_from(kleiber_train):
    ran = kleiber_train(
        "data.source=digits",
        "train.batch_size=1",
        task="contrastive",
        model=MLP | {"family": "dual", "width": 16},
    )
    refused(ran, "contrastive needs two samples or more in a micro-batch", "train.batch_size=64")


@pytest.fixture
def pretrained(tmp_path, capsys):
    """Return a function that saves a small model of images into the folder `vit`."""

    def save(**config):
        sizes = {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 10, **config}
        torch.manual_seed(0)
        tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        ViTForImageClassification(ViTConfig(**tiny, **sizes)).save_pretrained(tmp_path / "vit")
        capsys.readouterr()  # its bar

    return save


HF = {"family": "hf", "path": "vit", "pretrained": True}


@pytest.mark.parametrize(
    ("config", "message", "hint"),
    [
        (
            {"image_size": 16},
            "vit was trained with image_size 16, and the data's images have 8",
            "data.image_size=16",
        ),
        (
            {"num_channels": 3},
            "vit was trained with num_channels 3, and the data's images have 1",
            "model.pretrained=false",
        ),
    ],
)
def test_a_pretrained_folder_whose_shapes_do_not_fit(kleiber_train, pretrained, config, message, hint):
    pretrained(**config)
    refused(kleiber_train("data.source=digits", model=HF), message, hint)
    trained(kleiber_train("data.source=digits", "model.pretrained=false", model=HF))


def test_a_pretrained_folder_that_is_not_what_it_says(kleiber_train, pretrained):
    def run():
        return kleiber_train("data.source=digits", model=HF)

    pretrained()
    config = json.loads(Path("vit/config.json").read_text())
    Path("vit/config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    refused(
        run(),
        "the weights of vit do not fit its config: vit.layers.1.",
        "the folder that the weights were saved in",
    )
    Path("vit/config.json").write_text(json.dumps(config | {"intermediate_size": 16}))
    refused(run(), "is (8,) and must be (16,)")
    Path("vit/config.json").write_text(json.dumps(config))
    Path("vit/model.safetensors").write_bytes(Path("vit/model.safetensors").read_bytes()[:500])
    refused(run(), "the weights of vit cannot be loaded", "--set model.pretrained=false")
    Path("vit/model.safetensors").unlink()
    refused(run(), "the weights of vit cannot be loaded: Error no file named model.safetensors")
    Path("vit/config.json").unlink()
    refused(run(), "hf: vit has no config.json", "a folder with config.json")


def test_a_head_that_is_made_anew_is_said(kleiber_train, pretrained):
    pretrained(num_labels=3)
    ran = kleiber_train("data.source=digits", model=HF)
    trained(ran)
    assert "The head is made anew: vit has 3 outputs, the data 10." in ran.stdout


def test_a_refused_recipe_leaves_a_finished_run_alone(kleiber_train):
    trained(kleiber_train("data.source=digits"))
    before = Path("run/record.json").read_bytes()
    ran = kleiber_train("data.source=digits", "train.batch_size=5000")
    assert ran.code == 2
    assert Path("run/record.json").read_bytes() == before


def choices(document, field: str) -> list[str]:
    return list(document.model_fields[field].annotation.__args__)


IMAGE_AUGMENTATIONS = [name for name in choices(AugmentRecipe, "name") if not name.startswith("token")]


@pytest.mark.parametrize("name", IMAGE_AUGMENTATIONS)
def test_every_augmentation_of_images_trains(kleiber_train, name):
    trained(kleiber_train("data.source=digits", f"data.augment=[{{name: {name}}}]"))
    plain = RunFolder(Path("run")).read_metrics()
    assert all(np.isfinite(line["loss"]) for line in plain)


@pytest.mark.parametrize("name", ["token_mask", "token_delete"])
def test_every_augmentation_of_text_trains(kleiber_train, name):
    words = ["river", "stone", "cloud", "house", "green", "winter", "bread", "song"]
    said = [" ".join(words[(row * step) % 8] for step in range(1, 6)) for row in range(80)]
    Path("said.csv").write_text(
        "text,verdict\n" + "".join(f"{one} {row},{'ab'[row % 2]}\n" for row, one in enumerate(said))
    )
    ran = kleiber_train(
        "data.source=csv:said.csv", "data.field=text", "data.vocab_size=260", "data.context=16",
        f"data.augment=[{{name: {name}}}]", model={"family": "encoder", "depth": 1, "width": 16},
    )  # fmt: skip
    trained(ran)


@pytest.mark.parametrize("name", choices(OptimizerRecipe, "name"))
def test_every_optimizer_trains(kleiber_train, name):
    trained(kleiber_train("data.source=digits", f"train.optimizer.name={name}"))
    assert RunFolder(Path("run")).read_record().recipe.train.optimizer.name == name


@pytest.mark.parametrize("name", choices(ScheduleRecipe, "name"))
def test_every_schedule_trains(kleiber_train, name):
    trained(kleiber_train("data.source=digits", f"train.schedule.name={name}", "train.num_steps=4"))
    rates = [line["lr"] for line in RunFolder(Path("run")).read_metrics()]
    assert len(rates) == 4
    assert (rates[-1] < rates[0]) == (name != "constant")
