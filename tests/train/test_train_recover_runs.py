"""Runs that go on from a model: what it starts as, what stays, what is refused, and that it resumes."""

import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from kleiber.data import open_data
from kleiber.errors import Interrupted, RecipeError
from kleiber.models import load, save
from kleiber.models.stored import (
    Activations,
    LowRank,
    Masked,
    Quantized,
    read_activations,
    read_forms,
    write_forms,
)
from kleiber.runs import Recipe, RunFolder
from kleiber.study.micro_batch import fit_micro_batch
from kleiber.study.prediction import predict
from kleiber.tasks import task_of
from kleiber.train import train
from kleiber.train.recover.filled import with_donor
from kleiber.train.recover.recovery import open_recovery
from kleiber.train.settle import settle


def rounded(weight, num_bits, group_size):
    """Return a weight in few bits, by round to nearest."""
    weight, zero = weight.detach().flatten(1), 2 ** (num_bits - 1)
    groups = -(-weight.shape[1] // group_size)
    scale = torch.full((len(weight), groups), float(weight.abs().max()) / (zero - 1)).half().float()
    codes = (weight / scale.repeat_interleave(group_size, 1)[:, : weight.shape[1]]).round() + zero
    zeros = torch.full(scale.shape, zero, dtype=torch.uint8)
    return Quantized(codes.clamp(0, 2 * zero - 1).to(torch.uint8), scale, zeros, num_bits)


def compress_(module):
    """Give four weights of a small gpt a form each; return the forms."""
    params = dict(module.named_parameters())
    draw = torch.Generator().manual_seed(0)
    forms = {
        "blocks.0.qkv": Masked(torch.rand(params["blocks.0.qkv"].shape, generator=draw) > 0.5),
        "blocks.0.gate_up": rounded(params["blocks.0.gate_up"], 3, 8),
        "embedding": rounded(params["embedding"], 8, 16),
    }
    left, values, right = torch.linalg.svd(params["blocks.0.mlp_down"].detach(), full_matrices=False)
    forms["blocks.0.mlp_down"] = LowRank(left[:, :2] * values[:2], rounded(right[:2], 8, 16))
    with torch.no_grad():
        for name, form in forms.items():
            params[name].copy_(params[name] * form.is_kept_RC if isinstance(form, Masked) else form.dense())
    return forms


@pytest.fixture(scope="session")
def recipe_text(small_text):
    """What a small text model is trained with."""
    return [
        "model.depth=1", "model.width=16", f"data.source=text:{small_text}", "data.vocab_size=300", "data.context=32",
        "data.val_frac=0.2", "data.val_tokens=1024", "train.num_steps=20", "train.schedule.warmup_steps=4",
        "train.checkpoint_every=5", "train.val_every=10", "train.log_every=5", "parallel.num_threads=1",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def original(train_once, recipe_text):
    """A trained run."""
    return train_once(*recipe_text, "train.num_steps=200")


@pytest.fixture(scope="session")
def compressed(original):
    """The run's model with four forms, as a folder."""
    module, spec = load(original / "model")
    forms = compress_(module)
    folder = original.parent / "compressed"
    save(module, spec, folder)
    write_forms(folder, module, forms, Activations(cache_bits=8))
    return folder


@pytest.fixture
def recover(recipe_text, original, compressed):
    """A recipe that recovers it with the original as its teacher."""
    data = [value for value in recipe_text if not value.startswith("model")]
    return Recipe().with_values(
        [*data, f"recover.model={compressed}", f"recover.teacher={original}", "train.optimizer.lr=0.003"]
    )


def folder_loss(folder, record):
    data = open_data(record.recipe.data, seed=0, task=record.recipe.task)
    return task_of(record.recipe.task, data.meta).evaluate(load(folder)[0], data).loss


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def same(a, b):
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def check_structure(before, after):
    """Zeros, codes and factors of one folder are those of another, with other numbers in them."""
    (old, _), (new, _) = load(before), load(after)
    was, now = read_forms(before, old), read_forms(after, new)
    assert was.keys() == now.keys()
    mask = was["blocks.0.qkv"].is_kept_RC
    assert torch.equal(now["blocks.0.qkv"].is_kept_RC, mask)
    assert not new.get_parameter("blocks.0.qkv")[~mask].any()
    assert not torch.equal(new.get_parameter("blocks.0.qkv"), old.get_parameter("blocks.0.qkv"))
    first, last = was["blocks.0.gate_up"], now["blocks.0.gate_up"]
    assert (last.num_bits, last.group_size) == (3, 8)
    is_zero = first.codes_RC == 4
    assert is_zero.any()
    assert (last.codes_RC[is_zero] == 4).all()
    assert not torch.equal(first.scale_RG, last.scale_RG)
    assert now["blocks.0.mlp_down"].left_RK.shape == was["blocks.0.mlp_down"].left_RK.shape
    assert torch.linalg.matrix_rank(new.get_parameter("blocks.0.mlp_down")) == 2


@pytest.mark.parametrize(
    "settings", [(), ("recover.lora_rank=2",), ("train.ema_decay=0.8", "train.optimizer.name=muon", "train.stop.patience=9")]
)  # fmt: skip
def test_a_recovery_gains_keeps_the_structure_and_resumes_to_the_same_bits(
    recover, compressed, settings, tmp_path
):
    recipe = recover.with_values(settings)
    record = train(recipe, tmp_path / "whole")
    assert record.result.val_loss < folder_loss(compressed, record) - 0.01
    assert folder_loss(tmp_path / "whole" / "model", record) == pytest.approx(
        record.result.val_loss, abs=1e-6
    )
    check_structure(compressed, tmp_path / "whole" / "model")
    assert read_activations(tmp_path / "whole" / "model").cache_bits == 8

    def interrupt(progress):
        if progress.step == 10:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "parts", on_progress=interrupt)
    train(recipe, tmp_path / "parts")
    assert same(tmp_path / "whole", tmp_path / "parts")


def test_killed_and_resumed_equals_the_uninterrupted(recover, tmp_path, train_and_kill):
    recipe = recover.with_values(["train.num_steps=120", "train.checkpoint_every=10", "train.val_every=200"])
    train(recipe, tmp_path / "whole")
    train_and_kill(recipe, tmp_path / "cut", 3)
    train(recipe, tmp_path / "cut")
    assert same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("settings", [(), ("recover.lora_rank=4",)])
def test_the_loss_before_the_first_step_is_the_models_own(recover, compressed, settings):
    recipe = with_donor(recover.with_values(settings))
    data = open_data(recipe.data, seed=0, task=recipe.task)
    recipe = settle(recipe, data.meta, num_threads=1)
    module, spec = load(compressed)
    recovery = open_recovery(recipe, recipe.recover, spec, data)
    want = recovery.task.evaluate(module, data)
    assert recovery.task.evaluate(recovery.module.merged(), data) == want
    assert recovery.task.evaluate(recovery.module, data) == want


def test_zeros_of_codes_may_be_trained_where_nothing_was_pruned(recover, compressed, tmp_path):
    train(recover.with_values(["recover.keeps_zeros=false", "train.optimizer.lr=0.03"]), tmp_path / "a")
    first = read_forms(compressed, load(compressed)[0])["blocks.0.gate_up"]
    last = read_forms(tmp_path / "a" / "model", load(tmp_path / "a" / "model")[0])["blocks.0.gate_up"]
    assert (last.codes_RC[first.codes_RC == 4] != 4).any()


def test_what_the_recipe_leaves_open_follows_from_the_model(recover, original, compressed):
    filled = with_donor(recover)
    assert filled.model.size["depth"] == 1
    assert filled.data.tokenizer is None  # the folder has none, and the text gives it
    assert with_donor(filled) == filled
    of_run = Recipe().with_values([f"recover.model={original}", "data.source=stdlib"])
    filled = with_donor(of_run)
    assert (filled.data.context, filled.data.tokenizer) == (32, str(original / "model"))
    assert with_donor(filled) == filled
    own = (
        Recipe()
        .with_values([f"recover.model={original}"])
        .model_copy(update={"data": RunFolder(original).read_record().recipe.data})
    )
    assert with_donor(own).data.tokenizer is None


def test_a_plan_is_made_and_micro_batches_fit(recover):
    found, predicted = predict(recover, "a")
    assert found.num_params.total == found.spec.count().total
    assert predicted.peak_memory_bytes > 0
    assert any("teacher" in sentence for sentence in found.assumptions)
    fitted, _ = fit_micro_batch(recover, limit_bytes=2e9)
    assert fitted.train.accumulation == 1


def test_micro_batches_learn_as_their_batch_does(recover, tmp_path):
    train(recover, tmp_path / "whole")
    train(recover.with_values(["train.accumulation=4"]), tmp_path / "parts")
    losses = [RunFolder(tmp_path / name).read_metrics()[0]["loss"] for name in ("whole", "parts")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_model_that_changes_is_another_recipe(recover, compressed, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(compressed, copy)
    recipe = recover.with_values([f"recover.model={copy}", "train.num_steps=2"])
    train(recipe, tmp_path / "a")
    settled = RunFolder(tmp_path / "a").read_record().recipe
    module, spec = load(copy)
    save(module, spec, copy)
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        train(recipe, tmp_path / "a")
    with pytest.raises(
        RecipeError, match=r"recover\.model '.*copy' has changed since the recipe was settled"
    ):
        train(settled, tmp_path / "a")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["recover.model=nowhere"], r"recover\.model: nowhere is neither a run nor a folder with a config\.json\."),
        (["model.width=32"], r"model asks for another size than recover\.model .* Got \{'family': 'gpt', 'width': 32\}"),
        (["data.context=16"], r"sequences of another length .* Got 16\.\n  try: --set data\.context=32"),
        (["data.vocab_size=310"], r"recover\.model .* vocab_size is 300, and the data has 310"),
    ],
)  # fmt: skip
def test_what_does_not_suit_the_model_is_refused(recover, settings, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        train(recover.with_values(settings), tmp_path / "a")
    assert not RunFolder(tmp_path / "a").exists()


def test_a_run_that_has_not_finished_is_no_model(recover, original, tmp_path):
    shutil.copytree(original, tmp_path / "half", ignore=shutil.ignore_patterns("model"))
    with pytest.raises(RecipeError, match=r"recover\.model: .*half has no model yet.*\n  try: kleiber train"):
        with_donor(recover.with_values([f"recover.model={tmp_path / 'half'}"]))


def test_a_teacher_by_another_tokenizer_is_refused(recover, recipe_text, small_text, tmp_path):
    other = tmp_path / "text"
    other.mkdir()
    (other / "a.txt").write_text("".join(f"{n} bottles of {n * n} bees\n\n" for n in range(3000)))
    small = [*recipe_text, f"data.source=text:{other}", "train.num_steps=2"]
    train(Recipe().with_values(small), tmp_path / "teacher")
    with pytest.raises(RecipeError, match=r"recover\.teacher '.*teacher' reads by another tokenizer"):
        train(recover.with_values([f"recover.teacher={tmp_path / 'teacher'}"]), tmp_path / "a")
