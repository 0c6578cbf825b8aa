from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.cost.layouts import Layout
from kleiber.cost.usage import Usage
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.memory import step_memory
from kleiber.study.fitting import largest_batch, largest_context, largest_model, largest_whole, peak_bytes

USAGE = Usage(batch_size=4)
SMALL = GPTSpec.from_dial({"depth": 2, "width": 32}, 1024, 128)  # 59,616 parameters


def small_peak(spec: GPTSpec) -> float:
    return peak_bytes(spec, USAGE)


def largest(limit_bytes: float, **size: int) -> GPTSpec | None:
    return largest_model(small_peak, limit_bytes, size, 1024, 128)


@pytest.mark.parametrize(
    "usage",
    [{}, {"optimizer": "muon"}, {"precision": "bf16"}, {"is_checkpointed": True}, {"optimizer": "sgd"}],
)
def test_training_takes_the_closed_form(usage) -> None:
    used = Usage(batch_size=8, accumulation=2, **usage)
    assert peak_bytes(SMALL, used) == step_memory(SMALL, used, 128).summary().peak
    wider = used.model_copy(update={"batch_size": 16})
    assert peak_bytes(SMALL, wider, Layout(ddp=2)) == peak_bytes(SMALL, used)


def test_state_is_that_of_the_optimizer() -> None:
    adam = peak_bytes(SMALL, Usage(batch_size=4, optimizer="adamw"))
    assert adam - peak_bytes(SMALL, Usage(batch_size=4, optimizer="sgd")) == 8 * 59_616
    assert adam - peak_bytes(SMALL, Usage(batch_size=4, optimizer="momentum")) == 4 * 59_616


def test_checkpointing_fits_more() -> None:
    deep = GPTSpec.from_dial({"depth": 24, "width": 64}, 256, 512)
    kept, again = Usage(batch_size=4), Usage(batch_size=4, is_checkpointed=True)
    assert peak_bytes(deep, again) < 0.25 * peak_bytes(deep, kept)


def test_serving_takes_the_cache_beside_the_closed_form() -> None:
    usage = Usage(mode="infer", batch_size=2, precision="bf16")
    # 2 bytes of keys and values of 2 blocks, 32 features, 2 sequences of 128 tokens
    cache = 2 * 2 * 2 * 32 * 2 * 128
    assert peak_bytes(SMALL, usage) == step_memory(SMALL, usage, 128).summary().peak + cache


def test_layouts_split_what_a_device_holds() -> None:
    spec = GPTSpec.from_dial({"depth": 12}, 1024, 128)
    whole = step_memory(spec, Usage(batch_size=1), 128)
    shared = peak_bytes(spec, Usage(batch_size=8), Layout(fsdp=8))
    assert whole.summary().peak / 8 < shared < 0.5 * whole.summary().peak
    # The batch that the layout does not divide is rounded up.
    assert peak_bytes(spec, Usage(batch_size=7), Layout(fsdp=8)) == shared


@pytest.mark.parametrize("limit", [2e7, 1e8, 1e9, 1e10])
def test_the_largest_model_nearly_fills_the_memory(limit) -> None:
    found = largest(limit)
    assert found is not None
    assert 0.85 * limit < small_peak(found) <= limit
    assert 48 <= found.width / found.depth <= 128  # the dial's shape


def test_the_largest_model_is_the_largest_of_all_its_shapes() -> None:
    limit = 1e9
    shapes = [
        GPTSpec.from_dial({"depth": depth, "width": width}, 1024, 128)
        for width in range(256, 1024, 64)
        for usual in [round(width / 64)]
        for depth in range(usual - max(1, usual // 8), usual + max(1, usual // 8) + 1)
    ]
    assert largest(limit) == max(
        (spec for spec in shapes if small_peak(spec) <= limit), key=lambda spec: spec.count().total
    )


@settings(max_examples=25)
@given(st.floats(7.2, 12), st.floats(0, 0.2))
def test_more_memory_never_holds_a_smaller_model(log_limit, more) -> None:
    less, larger = largest(10**log_limit), largest(10 ** (log_limit + more))
    assert less is not None
    assert larger is not None
    assert less.count().total <= larger.count().total
    assert small_peak(less) <= 10**log_limit


def test_keys_of_the_dial_are_kept() -> None:
    deep = largest(1e9, depth=3, head_dim=32)
    assert deep is not None
    assert (deep.depth, deep.head_dim) == (3, 32)
    wide = largest(1e9, width=512, num_heads=4)
    assert wide is not None
    assert (wide.width, wide.num_heads) == (512, 4)
    assert small_peak(wide.model_copy(update={"depth": wide.depth + 1})) > 1e9


def test_nothing_fits_in_too_little() -> None:
    assert largest(1e6) is None


@given(st.floats(5e6, 1e9))
def test_the_largest_context_fits_and_one_more_token_does_not(limit) -> None:
    context = largest_context(small_peak, limit, SMALL)
    longer = SMALL.model_copy(update={"context": context + 1})
    assert small_peak(longer) > limit
    assert not context or small_peak(SMALL.model_copy(update={"context": context})) <= limit


@given(st.integers(1, 1000), st.integers(0, 10_000), st.integers(1, 500))
def test_the_largest_whole_number(slope, limit, most) -> None:
    assert largest_whole(lambda n: slope * n, limit, most=most) == min(limit // slope, most)


moments = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 10)), min_size=1, max_size=4)


@given(moments, st.floats(1, 1000))
def test_the_largest_batch_fits_and_one_more_does_not(lines, limit) -> None:
    def memory_of(batch: int) -> float:
        asked.append(batch)
        return max(start + slope * batch for start, slope in lines)

    asked: list[int] = []
    found = largest_batch(memory_of, limit, most=10**6)
    assert len(asked) == len(set(asked))
    assert found == 0 or memory_of(found) <= limit
    assert found == 10**6 or memory_of(found + 1) > limit


@pytest.mark.parametrize(
    ("memory_of", "best", "max_calls"),
    [
        (lambda n: 5e9 + 0.11e9 * n, 172, 4),
        (lambda n: max(20e9, 2e9 + 0.5e9 * n), 44, 7),  # the optimizer's moment is the fullest at first
        (lambda n: max(3e9 + 1e9 * n, 1e9 + 1.5e9 * n), 15, 6),
        (lambda n: 30e9, 0, 1),
    ],
)
def test_few_calls_find_the_largest_batch(memory_of, best, max_calls) -> None:
    asked: list[int] = []
    assert largest_batch(lambda n: asked.append(n) or memory_of(n), 24e9) == best
    assert len(asked) <= max_calls
