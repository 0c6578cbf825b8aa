from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from kleiber.cost.kv_cache import kv_cache_bytes
from kleiber.cost.memory import StepMemory
from kleiber.cost.trace import step as tracing
from kleiber.cost.trace.lifetimes import timeline_of
from kleiber.cost.usage import OPTIMIZERS, Usage
from kleiber.errors import RecipeError
from kleiber.models import build
from kleiber.models.foreign.family import subject_of
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.blocks import block_shape
from kleiber.models.gpt.cache import KVCache
from kleiber.models.gpt.memory import step_memory
from kleiber.runs import OptimizerRecipe
from kleiber.train.muon import Muon
from kleiber.train.optimizer import Optimizer

# Size, vocabulary, context, sequences: the fullest moment is that of the loss, the head, a block, the embedding.
SHAPES = {
    "loss": ({"depth": 2, "width": 128}, 2000, 128, 8),
    "head": ({"depth": 2, "width": 192, "num_kv_heads": 1, "mlp_width": 64}, 50, 96, 6),
    "block": ({"depth": 3, "width": 128, "num_kv_heads": 1, "mlp_width": 1000}, 16, 256, 4),
    "table": ({"depth": 2, "width": 128}, 4000, 16, 1),
    "heads": ({"depth": 2, "width": 64, "head_dim": 64, "num_heads": 4, "is_tied": False}, 300, 128, 4),
    "weights": ({"depth": 2, "width": 256}, 64, 8, 1),
}
USAGES = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "checkpointed": {"is_checkpointed": True},
    "checkpointed fp16": {"is_checkpointed": True, "precision": "fp16"},
    "accumulated": {"accumulation": 3},
    "accumulated bf16": {"accumulation": 2, "precision": "bf16"},
    "accumulated checkpointed bf16": {"accumulation": 2, "is_checkpointed": True, "precision": "bf16"},
    "served": {"mode": "infer"},
    "served bf16": {"mode": "infer", "precision": "bf16"},
}


def spec_of(shape: str) -> GPTSpec:
    size, vocab_size, context, _ = SHAPES[shape]
    return GPTSpec.from_dial(size, vocab_size, context)


def usage_of(shape: str, **usage: object) -> Usage:
    return Usage(batch_size=SHAPES[shape][3] * usage.get("accumulation", 1), **usage)


@pytest.fixture
def traced(monkeypatch):
    """Trace a step; tensors take their own bytes, without pages and words of the allocator."""
    monkeypatch.setattr(tracing, "timeline_of", partial(timeline_of, size=int))

    def trace(spec: GPTSpec, usage: Usage) -> StepMemory:
        subject = subject_of(spec, "gpt", batch_size=usage.batch_size)
        inputs = partial(subject.inputs, usage.micro_batch_size)
        options = {"has_workspaces": False, "muon": Muon}
        return tracing.trace_step(subject.build, inputs, subject.loss, usage, **options).memory

    return trace


def assert_alike(memory: StepMemory, traced: StepMemory) -> None:
    for part in ("weights", "gradients", "optimizer"):
        assert getattr(memory, part) == pytest.approx(getattr(traced, part), rel=0.001), part
    assert memory.summary().peak == pytest.approx(traced.summary().peak, rel=0.01)
    assert memory.activations == pytest.approx(traced.activations, rel=0.05)


@pytest.mark.parametrize("usage", USAGES)
@pytest.mark.parametrize("shape", ["loss", "head", "block", "table", "heads"])
def test_memory_is_that_of_a_trace(shape: str, usage: str, traced) -> None:
    spec, used = spec_of(shape), usage_of(shape, **USAGES[usage])
    memory, reference = step_memory(spec, used, spec.context), traced(spec, used)
    assert_alike(memory, reference)
    assert memory.fullest_moment.split()[0] == reference.fullest_moment.split()[0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("shape", ["table", "weights"])
def test_memory_of_each_optimizer_is_that_of_a_trace(shape: str, optimizer: str, traced) -> None:
    spec, usage = spec_of(shape), usage_of(shape, optimizer=optimizer)
    memory, reference = step_memory(spec, usage, spec.context), traced(spec, usage)
    assert_alike(memory, reference)
    step = next(held for name, held in reference.moments.items() if name.startswith("optimizer step"))
    assert memory.moments["optimizer step"] == pytest.approx(step, rel=0.001)


@pytest.mark.parametrize("usage", [{}, {"is_checkpointed": True}, {"precision": "bf16"}])
def test_a_deeper_model_is_that_of_a_trace(usage: dict[str, object], traced) -> None:
    spec = spec_of("block").model_copy(update={"depth": 7})
    used = usage_of("block", **usage)
    assert_alike(step_memory(spec, used, spec.context), traced(spec, used))


@pytest.mark.parametrize(
    ("shape", "usage", "moment"),
    [
        ("loss", "fp32", "backward of the loss"),
        ("head", "fp32", "backward of the head"),
        ("block", "fp32", "backward of the last block"),
        ("table", "fp32", "backward of the embedding"),
        ("block", "served", "forward of the blocks"),
        ("table", "served", "forward of the head"),
    ],
)
def test_the_fullest_moment(shape: str, usage: str, moment: str) -> None:
    memory = step_memory(spec_of(shape), usage_of(shape, **USAGES[usage]), SHAPES[shape][2])
    assert memory.fullest_moment == moment


class BytesMade(TorchDispatchMode):
    """Count the bytes of the tensors that operations make."""

    num_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and all(result is not arg for arg in args):
            self.num_bytes += result.nbytes
        return result


def test_the_optimizer_of_training_holds_nothing_beside_its_state() -> None:
    spec, usage = spec_of("weights"), usage_of("weights")
    module = build(spec)
    steps = Optimizer(module, module.param_groups(), OptimizerRecipe(name="adamw"))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with BytesMade() as made:
        steps.step(1.0)
    assert made.num_bytes < 1000
    fused, loop = (
        step_memory(spec, usage, spec.context, is_fused=is_fused).moments["optimizer step"]
        for is_fused in (True, False)
    )
    # Two tensors of gate and up, and one of the norm before.
    assert loop - fused == 4 * (2 * 2 * spec.mlp_width * spec.width + spec.width)


def test_saved_activations_are_what_the_module_saves() -> None:
    spec, storages = spec_of("heads"), {}
    module = build(spec)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    tokens = torch.zeros(4, 129, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = module(tokens[:, :-1]).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
    saved = sum(tensor.untyped_storage().nbytes() for key, tensor in storages.items() if key not in own)
    assert loss.isfinite()
    memory = step_memory(spec, Usage(batch_size=4), 128)
    # During the loss the logits are there beside what is saved.
    assert memory.moments["forward of the loss"] - 4 * 4 * 128 * 300 == pytest.approx(saved, rel=0.002)


@given(st.sampled_from(sorted(SHAPES)), st.sampled_from(["fp32", "bf16"]), st.booleans(), st.integers(1, 3))
def test_after_a_backward_pass_nothing_is_left_but_gradients(
    shape, precision, is_checkpointed, accumulation
) -> None:
    usage = usage_of(
        shape,
        precision=precision,
        is_checkpointed=is_checkpointed,
        accumulation=accumulation,
        optimizer="sgd",
    )
    spec, (_, _, context, batch) = spec_of(shape), SHAPES[shape]
    memory = step_memory(spec, usage, context)
    assert memory.moments["optimizer step"] == 4 * spec.count().total + 8 * batch * (context + 1)


def test_validation_is_a_pass_without_a_backward(traced) -> None:
    spec = GPTSpec.from_dial({"depth": 2, "width": 32}, vocab_size=1024, context=128)
    memory = step_memory(spec, Usage(batch_size=4), 128, val_batch=32)
    assert memory.fullest_moment == "validation"
    served = traced(spec, Usage(batch_size=32, mode="infer"))
    (forward,) = served.moments.values()
    # Log-probabilities and targets beside what the forward pass holds in the end.
    assert memory.moments["validation"] == pytest.approx(forward + 4 * 32 * 128 * 1024, rel=0.02)


def test_half_precision_copies_the_weights() -> None:
    spec = spec_of("weights")
    full, half = (
        step_memory(spec, Usage(batch_size=1, precision=precision), 8) for precision in ("fp32", "bf16")
    )
    assert half.activations < full.activations
    matrices = sum(rows * columns for rows, columns in spec.hidden_shapes()) + spec.vocab_size * spec.width
    assert half.copies["backward of the loss"] == 2 * matrices
    assert not any(full.copies.values())
    assert half.copies["backward of the embedding"] == 0


def test_micro_batches_that_do_not_divide() -> None:
    with pytest.raises(RecipeError, match=r"accumulation 3 must divide batch_size\. Got 4"):
        step_memory(spec_of("loss"), Usage(batch_size=4, accumulation=3), 128)


usages = st.builds(
    Usage,
    mode=st.sampled_from(["train", "infer"]),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    precision=st.sampled_from(["fp32", "bf16", "fp16"]),
    is_checkpointed=st.booleans(),
    batch_size=st.integers(1, 64),
)


@given(usages, st.integers(1, 12), st.sampled_from([32, 64, 96]), st.integers(2, 5000), st.integers(1, 512))
def test_more_never_needs_less(usage: Usage, depth: int, width: int, vocab_size: int, context: int) -> None:
    def peak(usage: Usage, depth: int, context: int) -> float:
        spec = GPTSpec.from_dial({"depth": depth, "width": width}, vocab_size, context)
        return step_memory(spec, usage, context).summary().peak

    base = peak(usage, depth, context)
    larger = usage.model_copy(update={"batch_size": usage.batch_size + 1})
    assert base < peak(larger, depth, context)
    assert base < peak(usage, depth + 1, context)
    assert base < peak(usage, depth, context + 1)


@given(usages, st.integers(2, 12), st.integers(1, 512))
def test_checkpointing_saves_memory_in_deep_models(usage: Usage, depth: int, context: int) -> None:
    spec = GPTSpec.from_dial({"depth": depth, "width": 64}, 256, context)
    kept, again = (
        step_memory(spec, usage.model_copy(update={"mode": "train", "is_checkpointed": is_on}), context)
        for is_on in (False, True)
    )
    assert again.moments["backward of the loss"] <= kept.moments["backward of the loss"]


@pytest.mark.parametrize("shape", SHAPES)
def test_cache_bytes_are_the_caches(shape: str) -> None:
    spec = spec_of(shape)
    held = KVCache(spec, 3, max_tokens=8).num_bytes
    assert kv_cache_bytes(block_shape(spec), 3, 8, value_bytes=4) == held
