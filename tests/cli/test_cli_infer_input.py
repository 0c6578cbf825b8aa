"""Bad input of the commands that run models: one sentence, exit 2, and nothing written."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "infer"))

from exporting import TEXT, gpt_folder, llama_folder

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer

OF_TEXT = {
    "generate": ("generate", "model", "--prompt", "the water", "--engine", "torch"),
    "bench": ("bench", "model", "--engine", "torch", "--no-memory", "--no-quality"),
    "export": ("export", "model", "--format", "onnx", "-o", "out"),
    "eval": ("eval", "model", "--recipe", "recipe.yaml", "--engine", "torch"),
}
OF_CLASSES = {
    "classify": ("classify", "model", "one.npy"),
    "bench": ("bench", "model", "--engine", "torch", "--no-memory"),
    "export": ("export", "model", "--format", "onnx", "-o", "out"),
    "eval": ("eval", "model"),
}
RECIPE = "data: {source: 'text:low.txt', vocab_size: 272, context: 24, val_frac: 0.2}\ntask: {name: lm}\n"


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Path:
    return gpt_folder(tmp_path_factory.mktemp("ours") / "model")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Path:
    pytest.importorskip("transformers")
    return llama_folder(tmp_path_factory.mktemp("theirs") / "model")


@pytest.fixture(scope="module")
def wine(train_once) -> Path:
    return train_once(
        "task.name=classification", "train.num_steps=2", "train.batch_size=4", "model.depth=1", "model.width=8",
        "data.source=wine", "model.family=mlp",
    )  # fmt: skip


@pytest.fixture
def place(cli, tmp_path):
    """Return a function that copies a model, or the run of one, into the folder that commands run in."""
    (tmp_path / "low.txt").write_text("\n".join(f"low {n} water {n * n}" for n in range(900)))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    np.save(tmp_path / "one.npy", np.zeros(13))

    def copy(source: Path) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(source, folder)
        return folder / "model" if (folder / "model").is_dir() else folder

    return copy


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def refuses(ran, text: str) -> None:
    assert ran.code == 2
    error = ran.stderr[ran.stderr.index("error: ") :]
    assert error.startswith(f"error: {text}")
    assert error.count("\n") <= 2  # the sentence, and a line that works
    assert not Path("out").exists()
    assert not Path("bench.json").exists()


@pytest.mark.parametrize("command", OF_TEXT)
@pytest.mark.parametrize(
    "case",
    [
        ("config.json", Path.unlink, "model is neither a run nor a folder with a config.json."),
        ("config.json", half, "model/config.json is truncated or not valid JSON."),
        ("model.safetensors", Path.unlink, "model/model.safetensors cannot be read: No such file or directory."),
        ("model.safetensors", half, "model/model.safetensors is truncated or corrupt: "),
    ],
)  # fmt: skip
def test_a_damaged_model_is_told_by_every_command(cli, ours, place, command, case):
    file, damage, text = case
    damage(place(ours) / file)
    refuses(cli(*OF_TEXT[command]), text)


@pytest.mark.parametrize("command", ["generate", "bench", "export"])
@pytest.mark.parametrize(
    "case",
    [
        ("tokenizer.json", Path.unlink, "data.tokenizer 'model' holds no tokenizer. Got ['config.json', "),
        ("tokenizer.json", half, "model/tokenizer.json is not a tokenizer: EOF while parsing "),
        ("tokenizer_config.json", half, "model/tokenizer_config.json, which names special tokens, is not valid JSON."),
    ],
)  # fmt: skip
def test_a_damaged_tokenizer_is_told_by_every_command(cli, ours, place, command, case):
    file, damage, text = case
    damage(place(ours) / file)
    refuses(cli(*OF_TEXT[command]), text)


@pytest.mark.parametrize("command", ["generate", "bench", "export"])
def test_a_tokenizer_of_another_model_would_give_tokens_out_of_range(cli, ours, place, command):
    words = " ".join(f"{first}{last}" for first in TEXT for last in TEXT)
    TextTokenizer(train_tokenizer([words], 330, source="text:words.txt")).write(place(ours))
    refuses(
        cli(*OF_TEXT[command]),
        "model holds a tokenizer of 330 tokens and a model that knows 300: they are not",
    )


@pytest.mark.parametrize("command", ["generate", "bench"])
@pytest.mark.parametrize(
    "case",
    [
        ("{", "model/generation_config.json, which says where texts end, is truncated or not valid JSON."),
        ("[]", "model/generation_config.json must hold a mapping of keys to values. Got 'list'."),
    ],
)
def test_what_says_where_texts_end_must_be_readable(cli, ours, place, command, case):
    content, text = case
    (place(ours) / "generation_config.json").write_text(content)
    refuses(cli(*OF_TEXT[command]), text)


def test_weights_of_transformers_must_fit_their_config(cli, theirs, place):
    config = place(theirs) / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 96', '"intermediate_size": 112'))
    refuses(
        cli(*OF_TEXT["generate"]),
        "model: model.layers.0.mlp.down_proj.weight must be (64, 112), as config.json says. Got (64, 96).",
    )


@pytest.mark.parametrize("command", OF_CLASSES)
@pytest.mark.parametrize(
    "case",
    [
        ("config.json", Path.unlink, "model/model/config.json cannot be read: No such file or directory."),
        ("config.json", half, "model/model/config.json is truncated or not valid JSON."),
        ("model.safetensors", half, "model/model/model.safetensors is truncated or corrupt: "),
        ("../record.json", half, "model/record.json is truncated or not valid JSON: "),
    ],
)  # fmt: skip
def test_a_damaged_run_is_told_by_every_command(cli, wine, place, command, case):
    file, damage, text = case
    damage(place(wine) / file)
    refuses(cli(*OF_CLASSES[command]), text)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("generate", "model", "--prompt", "ab" * 13), "the prompt is 26 tokens long; the model reads at most 24."),
        (("generate", "model", "--prompt", ""), "the prompt is empty: the model needs something to go on from."),
        (("bench", "model", "-p", "20", "-n", "5"), "a prompt of 20 tokens and 5 after it do not fit into a context of 24."),
        (("bench", "model", "-p", "0"), "-p must be a whole number from 1 to "),
    ],
)  # fmt: skip
def test_prompts_must_fit(cli, ours, place, arguments, text):
    place(ours)
    refuses(cli(*arguments, "--engine", "torch"), text)


MISSING = "The engine onnxruntime needs the package 'onnxruntime', which is not installed.\n  try: pip install 'kleiber[onnx]'"


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "ours", "--prompt", "the"),
        ("bench", "ours", "--no-quality"),
        ("eval", "wine"),
        ("classify", "wine", "one.npy"),
    ],
)
def test_an_engine_whose_extra_is_missing(cli, place, request, monkeypatch, arguments):
    command, model, *more = arguments
    place(request.getfixturevalue(model))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refuses(cli(command, "model", *more, "--engine", "onnxruntime"), MISSING)


def test_an_export_that_the_format_cannot_hold(cli, wine, place):
    pytest.importorskip("gguf")
    pytest.importorskip("transformers")
    place(wine)
    for to, text in (
        ("gguf", "GGUF holds language models with their tokenizer; MLP is none."),
        ("hf", "transformers has no architecture that computes MLP."),
    ):
        refuses(cli("export", "model", "--format", to, "-o", "out"), text)
    refuses(
        cli("export", "model", "--format", "hf", "--precision", "int4", "-o", "out"),
        "the format hf is written in fp32, f16. Got 'int4'.",
    )
