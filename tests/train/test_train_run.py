import errno
import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kleiber.errors import (
    CheckpointError,
    DataError,
    DivergedError,
    Interrupted,
    RecipeError,
    RunFolderError,
    StorageError,
    UsageError,
)
from kleiber.runs import METRIC_KEYS, Predicted, RunFolder, read_recipe
from kleiber.tasks import LanguageModelling, Metrics
from kleiber.train import Branch, train
from kleiber.train.checkpoint import list_checkpoints, read_newest
from kleiber.train.lock import exclusive

GOLDEN_LOSSES = [5.6087, 5.0445, 4.5308, 4.3154]
GOLDEN_VAL_LOSS = 4.2975


def _weights(folder):
    return load_file(RunFolder(folder).model_path / "model.safetensors")


def _same(a, b):
    a, b = _weights(a), _weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def whole(recipe, tmp_path):
    """An uninterrupted run."""
    train(recipe, tmp_path / "whole")
    return tmp_path / "whole"


def test_a_run_leaves_a_whole_folder(recipe, tmp_path):
    record = train(recipe, tmp_path / "a", predicted=Predicted(forecast_hash="f", total_time_s=1.0))
    run = RunFolder(tmp_path / "a")
    assert run.read_record() == record
    assert record.status == "finished"
    assert record.predicted.forecast_hash == "f"
    assert record.result.num_tokens == 20 * 4 * 32
    assert record.num_params.total == sum(t.numel() for t in _weights(run.path).values())
    assert read_recipe(run.recipe_path) == record.recipe
    lines = run.read_metrics()
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    assert all(tuple(line) == METRIC_KEYS for line in lines)
    assert [line["val_loss"] is not None for line in lines] == [False, True, False, True]
    assert lines[-1]["val_loss"] == record.result.val_loss
    assert record.result.val_loss < lines[1]["val_loss"]
    assert {path.name for path in run.model_path.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert list((run.path / "events").glob("events.out.tfevents.*"))
    assert [path.name for path in sorted(run.checkpoints_path.iterdir())] == [
        "step-00000015",
        "step-00000020",
    ]


def test_a_finished_run_is_not_trained_again(recipe, whole):
    before = _weights(whole)
    assert train(recipe, whole) == RunFolder(whole).read_record()
    assert all(torch.equal(before[name], value) for name, value in _weights(whole).items())


def test_the_same_recipe_gives_the_same_bits_and_another_seed_others(recipe, whole, tmp_path):
    train(recipe, tmp_path / "again")
    assert _same(whole, tmp_path / "again")
    train(recipe.with_values(["train.seed=1"]), tmp_path / "other")
    assert not _same(whole, tmp_path / "other")


def _interrupt_at(step):
    return lambda progress: os.kill(os.getpid(), signal.SIGINT) if progress.step == step else None


def test_interrupt_writes_a_checkpoint_and_resumes_bit_identically(recipe, whole, tmp_path):
    with pytest.raises(
        Interrupted,
        match=r"stopped at step 1[01] of 20; a checkpoint was written\.\n  try: .* without --fresh: it resumes",
    ):
        train(recipe, tmp_path / "cut", on_progress=_interrupt_at(10))
    assert RunFolder(tmp_path / "cut").read_record().status == "interrupted"
    train(recipe, tmp_path / "cut")
    assert _same(whole, tmp_path / "cut")
    assert [line["step"] for line in RunFolder(tmp_path / "cut").read_metrics()] == [5, 10, 15, 20]


def test_killed_at_a_random_moment_and_resumed_equals_the_uninterrupted(recipe, tmp_path, train_and_kill):
    recipe = recipe.with_values(
        ["train.num_steps=800", "train.checkpoint_every=20", "train.optimizer.name=muon"]
    )
    train(recipe, tmp_path / "whole")
    steps_at_death = []
    for kill in range(2):
        moment_s = random.uniform(0, 0.3)  # noqa: S311 - a moment, not a secret
        train_and_kill(recipe, tmp_path / "cut", kill + 1, moment_s)
        lines = RunFolder(tmp_path / "cut").read_metrics()
        steps_at_death.append(lines[-1]["step"] if lines else 0)
    assert 0 < steps_at_death[0] < 800
    record = train(recipe, tmp_path / "cut")
    assert record.result.num_steps == 800
    assert _same(tmp_path / "whole", tmp_path / "cut"), f"killed after steps {steps_at_death}"


def test_a_corrupt_newest_checkpoint_is_passed_over_and_said(recipe, whole, tmp_path):
    def interrupt(progress):
        if progress.step == 15:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "cut", on_progress=interrupt)
    newest = max((tmp_path / "cut" / "checkpoints").iterdir())
    (newest / "tensors.safetensors").write_bytes(b"torn")
    notices = []
    train(recipe, tmp_path / "cut", on_notice=notices.append)
    assert len(notices) == 1
    assert "is corrupt" in notices[0]
    assert notices[0].endswith("The one before is used.")
    assert _same(whole, tmp_path / "cut")


def test_a_good_checkpoint_outlives_the_corrupt_ones_after_it(recipe, tmp_path):
    recipe = recipe.with_values(["train.keep_checkpoints=1", "train.branch_steps=[5]"])
    checkpoints = tmp_path / "cut" / "checkpoints"
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "cut", on_progress=_interrupt_at(15))
    assert [path.name[-2:] for path in list_checkpoints(checkpoints)] == ["05", "15"]
    (checkpoints / "step-00000015" / "tensors.safetensors").write_bytes(b"torn")
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "cut", on_progress=_interrupt_at(10), on_notice=lambda _: None)
    assert [path.name[-2:] for path in list_checkpoints(checkpoints)] == ["05", "10"]
    checkpoint, complaints = read_newest(checkpoints)
    assert (checkpoint.counters.step, complaints) == (10, [])


def test_a_checkpoint_of_another_recipe_is_refused(recipe, whole):
    RunFolder(whole).record_path.unlink()
    with pytest.raises(
        CheckpointError, match=r"the checkpoint at step 20 is of another recipe\.\n  try: .*--fresh"
    ):
        train(recipe.with_values(["train.clip_norm=2"]), whole)


def test_a_corrupt_checkpoint_of_a_trunk_says_how_to_train_it_again(recipe, tmp_path):
    start = recipe.train.schedule.cooldown_start(20)
    trunk = recipe.with_values([f"train.num_steps={start}", "train.schedule.cooldown_frac=0"])
    train(trunk, tmp_path / "trunk")
    (RunFolder(tmp_path / "trunk").checkpoints_path / f"step-{start:08d}" / "state.json").unlink()
    branch = Branch(tmp_path / "trunk", start)
    with pytest.raises(CheckpointError, match=r"is corrupt: .*\n  try: rm -r .*trunk   and run"):
        train(recipe, tmp_path / "branch", branch=branch)
    shutil.rmtree(tmp_path / "trunk")
    train(trunk, tmp_path / "trunk")
    assert train(recipe, tmp_path / "branch", branch=branch).status == "finished"


def test_a_branch_of_a_trunk_of_another_text_is_refused(recipe, small_text, whole, tmp_path):
    shutil.copytree(small_text, tmp_path / "text", ignore=shutil.ignore_patterns("csv.py"))
    other = recipe.with_values([f"data.source=text:{tmp_path / 'text'}"])
    with pytest.raises(CheckpointError, match=r"step 15 is of other data than .*\n  try: rm -r .*whole "):
        train(other, tmp_path / "branch", branch=Branch(whole, 15))


def test_a_signal_during_the_last_step_stops_what_follows_but_not_the_run(recipe, whole, tmp_path):
    with pytest.raises(Interrupted, match=r"stopped; cut has finished\.\n  try: .* without --fresh"):
        train(recipe, tmp_path / "cut", on_progress=_interrupt_at(20))
    assert RunFolder(tmp_path / "cut").read_record().status == "finished"
    assert _same(whole, tmp_path / "cut")


@pytest.mark.parametrize(
    ("error", "status"), [(ZeroDivisionError, "failed"), (KeyboardInterrupt, "interrupted")]
)
def test_a_run_that_ends_unexpectedly_is_not_left_running(recipe, tmp_path, error, status):
    def fail(_):
        raise error("by hand")

    with pytest.raises(error, match="by hand"):
        train(recipe, tmp_path / "a", on_progress=fail)
    record = RunFolder(tmp_path / "a").read_record()
    assert (record.status, record.error) == (status, f"{error.__name__}: by hand")


def test_what_cannot_be_forgotten_is_said(recipe, whole, monkeypatch):
    def refuse(_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(StorageError, match=r"cannot write .*whole: Read-only file system"):
        train(recipe, whole, resume=False)


def test_a_validation_that_is_not_finite_is_divergence(recipe, tmp_path, monkeypatch):
    metrics = Metrics(loss=float("inf"), loss_half_width=0.0, num_tokens=32)
    monkeypatch.setattr(LanguageModelling, "evaluate", lambda *_: metrics)
    with pytest.raises(DivergedError, match=r"the validation loss is not finite at step 10\. Got inf"):
        train(recipe, tmp_path / "a")


def test_an_evaluation_set_of_one_sequence_has_no_interval(recipe, tmp_path):
    train(recipe.with_values(["data.val_tokens=32"]), tmp_path / "a")
    record = json.loads(RunFolder(tmp_path / "a").record_path.read_text(), parse_constant=pytest.fail)
    assert record["result"]["val_loss_half_width"] is None
    assert RunFolder(tmp_path / "a").read_record().data.num_val_tokens == 32


def test_a_branch_equals_a_separate_run_of_its_horizon(recipe, whole, tmp_path):
    start = recipe.train.schedule.cooldown_start(20)
    trunk = recipe.with_values(
        [f"train.num_steps={start}", f"train.branch_steps=[{start}]", "train.schedule.cooldown_frac=0"]
    )
    train(trunk, tmp_path / "trunk")
    record = train(recipe, tmp_path / "branch", branch=Branch(tmp_path / "trunk", start))
    assert _same(whole, tmp_path / "branch")
    assert record.lineage[0].step == start
    assert record.trunk == "trunk"
    assert RunFolder(tmp_path / "branch").read_metrics()[0]["step"] > start


def test_accumulation_equals_the_large_batch(recipe, whole, tmp_path):
    train(recipe.with_values(["train.accumulation=4"]), tmp_path / "parts")
    large, parts = _weights(whole), _weights(tmp_path / "parts")
    for name, value in large.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-4)


def test_golden_curve(recipe, tmp_path):
    """A change of these figures is a change of training; the licence's text is every Python's."""
    text = Path(__file__).parents[2] / "LICENSE"
    record = train(recipe.with_values([f"data.source=text:{text}"]), tmp_path / "a")
    losses = [line["loss"] for line in RunFolder(tmp_path / "a").read_metrics()]
    assert losses == pytest.approx(GOLDEN_LOSSES, abs=2e-3)
    assert record.result.val_loss == pytest.approx(GOLDEN_VAL_LOSS, abs=2e-3)


def test_another_recipe_in_the_folder_is_refused(recipe, whole):
    with pytest.raises(RecipeError, match=r"holds a run of another recipe[\s\S]*--fresh"):
        train(recipe.with_values(["train.num_steps=30"]), whole)
    record = train(recipe.with_values(["train.num_steps=30"]), whole, resume=False)
    assert record.result.num_steps == 30


def test_a_text_too_small_for_the_steps_is_refused_before_anything_runs(recipe, tmp_path):
    with pytest.raises(DataError, match="tokens"):
        train(recipe.with_values(["train.num_steps=1000000"]), tmp_path / "a")
    assert not RunFolder(tmp_path / "a").exists()


def test_divergence_is_said_and_recorded(recipe, tmp_path, monkeypatch):
    real = LanguageModelling.loss
    monkeypatch.setattr(LanguageModelling, "loss", lambda *args: real(*args) * float("nan"))
    with pytest.raises(DivergedError, match=r"not finite at step 1\. Got nan"):
        train(recipe, tmp_path / "a")
    assert RunFolder(tmp_path / "a").read_record().status == "failed"


def test_two_processes_do_not_train_one_folder(recipe, tmp_path):
    with exclusive(tmp_path / "a"), pytest.raises(UsageError, match="is being written by another process"):
        train(recipe, tmp_path / "a")


def test_a_truncated_record_is_said(recipe, whole):
    record = RunFolder(whole).record_path
    record.write_text(record.read_text()[:100])
    before = _weights(whole)
    with pytest.raises(
        RunFolderError, match=rf"is truncated or not valid JSON: .*\n  try: rm {record}   and run"
    ):
        train(recipe, whole)
    record.unlink()  # the hint
    shutil.rmtree(RunFolder(whole).model_path)
    assert train(recipe, whole).status == "finished"
    assert all(torch.equal(before[name], value) for name, value in _weights(whole).items())


def test_a_changed_text_is_refused(recipe, small_text, tmp_path):
    shutil.copytree(small_text, tmp_path / "text")
    recipe = recipe.with_values([f"data.source=text:{tmp_path / 'text'}"])

    def interrupt(progress):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "a", on_progress=interrupt)
    (tmp_path / "text" / "csv.py").write_text("x = 1\n" * 2000)
    with pytest.raises(RecipeError, match="was trained on other data"):
        train(recipe, tmp_path / "a")


def test_metrics_are_json_lines(whole):
    for line in RunFolder(whole).metrics_path.read_text().splitlines():
        assert json.loads(line)["tokens_per_s"] > 0
