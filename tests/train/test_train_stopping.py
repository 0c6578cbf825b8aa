"""Runs that end early, average their weights or are compiled: what comes out, and that a resumed one is the same to the bit."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from kleiber.errors import Interrupted, RecipeError, UsageError
from kleiber.runs import DataShape, Recipe, RunFolder
from kleiber.train import train
from kleiber.train.checkpoint import read_newest
from kleiber.train.compiling import settle_compile

SHAPE = DataShape(inputs="images", channels=1, height=8, width=8, num_outputs=10)


def weights(folder):
    return load_file(RunFolder(folder).model_path / "model.safetensors")


def same(a, b):
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def digits(cache, monkeypatch):
    """A perceptron that learns handwritten digits in a second."""
    monkeypatch.setenv("KLEIBER_CACHE", str(cache))
    return Recipe().with_values(
        [
            "model.family=mlp", "model.depth=1", "model.width=32", "task.name=classification", "data.source=digits",
            "data.val_frac=0.2", "train.batch_size=50", "train.num_steps=60", "train.optimizer.lr=0.003",
            "train.schedule.warmup_steps=4", "train.val_every=5", "train.log_every=5", "train.checkpoint_every=10",
            "parallel.num_threads=1",
        ]
    )  # fmt: skip


def test_a_loss_that_is_reached_ends_the_run(digits, tmp_path):
    record = train(digits.with_values(["train.stop.loss=1.2"]), tmp_path / "run")
    assert record.status == "finished"
    assert record.result.val_loss <= 1.2
    assert record.result.num_steps < 60
    assert record.result.num_steps % 5 == 0
    assert "reached 1.2" in record.result.stopped_by


def test_patience_ends_a_run_with_its_best_weights(digits, tmp_path):
    # A rate so high that the loss soon rises.
    recipe = digits.with_values(["train.stop.patience=3", "train.optimizer.lr=0.3", "train.num_steps=400"])
    record = train(recipe, tmp_path / "run")
    losses = [line["val_loss"] for line in RunFolder(tmp_path / "run").read_metrics()]
    best = min(losses)
    assert record.result.val_loss == pytest.approx(best)
    assert losses.index(best) == len(losses) - 4
    assert record.result.num_steps == 5 * len(losses)
    assert f"of step {5 * (len(losses) - 3)} in 3 validations" in record.result.stopped_by


def test_seconds_end_a_run_where_it_stands(digits, tmp_path):
    record = train(digits.with_values(["train.stop.seconds=0.000001"]), tmp_path / "run")
    assert record.result.num_steps == 1
    assert "time" in record.result.stopped_by


def test_the_mean_of_the_weights_is_what_is_measured_and_saved(digits, tmp_path):
    record = train(digits.with_values(["train.ema_decay=0.9"]), tmp_path / "mean")
    plain = train(digits, tmp_path / "plain")
    assert record.result.val_loss != plain.result.val_loss
    checkpoint, _ = read_newest(RunFolder(tmp_path / "mean").checkpoints_path)
    saved = weights(tmp_path / "mean")
    means = {name: value for name, value in checkpoint.tensors.items() if name.startswith("ema.mean.")}
    assert {tuple(value.flatten()[:3].tolist()) for value in means.values()} == {
        tuple(value.flatten()[:3].tolist()) for value in saved.values()
    }
    live, _ = read_newest(RunFolder(tmp_path / "plain").checkpoints_path)
    for name in (name for name in live.tensors if name.startswith("weights.")):
        assert torch.equal(checkpoint.tensors[name], live.tensors[name])


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["train.ema_decay=0.9", "train.stop.patience=50"],
        ["model.dropout=0.3", "train.optimizer.name=rmsprop"],
        ["data.augment=[{name: shift}, {name: mixup}]", "train.optimizer.name=sgd"],
    ],
    ids=["plain", "mean", "dropout", "augmented"],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(digits, tmp_path, changes):
    recipe = digits.with_values(changes)
    train(recipe, tmp_path / "whole")

    def interrupt(progress):
        if progress.step == 25:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Interrupted)):
        train(recipe, tmp_path / "parts", on_progress=interrupt)
    train(recipe, tmp_path / "parts")
    assert same(tmp_path / "whole", tmp_path / "parts")
    whole, parts = (RunFolder(tmp_path / name).read_record().result for name in ("whole", "parts"))
    assert whole.val_loss == parts.val_loss


def test_a_run_cut_off_after_its_last_step_is_judged_once(digits, tmp_path):
    # The last validation is the third that is worse: judged again it would be a fourth, and end the run by patience.
    patient = [
        "train.stop.patience=4",
        "train.optimizer.lr=0.3",
        "train.num_steps=400",
        "train.schedule.name=constant",
    ]
    recipe = digits.with_values(patient)
    best = train(recipe, tmp_path / "long").result.num_steps - 20
    recipe = recipe.with_values([f"train.num_steps={best + 15}"])
    folder = tmp_path / "short"
    whole = train(recipe, folder)
    assert read_newest(RunFolder(folder).checkpoints_path)[0].counters.guard.num_worse == 3
    whole.model_copy(update={"status": "running", "result": None}).write(RunFolder(folder).record_path)
    assert train(recipe, folder).result.stopped_by is whole.result.stopped_by is None


def test_a_fresh_start_that_cannot_begin_leaves_the_run_that_stands_there(digits, tmp_path):
    whole = train(digits, tmp_path / "run")
    for wrong in ("data.source=imagefolder:nowhere", "train.batch_size=100000"):
        with pytest.raises(UsageError):
            train(digits.with_values([wrong]), tmp_path / "run", resume=False)
        assert RunFolder(tmp_path / "run").read_record() == whole
        assert weights(tmp_path / "run")


def test_small_models_are_not_worth_compiling_for_few_steps(digits, monkeypatch):
    said = []
    monkeypatch.setattr("kleiber.train.compiling._pass_s", lambda module, task, batch: 1.0)
    monkeypatch.setattr("kleiber.train.compiling.compiled", lambda module: module)

    class Data:
        def batches(self, split, cursor, batch_size):
            return iter([None])

    recipe = digits.with_values(["train.compile=auto"])
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"shape": SHAPE})})
    assert settle_compile(recipe, Data(), None, said.append).train.compile == "never"
    assert "does not pay" in said[0]


def test_a_compiler_that_fails_is_said_and_the_run_goes_on(digits, monkeypatch):
    said = []

    def fail(module):
        raise RuntimeError("no C++ compiler\nmore")

    class Data:
        def batches(self, split, cursor, batch_size):
            return iter([None])

    monkeypatch.setattr("kleiber.train.compiling._pass_s", lambda module, task, batch: 1.0)
    monkeypatch.setattr("kleiber.train.compiling.compiled", fail)
    recipe = digits.with_values(["train.compile=auto"])
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"shape": SHAPE})})
    assert settle_compile(recipe, Data(), None, said.append).train.compile == "never"
    assert said == ["torch.compile does not work here: RuntimeError: no C++ compiler"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its compiler
def test_a_model_that_torch_cannot_compile_is_refused(digits, tmp_path, monkeypatch):
    def unknown(*_):
        raise torch._dynamo.exc.Unsupported("no such kernel\nmore")

    monkeypatch.setattr("kleiber.train.run.compiled", lambda _: unknown)
    message = r"torch\.compile does not work on this model here: Unsupported: no such kernel\n.*train\.compile=never"
    with pytest.raises(RecipeError, match=message):
        train(digits.with_values(["train.compile=always"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its compiler
def test_a_compiled_run_learns_what_a_plain_one_does(digits, tmp_path):
    compiled = train(digits.with_values(["train.compile=always"]), tmp_path / "compiled")
    plain = train(digits, tmp_path / "plain")
    assert compiled.result.val_loss == pytest.approx(plain.result.val_loss, rel=1e-3)
