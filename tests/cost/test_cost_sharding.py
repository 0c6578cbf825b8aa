"""Memory of one device under a layout, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.cost.layouts import BlockShape, Layout
from kleiber.cost.memory import StepMemory
from kleiber.cost.sharding import sharded_memory
from kleiber.cost.stages import pipeline_stages
from kleiber.cost.usage import Usage
from kleiber.runs import ParamCount

GB = 10**9
SHAPE = BlockShape(depth=8, width=64, num_heads=8, num_kv_heads=8, head_dim=8, vocab_size=100)
COUNT = ParamCount(embedding=1000, body=8000, head=1000)
STATES = StepMemory(40_000, 40_000, 80_000, 3200, {"backward of the loss": 4000, "optimizer step": 40_000})


def test_zero_shards_everything() -> None:
    """7.5 B parameters on 64 GPUs, 2 + 2 + 12 bytes each: 120 GB become 1.9 GB (arXiv:1910.02054, figure 1)."""
    psi = 7_500_000_000
    whole = StepMemory(2 * psi, 2 * psi, 12 * psi, 0, {"optimizer step": 2 * psi})
    assert whole.summary().peak == 120 * GB
    count = ParamCount(embedding=0, body=psi, head=0)
    own = sharded_memory(whole, count, None, Layout(fsdp=64), Usage(batch_size=64))
    assert own.summary().peak == pytest.approx(1.875 * GB)
    assert own.weights == own.gradients == pytest.approx(15 * GB / 64)


def test_copies_split_nothing() -> None:
    assert sharded_memory(STATES, COUNT, SHAPE, Layout(ddp=8), Usage(batch_size=8)) is STATES


def test_gathered_weights_are_held_beside_the_shards() -> None:
    own = sharded_memory(STATES, COUNT, SHAPE, Layout(fsdp=4), Usage(batch_size=4))
    assert (own.weights, own.gradients, own.optimizer, own.activations) == (10_000, 10_000, 20_000, 3200)
    # Embedding and head of 1000 each and two blocks of 1000, the gradients of one: fp32.
    assert own.moments == {"backward of the loss": 4000 + 4 * 4000 + 4 * 1000, "optimizer step": 10_000}


def test_gathered_weights_are_in_the_precision() -> None:
    own = sharded_memory(STATES, COUNT, SHAPE, Layout(fsdp=4), Usage(batch_size=4, precision="bf16"))
    assert own.moments["backward of the loss"] == 4000 + 2 * 4000 + 4 * 1000


def test_tensor_parallelism_splits_activations_too() -> None:
    """Equation 4 of arXiv:2205.05198: all of them, with sequence parallelism."""
    own = sharded_memory(STATES, COUNT, SHAPE, Layout(tp=8), Usage(batch_size=4))
    assert (own.weights, own.gradients, own.optimizer) == (5000, 5000, 10_000)
    assert own.activations == 400
    assert own.moments == {"backward of the loss": 500, "optimizer step": 5000}


def test_the_first_stage_holds_as_many_micro_batches_as_there_are_stages() -> None:
    usage = Usage(batch_size=8, accumulation=8)
    whole = StepMemory(40_000, 40_000, 0, 80_000, {"backward": 120_000})
    own = sharded_memory(whole, COUNT, SHAPE, Layout(pp=4), usage)
    # Two of eight blocks and the embedding: 3000 of 10,000 parameters. A quarter of four micro-batches, but
    # for the head's 100 values.
    assert (own.weights, own.gradients) == (12_000, 12_000)
    assert own.activations == 80_000 - 400
    assert own.moments == {"backward": 12_000 + 80_000 - 400}


def test_fewer_micro_batches_than_stages() -> None:
    whole = StepMemory(40_000, 40_000, 0, 80_000, {"backward": 120_000})
    own = sharded_memory(whole, COUNT, SHAPE, Layout(pp=4), Usage(batch_size=8, accumulation=2))
    assert own.activations == (80_000 - 4 * 400) / 2


def test_the_head_can_make_the_last_stage_the_fullest() -> None:
    """1000 tokens of 100 classes in fp32 are 400,000 bytes on the last stage alone."""
    whole = StepMemory(40_000, 40_000, 0, 440_000, {"backward of the loss": 440_000})
    usage = Usage(batch_size=8, accumulation=8)
    own = sharded_memory(whole, COUNT, SHAPE, Layout(pp=4), usage, tokens_per_sample=1000)
    # What blocks hold is 40,000: a quarter of one micro-batch beside the head.
    assert own.activations == 10_000 + 400_000


def test_a_pipeline_keeps_gathered_weights() -> None:
    usage = Usage(batch_size=8, accumulation=4)
    own = sharded_memory(STATES, COUNT, SHAPE, Layout(pp=2, fsdp=2), usage)
    assert own.weights == 40_000 * 5 // 10 // 2
    # Gradients of 10,000 in shards, whole weights and gradients of 5000 parameters; no room for activations.
    assert own.moments["backward of the loss"] == min(4000, 40_000) * 5 // 10 // 2 + 4 * 5000 + 4 * 5000


def test_gradients_can_be_told() -> None:
    told = sharded_memory(
        STATES, COUNT, SHAPE, Layout(fsdp=4), Usage(batch_size=4), gradients_at={"backward of the loss": 1000}
    )
    assert told.moments["backward of the loss"] == 3000 + 250 + 20_000


def test_accumulated_gradients_are_sharded() -> None:
    held = StepMemory(40_000, 40_000, 0, 3200, {"backward of the loss": 44_000, "validation": 500})
    own = sharded_memory(held, COUNT, SHAPE, Layout(fsdp=4), Usage(batch_size=8, accumulation=2))
    assert own.moments == {"backward of the loss": 4000 + 10_000 + 20_000, "validation": 500 + 16_000}


def test_other_moments_hold_the_gradients_that_activations_leave() -> None:
    held = StepMemory(40_000, 40_000, 0, 3200, {"backward of blocks.0 (mm)": 43_200})
    own = sharded_memory(held, COUNT, SHAPE, Layout(fsdp=4), Usage(batch_size=4))
    assert own.moments == {"backward of blocks.0 (mm)": 3200 + 10_000 + 20_000}


def test_serving_has_no_gradients() -> None:
    held = StepMemory(20_000, 0, 0, 0, {"forward of head (linear)": 900})
    usage = Usage(mode="infer", batch_size=4, precision="bf16")
    own = sharded_memory(held, COUNT, SHAPE, Layout(fsdp=2), usage)
    assert own.moments == {"forward of head (linear)": 900 + 2 * 4000}


@given(
    st.sampled_from([1, 2, 4, 5, 8]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 4, 8]),
    st.booleans(),
)
def test_stages_hold_the_model_once(pp: int, tp: int, fsdp: int, is_tied: bool) -> None:
    count = COUNT.model_copy(update={"head": 0, "is_tied": True}) if is_tied else COUNT
    stages = pipeline_stages(count, SHAPE, Layout(pp=pp, tp=tp, fsdp=fsdp))
    middle = sum(stage.num_params for stage in stages if stage.name == "middle") * (pp - 2)
    ends = sum(stage.num_params for stage in stages if stage.name != "middle")
    copies = 1000 if is_tied and pp > 1 else 0  # a tied table is on both ends
    assert middle + ends == count.total + copies


def test_fsdp_gathers_narrow_weights_where_autocast_copies() -> None:
    usage = Usage(batch_size=8, precision="bf16")
    copied = StepMemory(
        40_000, 40_000, 80_000, 3200, {"backward of the loss": 24_000}, {"backward of the loss": 20_000}
    )
    bare = StepMemory(40_000, 40_000, 80_000, 3200, {"backward of the loss": 4000})
    for layout in (Layout(fsdp=8), Layout(fsdp=4, tp=2)):
        with_copies, without = (
            sharded_memory(memory, COUNT, SHAPE, layout, usage).moments for memory in (copied, bare)
        )
        assert with_copies == without
    split, whole = (
        sharded_memory(memory, COUNT, SHAPE, Layout(tp=2, ddp=4), usage).moments["backward of the loss"]
        for memory in (copied, bare)
    )
    assert split - whole == 20_000 / 2
