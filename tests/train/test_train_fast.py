"""What the preset `fast` adds to training: cautious decay, a warm-up of the momentum, short sequences first."""

import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from kleiber.data import Batch, open_data
from kleiber.errors import Interrupted, RecipeError
from kleiber.models import resolve_spec
from kleiber.runs import OptimizerRecipe, Recipe, RunFolder, SequenceWarmup, TrainRecipe, hash_of
from kleiber.runs.presets import preset
from kleiber.train import train
from kleiber.train.cautious import CautiousAdamW
from kleiber.train.muon import Muon, orthogonalize
from kleiber.train.sequence_warmup import cut

WEIGHTS = [torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
GRADIENTS = [torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3)]


def stepped(make, num_steps=1):
    params = [torch.nn.Parameter(weights.clone()) for weights in WEIGHTS]
    optimizer = make(params)
    for _ in range(num_steps):
        for param, gradient in zip(params, GRADIENTS, strict=True):
            param.grad = gradient.clone()
        optimizer.step(1.0) if isinstance(optimizer, Muon) else optimizer.step()
    return [param.detach() for param in params]


def decayed_in_a_loop(before, without, decay):
    """Weigh every number by itself: decay only where the step without decay brought it nearer to 0."""
    after = without.clone()
    for place in np.ndindex(*before.shape):
        if (before[place] - without[place]) * before[place] > 0:
            after[place] -= decay * before[place]
    return after


def test_cautious_adamw_equals_a_loop():
    def adamw(kind, weight_decay):
        return stepped(lambda params: kind(params, lr=0.05, weight_decay=weight_decay, fused=True))

    without, cautious = adamw(torch.optim.AdamW, 0.0), adamw(CautiousAdamW, 0.4)
    for before, bare, found in zip(WEIGHTS, without, cautious, strict=True):
        torch.testing.assert_close(found, decayed_in_a_loop(before, bare, 0.05 * 0.4))
        assert not torch.equal(found, bare)
    whole = adamw(torch.optim.AdamW, 0.4)
    assert not any(torch.allclose(one, found) for one, found in zip(whole, cautious, strict=True))


def test_cautious_muon_equals_a_loop():
    def muon(weight_decay):
        splits = [(6,), (2, 4)]  # one whole, one of two matrices
        return stepped(
            lambda params: Muon(params, splits, lr=0.05, weight_decay=weight_decay, is_cautious=True)
        )

    for before, bare, found in zip(WEIGHTS, muon(0.0), muon(0.4), strict=True):
        torch.testing.assert_close(found, decayed_in_a_loop(before, bare, 0.05 * 0.4))
        assert not torch.equal(found, bare)


def test_momentum_rises_from_085():
    """Three steps on one gradient, by hand."""
    gradient = GRADIENTS[0].T[None]
    mean, expected = torch.zeros_like(gradient), WEIGHTS[0].clone()
    for momentum in (0.85, 0.9, 0.95, 0.95):
        mean = momentum * mean + (1 - momentum) * gradient
        update = orthogonalize((1 - momentum) * gradient + momentum * mean)[0].T
        expected -= 0.05 * 6**0.5 * update
    found = stepped(
        lambda params: Muon(params[:1], [(6,)], lr=0.05, momentum=0.95, momentum_warmup_steps=2), 4
    )[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_count_of_steps_is_part_of_the_state():
    muon = Muon([torch.nn.Parameter(WEIGHTS[0].clone())], [(6,)], lr=0.1, momentum_warmup_steps=5)
    muon.params[0].grad = GRADIENTS[0].clone()
    muon.step(1.0)
    assert int(muon.tensors()["num_steps"]) == 1
    assert set(Muon(muon.params, [(6,)], lr=0.1).tensors()) == {"momentum.0"}


@given(st.integers(1, 4), st.integers(1, 200), st.integers(1, 300))
def test_steps_by_context_are_those_of_each_step(num_doublings, steps, num_steps):
    warmup = SequenceWarmup(context=8, steps=steps)
    context = 8 << num_doublings
    contexts = [warmup.context_of_step(step, context) for step in range(num_steps)]
    counted = {one: contexts.count(one) for one in dict.fromkeys(contexts)}
    assert warmup.steps_by_context(num_steps, context) == counted
    assert contexts == sorted(contexts)
    assert all(one == context for one in contexts[steps:])


def test_pieces_hold_every_target_once():
    tokens = np.arange(2 * 17).reshape(2, 17)
    pieces = cut(Batch({"tokens": tokens}, cursor=7), 4)
    assert pieces.cursor == 7
    assert pieces.tokens.shape == (8, 5)
    assert pieces.tokens[:, 1:].reshape(2, 16).tolist() == tokens[:, 1:].tolist()
    assert pieces.tokens[:, :-1].reshape(2, 16).tolist() == tokens[:, :-1].tolist()
    assert cut(pieces, 4) is pieces


FAST = (
    "train.optimizer={name: muon, lr: 0.01, matrix_lr: 0.01, weight_decay: 0.1, is_cautious_decay: true, momentum_warmup_steps: 12}",
    "train.sequence_warmup={context: 8, steps: 14}",
    "model.mlp=relu2", "model.softcap=15", "model.has_value_residual=true", "model.has_x0_skip=true", "model.value_embeddings=1",
    "model.depth=2",
)  # fmt: skip


def test_resumed_in_the_warm_ups_it_is_bit_identical(recipe, tmp_path):
    fast = recipe.with_values(FAST)
    whole = train(fast, tmp_path / "whole")

    def stop(progress):
        if progress.step == 10:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(fast, tmp_path / "cut", on_progress=stop)
    train(fast, tmp_path / "cut")
    ours, theirs = (load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "cut"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert whole.result.val_loss < whole.result.loss + 1


def test_operations_are_those_of_the_pieces(recipe, tmp_path):
    short = recipe.with_values(["train.sequence_warmup={context: 16, steps: 5}"])
    record = train(short, tmp_path / "short")
    spec = resolve_spec(record.recipe)
    batch = record.recipe.train.batch_size
    assert record.train_flops == 5 * spec.flops(2 * batch, 16).total + 15 * spec.flops(batch, 32).total
    # The same tokens, in pieces that do not look back as far: another first loss, and as many tokens.
    whole = train(recipe, tmp_path / "whole")
    assert record.result.num_tokens == whole.result.num_tokens
    assert (
        RunFolder(tmp_path / "short").read_metrics()[0]["loss"]
        != RunFolder(tmp_path / "whole").read_metrics()[0]["loss"]
    )


def test_accumulation_changes_no_gradient_of_the_pieces(recipe, tmp_path):
    short = recipe.with_values(["train.sequence_warmup={context: 8, steps: 20}"])
    one = train(short, tmp_path / "one")
    two = train(short.with_values(["train.accumulation=2"]), tmp_path / "two")
    assert one.result.val_loss == pytest.approx(two.result.val_loss, abs=1e-4)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (["train.sequence_warmup={context: 48, steps: 5}"], r"doubled once or more, got 128 and 48 in lm"),
        (["train.sequence_warmup={context: 128, steps: 5}"], r"doubled once or more, got 128 and 128 in lm"),
        (
            ["train.sequence_warmup={context: 32, steps: 5}", "task.name=classification"],
            r"sequences of text that is modelled: .* in classification",
        ),
        (
            ["train.optimizer={name: sgd, is_cautious_decay: true}"],
            r"is_cautious_decay has no effect on sgd, only on adamw, muon",
        ),
        (
            ["train.optimizer={name: adamw, momentum_warmup_steps: 5}"],
            r"momentum_warmup_steps has no effect on adamw, only on muon",
        ),
        (["preset=quick"], r"preset must be one of fast, plain, got 'quick'"),
        (["preset=fast", "model.family=mlp"], r"preset fast is of the family gpt, got 'mlp'"),
    ],
)
def test_what_does_not_go_together_is_refused(values, sentence):
    with pytest.raises(RecipeError, match=sentence):
        Recipe().with_values(values)


def test_a_preset_fills_what_is_left_open():
    recipe = Recipe().with_values(
        ["preset=fast", "model.depth=2", "model.has_x0_skip=false", "train.optimizer.lr=0.5"]
    )
    filled = preset("fast")
    assert recipe.model.size["mlp"] == filled["model"]["mlp"] == "relu2"
    assert filled["model"]["has_x0_skip"]
    assert not recipe.model.size["has_x0_skip"]
    assert recipe.train.optimizer.lr == 0.5
    assert recipe.train.optimizer.matrix_lr == filled["train"]["optimizer"]["matrix_lr"]
    # The recipe says all by itself from then on, and stays what it is when it is written and read.
    assert recipe.preset is None
    assert "preset" not in recipe.to_yaml()
    assert Recipe.of(recipe.model_dump(mode="json"), "again", RecipeError) == recipe
    assert recipe.with_values(["model.softcap=3"]).model.size["softcap"] == 3


def test_another_optimizer_takes_none_of_the_presets_settings():
    recipe = Recipe().with_values(
        ["preset=fast", "train.optimizer={name: sgd, lr: 0.1}", "train.schedule.name=constant"]
    )
    assert recipe.train.optimizer == OptimizerRecipe(name="sgd", lr=0.1)
    assert recipe.train.schedule.warmup_steps == TrainRecipe().schedule.warmup_steps


def test_recipes_without_the_new_keys_keep_their_hash():
    assert "sequence_warmup" not in Recipe().to_yaml()
    assert "cautious" not in Recipe().to_yaml()
    assert hash_of(Recipe()) == hash_of(Recipe().with_values(["train.sequence_warmup=null", "preset=null"]))


@pytest.mark.parametrize("name", ["fast", "plain"])
def test_presets_train(name, recipe, tmp_path):
    asked = recipe.with_values([f"preset={name}"])
    if name == "fast":
        asked = asked.with_values(["train.sequence_warmup={context: 8, steps: 10}"])
    record = train(asked, tmp_path / name)
    assert record.result.val_loss < 5.6
    assert resolve_spec(record.recipe).beyond_qwen3
    assert open_data(asked.data, seed=0, task=asked.task).meta.num_train_tokens > 0
