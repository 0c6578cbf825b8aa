from __future__ import annotations

import pytest

from kleiber.cost import Calibration, Probe, find_device
from kleiber.cost.optimizers import optimizer_of
from kleiber.cost.usage import OPTIMIZERS, Usage
from kleiber.data.random_batch import random_batch
from kleiber.models import build, resolve_spec
from kleiber.models.seen_data import seen_by
from kleiber.runs import Recipe
from kleiber.study.model_cost import costed_family
from kleiber.study.plan import plan
from kleiber.study.planned_data import size_recipe
from kleiber.study.recipe_cost import recipe_cost
from kleiber.tasks import task_of
from kleiber.train.optimizer import Optimizer

SMALL = {
    "mlp": "mlp:depth=2,width=32",
    "convnet": "convnet:depth=3,width=8",
    "inception": "inception:depth=2,width=16",
    "resnet": "resnet:depth=8,width=8",
    "rnn": "rnn:depth=1,width=32",
    "gpt": "gpt:depth=1,width=32",
    "mixture": "gpt:depth=1,width=32,num_experts=4",
    "encoder": "encoder:depth=1,width=32",
    "vit": "vit:depth=1,width=32",
    "seq2seq": "seq2seq:depth=1,width=32",
    "dual": "dual:depth=1,width=32",
}
every_family = pytest.mark.parametrize("size", SMALL.values(), ids=SMALL)


def recipe_of(size: str, *sets: str) -> Recipe:
    return size_recipe(size).with_values(["parallel.num_threads=1", *sets])


@every_family
@pytest.mark.parametrize("convention", ["causal", "full"])
def test_a_plan_does_what_the_family_says(size, convention):
    recipe = recipe_of(size)
    spec = resolve_spec(recipe)
    model = costed_family(size, spec, batch_size=4, convention=convention, task=recipe.task.name)
    cost, flops = model.cost(Usage(batch_size=4)), spec.flops(4, convention=convention)
    loss = 0
    if recipe.task.name == "contrastive":  # 4 images against 4 texts is a product of the loss
        loss = 2 * 4 * 4 * spec.embedding_width
    assert cost.flops("forward") == flops.forward + loss
    assert cost.flops("backward") == flops.backward + 2 * loss
    assert cost.num_params == spec.count()
    assert cost.modules.num_params == spec.count().total
    assert cost.num_active == getattr(spec, "num_active_params", spec.count().total)


@every_family
def test_a_recipe_is_planned(size):
    recipe = recipe_of(size, "train.num_steps=70", "train.ema_decay=0.9")
    spec, found = resolve_spec(recipe), plan(recipe)
    total = spec.count().total
    assert found.num_params.total == total
    assert found.train_flops == 70 * spec.flops(4).total
    assert found.num_tokens == 70 * 4 * recipe.tokens_per_sample
    held = found.memory_bytes
    # A block is at least 64 bytes, and buffers such as running means are beside the weights.
    assert 4 * total <= held.gradients <= 4 * total + 64 * 200
    assert held.weights >= 4 * total
    assert held.optimizer == 3 * 4 * total  # AdamW's two moments, and the running mean of the weights
    assert held.peak >= held.weights + held.optimizer + held.gradients
    assert any("not measured" in sentence for sentence in found.assumptions)


def test_what_a_run_keeps_beside_its_step_is_counted():
    bare = recipe_cost(recipe_of(SMALL["resnet"]), resolve_spec(recipe_of(SMALL["resnet"])), "fp32")
    patient = recipe_of(SMALL["resnet"], "train.stop.patience=3", "train.ema_decay=0.5")
    kept = recipe_cost(patient, resolve_spec(patient), "fp32")
    assert kept.memory.optimizer - bare.memory.optimizer == 2 * 4 * bare.num_params.total


def test_validation_counts_where_its_batches_are_larger():
    recipe = recipe_of(SMALL["convnet"], "train.batch_size=2")
    spec = resolve_spec(recipe)
    few = recipe_cost(recipe, spec, "fp32", num_val_samples=2).memory
    many = recipe_cost(recipe, spec, "fp32", num_val_samples=1000).memory
    assert many.fullest_moment == "validation"
    assert recipe_cost(recipe, spec, "fp32").memory == many
    assert few.moments["validation"] < many.moments["validation"] / 5
    assert "validation" not in recipe_cost(recipe, spec, "fp32", is_validated=False).memory.moments


def test_validation_takes_time_where_its_samples_are_known():
    recipe = recipe_of(SMALL["mlp"], "train.num_steps=10", "train.val_every=5")
    bare, found = plan(recipe), plan(recipe, num_val_samples=400)
    assert bare.total_time_s == pytest.approx(10 * bare.step_time_s)
    spec = resolve_spec(recipe)
    ratio = spec.flops(400).forward / spec.flops(4).total
    assert found.total_time_s == pytest.approx(bare.total_time_s + 2 * ratio * bare.step_time_s, rel=0.01)


@pytest.mark.parametrize(
    ("name", "momentum", "usage"),
    [
        ("sgd", 0.9, "momentum"),
        ("sgd", 0.0, "sgd"),
        ("rmsprop", 0.9, "rmsprop_momentum"),
        ("rmsprop", 0.0, "rmsprop"),
        ("adagrad", None, "adagrad"),
        ("adam", None, "adam"),
        ("adamw", None, "adamw"),
        ("muon", None, "muon"),
    ],
)
def test_a_recipes_optimizer_holds_what_is_planned(name, momentum, usage):
    sets = [f"train.optimizer.name={name}"]
    sets += [] if momentum is None else [f"train.optimizer.momentum={momentum}"]
    recipe = recipe_of(SMALL["mlp"], *sets)
    optimizer = recipe.train.optimizer
    assert optimizer_of(optimizer) == usage
    spec = resolve_spec(recipe)
    cost = recipe_cost(recipe, spec, "fp32")
    module = build(spec)
    state = Optimizer(module, module.param_groups(), optimizer).tensors()
    counters = sum(tensor.nbytes for tensor in state.values() if tensor.ndim == 0)
    held = sum(tensor.nbytes for tensor in state.values()) - counters
    # What torch steps one by one is traced, its counters and the ends of blocks included.
    assert held <= cost.memory.optimizer <= 1.03 * held + 64 * len(state)
    assert OPTIMIZERS[usage] * 4 * spec.count().total >= held
    updates = [operation.name for operation in cost.operations if operation.phase == "optimizer"]
    assert any(update.startswith("_fused") for update in updates) is not name.startswith("rmsprop")


@every_family
def test_made_up_batches_are_what_tasks_take(size):
    recipe = recipe_of(size)
    spec = resolve_spec(recipe)
    module = build(spec)
    loss = task_of(recipe.task).loss(module, random_batch(seen_by(spec), recipe.task.name, 3))
    loss.backward()
    assert loss.isfinite()


def calibrated(spec: dict[str, object], time_s: float) -> Calibration:
    probe = Probe(
        spec=spec,
        optimizer="adamw",
        num_blocks=2,
        flops_per_step=1e6,
        tokens_per_step=4,
        num_threads=1,
        step_time_s=time_s,
    )
    return Calibration(measured_at="", peak_flops_per_s={1: 1e11}, probes=(probe,))


def test_probes_of_another_family_say_nothing_of_this_one():
    recipe = recipe_of(SMALL["resnet"])
    foreign = plan(recipe, calibration=calibrated({"family": "gpt"}, 7.0))
    assert foreign.step_time_s < 0.1
    assert any("100 GFLOP/s" in sentence for sentence in foreign.assumptions)
    own = resolve_spec(recipe).model_dump(mode="json")
    assert plan(recipe, calibration=calibrated(own, 7.0)).step_time_s == 7.0
    deeper = plan(recipe_of("resnet:depth=14,width=8"), calibration=calibrated(own, 7.0))
    assert deeper.step_time_s > 7.0


def test_an_accelerator_computes_in_half_precision():
    found = plan(recipe_of(SMALL["vit"]), device=find_device("h100-sxm"))
    assert (found.device, found.dtype) == ("h100-sxm", "bf16")
    assert found.memory_bytes.activations < plan(recipe_of(SMALL["vit"])).memory_bytes.activations
