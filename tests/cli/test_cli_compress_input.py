"""What a stranger brings to `kleiber compress`: broken, foreign and unfinished models; a kill; nothing is lost."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from compressing import RECIPE, QuickMeasuring
from safetensors.torch import load_file, save_file

from kleiber.compress import speed
from kleiber.compress.structure import channels
from kleiber.infer import sessions
from kleiber.runs import Recipe, RunFolder
from kleiber.runs.receipt import Receipt
from kleiber.train import train

STEP = "quantize:bits=8"


@pytest.fixture(autouse=True)
def _is_quick(monkeypatch):
    monkeypatch.setattr(speed, "Measuring", QuickMeasuring)


@pytest.fixture(scope="module")
def original(train_once, small_text):
    """A run of a few steps of a gpt with experts, whose weights no linear layer reads whole."""
    sizes = ("model.num_experts=2", "model.experts_per_token=1")
    return train_once(*RECIPE, *sizes, f"data.source=text:{small_text / 'ast.py'}")


@pytest.fixture
def mine(original, tmp_path):
    """A copy that may be broken."""
    return shutil.copytree(original, tmp_path / "mine")


def refused(cli, *typed, code=2):
    """Return what was said to a command that is refused, after looking at what it left."""
    ran = cli("compress", *typed, "-o", "out")
    assert ran.code == code
    assert ran.stderr.startswith("error: ")
    assert "This is a fault in Kleiber" not in ran.stderr
    assert not os.path.lexists("out")
    return ran.stderr


def with_recipe(original, path, **data):
    recipe = yaml.safe_load((original / "recipe.yaml").read_text())
    recipe["data"] |= data
    recipe["model"] = {"family": "gpt", "depth": 1}
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_a_layer_that_cannot_be_quantized_is_kept_and_said(cli, original):
    ran = cli("compress", original, STEP, "-o", "out", "--json")
    assert ran.code == 0
    (step,) = ran.document["steps"]
    (note,) = (note for note in step["notes"] if note.startswith("Kept as they are, because "))
    assert "blocks.0." in note
    assert ran.document["after"]["stored_bytes"] < ran.document["before"]["stored_bytes"]
    assert note in cli("compress", original, STEP, "-o", "out").stdout


def test_fewer_samples_than_asked_are_said(cli, original):
    ran = cli("compress", original, STEP, "--calibration", "1000000", "-o", "out", "--json")
    assert ran.code == 0
    (note,) = ran.document["calibration"]["notes"]
    assert "has no more, of the 1000000 asked for." in note
    assert note in cli("compress", original, STEP, "--calibration", "1000000", "-o", "out").stdout


def test_weights_that_are_no_numbers(cli, mine):
    path = mine / "model" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if tensors[name].ndim > 1)
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    for typed in ((STEP,), ("--max-bytes", "50%")):
        said = refused(cli, "mine", *typed)
        assert said.startswith("error: mine/model: the weight ")
        assert "is not finite. Got '1 of " in said


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        ("model/model.safetensors", 500, "mine/model/model.safetensors is truncated or corrupt: "),
        ("model/config.json", 50, "mine/model/config.json is truncated or not valid JSON."),
        ("record.json", 90, "mine/record.json is truncated or not valid JSON: "),
        ("model/model.safetensors", None, "mine/model/model.safetensors cannot be read: No such file"),
    ],
)
def test_a_file_that_is_cut_off_or_gone(cli, mine, name, size, sentence):
    path = mine / name
    content = path.read_bytes()
    path.unlink() if size is None else path.write_bytes(content[:size])
    assert sentence in refused(cli, "mine", STEP)


def test_a_run_that_has_not_finished(cli, mine):
    shutil.rmtree(mine / "model")
    said = refused(cli, "mine", STEP)
    assert said == (
        "error: mine has no model yet: a run writes it when it finishes.\n  try: kleiber train mine/recipe.yaml -o mine\n"
    )


@pytest.mark.parametrize("name", ["nothing", "mine/recipe.yaml", "."])
def test_what_is_no_model(cli, mine, name):
    assert f"error: {name} is neither a run nor a folder with a config.json." in refused(cli, name, STEP)


def test_a_folder_of_transformers_needs_a_recipe(cli, original, tmp_path):
    folder = shutil.copytree(original / "model", tmp_path / "model")
    assert (
        "model is a model without a run: its task and data must be said.\n  try: kleiber compress model "
        in (refused(cli, "model", STEP))
    )
    recipe = with_recipe(original, tmp_path / "data.yaml", tokenizer=str(folder))
    assert cli("compress", "model", STEP, "--recipe", recipe, "-o", "out").code == 0
    assert RunFolder(tmp_path / "out").read_record().lineage[0].run == "model"


def test_a_recipe_of_another_vocabulary(cli, original, tmp_path):
    recipe = with_recipe(original, tmp_path / "other.yaml", vocab_size=280)
    said = refused(cli, original, STEP, "--recipe", recipe)
    assert "was made for other data than" in said
    assert "vocab_size is 300, and the data asks for 280." in said


def test_a_recipe_of_another_task(cli, original, tmp_path):
    recipe = {
        "model": {"family": "mlp", "depth": 1},
        "task": {"name": "classification"},
        "data": {"source": "wine"},
    }
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(recipe))
    said = refused(cli, original, STEP, "--recipe", "other.yaml")
    assert "does not suit data.source 'wine': gpt models text, token by token." in said


def test_data_of_another_kind(cli, original, train_once, tmp_path):
    images = train_once(
        "model.family=convnet", "model.depth=1", "model.width=4", "task.name=classification", "data.source=digits",
        "train.num_steps=2", "train.batch_size=8", "parallel.num_threads=1",
    )  # fmt: skip
    recipe = yaml.safe_load((original / "recipe.yaml").read_text())
    (tmp_path / "texts.yaml").write_text(yaml.safe_dump({"data": recipe["data"]}))
    said = refused(cli, images, STEP, "--recipe", "texts.yaml")
    assert f"error: {images} reads images, and data.source 'text:" in said
    assert "' holds tokens.\n  try: --recipe recipe.yaml " in said


def test_a_recipe_that_is_no_yaml(cli, original, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    said = refused(cli, original, STEP, "--recipe", "notes.txt")
    assert said.startswith("error: notes.txt is truncated or not valid JSON: ")
    assert said.endswith("\n  try: kleiber schema recipe   says what a recipe takes\n")


def test_code_of_a_model_that_has_none(cli, original):
    said = refused(cli, original, STEP, "--module", "net.py:Net")
    assert (
        f"--module is the code of a source that was made from a module in a file, and {original} was not."
        in said
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "there is no such file or folder."),
        ("", "data.source 'text:own.txt'"),
        ("a\n" * 20, "cannot be split into train and validation"),
    ],
)
def test_no_data_to_calibrate_on(cli, original, tmp_path, text, sentence):
    if text is not None:
        (tmp_path / "own.txt").write_text(text)
    recipe = with_recipe(original, tmp_path / "own.yaml", source="text:own.txt")
    assert sentence in refused(cli, original, STEP, "--recipe", recipe)


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_a_place_that_cannot_be_written(cli, original, tmp_path, output):
    (tmp_path / "file").write_text("mine")
    ran = cli("compress", original, STEP, "-o", output)
    assert ran.code == 1  # the disk refused: nobody typed it wrongly
    assert ran.stderr.startswith(f"error: cannot write {output}/.lock: ")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_no_half_model(cli, original, tmp_path, monkeypatch):
    from kleiber.compress import publish  # noqa: PLC0415 - beside what it breaks

    copy = publish._copy

    def full(model, target):
        copy(model, target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish, "_copy", full)
    ran = cli("compress", original, STEP, "-o", "out")
    assert ran.code == 1
    assert "out/model: No space left on device. What was written before is whole." in ran.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".lock", "tries"}
    monkeypatch.setattr(publish, "_copy", copy)
    again = cli("compress", original, STEP, "-o", "out")
    assert again.code == 0
    assert "timing the engines" not in again.stdout  # nothing is done twice


@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
@pytest.mark.parametrize("name", ["model/thesis.txt", "recipe.yaml"])
def test_files_of_the_users_are_not_written_over(cli, original, tmp_path, name, fresh):
    path = tmp_path / "own" / name
    path.parent.mkdir(parents=True)
    path.write_text("years of work")
    ran = cli("compress", original, STEP, "-o", "own", *fresh)
    assert ran.code == 2
    assert (
        f"error: own/{name.split('/')[0]} would be written over, and no compression has written it."
        in ran.stderr
    )
    assert path.read_text() == "years of work"


@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
def test_a_folder_of_a_model_is_not_written_into(cli, original, tmp_path, fresh):
    folder = shutil.copytree(original / "model", tmp_path / "own")
    before = sorted(folder.iterdir())
    ran = cli("compress", original, STEP, "-o", "own", *fresh)
    assert ran.code == 2
    assert ran.stderr == (
        "error: own holds a model, and a compression needs a folder of its own.\n  try: -o own-small\n"
    )
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("source", ["mine-small", "mine-small/model"])
def test_the_model_that_is_compressed_is_not_written_over(cli, mine, tmp_path, source):
    assert cli("compress", "mine", "prune:ratio=0.5").code == 0
    ran = cli("compress", source, STEP, "--recipe", "mine/recipe.yaml", "-o", "mine-small", "--fresh")
    assert ran.code == 2
    assert "mine-small holds the model that is to be compressed, and a compression needs" in ran.stderr
    assert (tmp_path / "mine-small" / "model" / "model.safetensors").is_file()
    ran = cli("compress", "mine", STEP, "-o", "mine", "--fresh")
    assert (ran.code, "mine holds the model that is to be compressed" in ran.stderr) == (2, True)


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript", "openvino"])
def test_an_engine_that_is_not_installed(cli, original, tmp_path, monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(sessions.importlib.util, "find_spec", lambda name: None if name == package else find(name))  # fmt: skip
    engine = "openvino" if package == "openvino" else "onnxruntime"
    extra = "openvino" if package == "openvino" else "onnx"
    said = refused(cli, original, STEP, "--engine", engine)
    assert said == (
        f"error: The engine {engine} needs the package '{package}', which is not installed.\n"
        f"  try: pip install 'kleiber[{extra}]'\n"
    )


def test_an_engine_that_is_not_installed_is_left_out_where_all_are_measured(cli, original, monkeypatch):
    class Two(QuickMeasuring):
        engines: tuple[str, ...] = ("torch", "openvino")

    monkeypatch.setattr(speed, "Measuring", Two)
    find = importlib.util.find_spec
    monkeypatch.setattr(sessions.importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))  # fmt: skip
    monkeypatch.setattr(sessions.importlib.util, "find_spec", lambda name: None if name in ("openvino", "onnxscript") else find(name))  # fmt: skip
    ran = cli("compress", original, STEP, "-o", "out")
    assert ran.code == 0
    assert "- openvino (forward) was left out: " in ran.stdout
    assert "which is not installed." in ran.stdout


def test_channels_need_torch_pruning(cli, tmp_path, monkeypatch):
    values = [
        "model.family=convnet",
        "model.depth=2",
        "model.width=8",
        "task.name=classification",
        "data.source=digits",
    ]
    train(
        Recipe().with_values(
            [*values, "train.num_steps=1", "train.schedule.warmup_steps=0", "train.val_every=1"]
        ),
        tmp_path / "photos",
    )
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    said = refused(cli, "photos", "shrink:channels=0.5")
    assert said.startswith(
        "error: shrink of convolutional networks needs the package 'torch-pruning', which is not"
    )
    assert channels.__name__


_DIES_IN_A_STEP = """
import os, signal, sys
from kleiber.cli.main import main
from kleiber.compress import pipeline
write = pipeline.write_subject
def dies(subject, folder):
    write(subject, folder)
    os.kill(os.getpid(), signal.SIGKILL)
pipeline.write_subject = dies
main(sys.argv[1:])
"""
_RUNS = "import sys; from kleiber.cli.main import main; main(sys.argv[1:])"


def test_killed_in_a_step_and_in_a_recovery_it_goes_on(cli, original, tmp_path):
    steps = ("prune:ratio=0.5", "recover:steps=300", STEP)
    assert cli("compress", original, *steps, "-o", "whole").code == 0
    typed = ["compress", str(original), *steps, "-o", "cut"]
    died = subprocess.run([sys.executable, "-c", _DIES_IN_A_STEP, *typed], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL
    tries = tmp_path / "cut" / "tries"
    assert [path.name for path in tries.iterdir() if not path.name.startswith(".")] == []
    with subprocess.Popen([sys.executable, "-c", _RUNS, *typed], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(tries.glob("02-*.work/train/checkpoints/step-*")):
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {".lock", "tries"}
    again = cli(*typed)
    assert again.code == 0
    assert "prune:ratio=0.5 ..." not in again.stdout
    assert "recover:steps=300 ..." in again.stdout
    weights = [(tmp_path / one / "model/model.safetensors").read_bytes() for one in ("whole", "cut")]
    assert weights[0] == weights[1]
    whole, cut = (Receipt.read(tmp_path / one / "receipt.json") for one in ("whole", "cut"))
    assert (cut.quality, cut.asked_hash) == (whole.quality, whole.asked_hash)
