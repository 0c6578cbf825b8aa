from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.errors import KleiberError, UsageError
from kleiber.infer.engines import EngineName
from kleiber.infer.measure import (
    DecodeWork,
    EngineFigures,
    ForwardWork,
    Opening,
    measure,
    peak_memory_bytes,
    staged_decode,
    staged_forward,
)
from kleiber.infer.measure.ratio import median_estimate, ratio_estimate
from kleiber.infer.measure.turns import in_turns, num_calls_for, saturation_batch
from kleiber.models import build
from kleiber.models.gpt import GPTSpec
from kleiber.models.mlp import MLPSpec
from kleiber.models.stored import Activations
from kleiber.runs import DataShape

SPEC = GPTSpec.from_dial({"depth": 2, "width": 32}, vocab_size=300, context=32)
TOKENS = np.random.default_rng(0).integers(0, 300, (2, 32))


class Clock:
    """Time that passes when a predictor computes, and not otherwise."""

    now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s


CLOCK = Clock()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kleiber.infer.measure.work.time", CLOCK)


class Sleeper:
    """A predictor that takes a known time: so much a call, and more where samples are beyond those that come free."""

    engine, precision = "torch", "fp32"

    def __init__(self, call_s: float, *, num_free: int = 4) -> None:
        self.call_s, self.num_free = call_s, num_free
        self.batches: list[int] = []

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        self.batches.append(len(inputs[0]))
        CLOCK.now_s += self.call_s * max(1, self.batches[-1] / self.num_free)
        return np.zeros(self.batches[-1])


def test_figures_of_known_times(clock: None) -> None:
    slow, fast = (ForwardWork(Sleeper(call_s), [np.zeros((3, 2))]) for call_s in (2e-3, 1e-3))
    figures = measure(
        {"slow": slow, "fast": fast}, "slow", num_threads=1, num_rounds=3, block_s=4e-3, max_batch=16
    )
    assert [one.name for one in figures] == ["slow", "fast"]
    for one, latency_s, gain in zip(figures, (2e-3, 1e-3), (1, 2), strict=True):
        for estimate, expected in (
            (one.latency_s, latency_s),
            (one.latency_gain, gain),
            (one.throughput_per_s, 4 / latency_s),
            (one.throughput_gain, gain),
        ):
            assert [estimate.low, estimate.value, estimate.high] == pytest.approx([expected] * 3)
        assert (one.saturation_batch, one.num_rounds, one.num_threads) == (4, 3, 1)
        assert (one.engine, one.workload, one.peak_memory_bytes) == ("torch", "forward", None)
    assert EngineFigures.model_validate_json(figures[1].model_dump_json()) == figures[1]


def test_inputs_are_repeated_to_the_batch_and_one_call_is_not_counted() -> None:
    predictor = Sleeper(0.0)
    assert ForwardWork(predictor, [np.zeros((3, 2)), np.zeros((3, 1))]).turn(7)(2) >= 0
    assert predictor.batches == [7, 7, 7]


class Counter:
    """A decoder that remembers where it was asked to go on."""

    engine, precision, notes, context = "torch", "fp32", (), 32

    def __init__(self) -> None:
        self.length, self.decoded_at, self.prefills = 0, [], []

    def prefill(self, tokens_BT: np.ndarray) -> None:
        self.prefills.append(tokens_BT.shape)
        self.length = tokens_BT.shape[1]

    def decode(self, tokens_B: np.ndarray) -> None:
        assert tokens_B.tolist() == TOKENS[[0, 1, 0], self.length].tolist()
        self.decoded_at.append(self.length)
        self.length += 1


def test_tokens_are_decoded_around_the_middle_of_the_context() -> None:
    counter = Counter()
    work = DecodeWork(counter, TOKENS)
    work.turn(3)(work.max_calls)
    assert counter.prefills == [(3, 11)]
    assert counter.decoded_at == [11, *range(12, 20)]  # the first is not timed; the others are around 16
    work.turn(3)(1)
    assert counter.decoded_at[-1] == 16


def test_every_round_has_every_turn_once_in_another_order() -> None:
    said: list[str] = []

    def turn(name: str) -> float:
        said.append(name)
        return float(len(said))

    times_s = in_turns({name: lambda name=name: turn(name) for name in "abc"}, 6)
    rounds = ["".join(said[3 * index : 3 * index + 3]) for index in range(6)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 2
    assert times_s["a"].tolist() == [3 * index + one.index("a") + 1 for index, one in enumerate(rounds)]


def test_a_block_has_as_many_calls_as_fit() -> None:
    assert num_calls_for(lambda _: 0.01, 0.1, 1000) == 10
    assert num_calls_for(lambda _: 0.01, 0.1, 4) == 4
    assert num_calls_for(lambda _: 1.0, 0.1, 4) == 1


@given(st.integers(0, 8), st.integers(0, 10))
def test_the_batch_is_doubled_while_it_gains(log_free: int, log_most: int) -> None:
    # Up to the free ones a call costs the same; beyond, twice the samples cost twice the time.
    batch = saturation_batch(lambda batch: max(1.0, batch / 2**log_free), 2**log_most)
    assert batch == 2 ** min(log_free, log_most)


def test_a_gain_below_a_twentieth_is_none() -> None:
    for exponent, expected in ((0.9, 64), (0.95, 1)):  # 2^0.1 is 7%, 2^0.05 is 3.5%
        assert saturation_batch(lambda batch, e=exponent: batch**e, 64) == expected


def test_one_batch_that_stalls_is_passed_over() -> None:
    rates = {1: 1.0, 2: 0.7, 4: 2.0, 8: 2.01, 16: 2.02, 32: 9.0}
    asked = []

    def seconds(batch: int) -> float:
        asked.append(batch)
        return batch / rates[batch]

    assert saturation_batch(seconds, 64) == 4
    assert asked == [1, 2, 4, 8, 16]


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=30), st.floats(0.1, 10))
@settings(max_examples=30)
def test_what_slows_a_round_slows_both(rounds: list[float], factor: float) -> None:
    values = np.array(rounds)
    ratio = ratio_estimate(factor * values, values)
    assert ratio.value == pytest.approx(factor)
    assert (ratio.low, ratio.high) == (pytest.approx(factor), pytest.approx(factor))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    held = 0
    for seed in range(60):
        tops, bottoms = (mean * np.exp(0.1 * random.standard_normal(25)) for mean in (3.0, 1.5))
        ratio = ratio_estimate(tops, bottoms, seed=seed)
        held += ratio.low <= 2.0 <= ratio.high
    assert 51 <= held <= 60
    wide = median_estimate(np.array([1.0, 2.0, 3.0, 4.0, 100.0]))
    assert (wide.value, wide.low, wide.high) == (3, 1, 100)


def opened_sleeper(call_s: float, num_bytes: int) -> ForwardWork:
    """What the fresh process of the test below opens."""
    predictor = Sleeper(call_s)
    predictor.held = np.ones(num_bytes // 8)
    return ForwardWork(predictor, [np.zeros((1, 1))])


def test_memory_is_that_of_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    opening = Opening(
        function=f"{Path(__file__).stem}:opened_sleeper", arguments={"call_s": 0.0, "num_bytes": 50_000_000}
    )
    assert peak_memory_bytes(opening) == pytest.approx(50e6, rel=0.1)
    broken = opening.model_copy(update={"arguments": {"call_s": 0.0}})
    with pytest.raises(KleiberError, match=r"opened_sleeper cannot be measured: TypeError.*num_bytes"):
        peak_memory_bytes(broken)


def test_a_staged_model_says_what_the_module_says(tmp_path: Path) -> None:
    module = build(SPEC, seed=0).eval()
    forward = staged_forward("torch", tmp_path / "f", module, SPEC, [TOKENS], num_threads=1)
    decode = staged_decode(
        "torch", tmp_path / "d", module, SPEC, TOKENS, num_threads=1, activations=Activations(cache_bits=8)
    )
    works = forward.open(), decode.open()
    assert [(work.workload, work.precision) for work in works] == [
        ("forward", "fp32"),
        ("decode", "fp32, int8 cache"),
    ]
    said = works[0]._predictor(TOKENS)
    assert np.allclose(said, module(torch.from_numpy(TOKENS)).detach().numpy(), atol=1e-6)
    assert works[1].turn(2)(3) > 0


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_model_staged_for_an_engine_says_what_the_module_says(engine: EngineName, tmp_path: Path) -> None:
    pytest.importorskip(engine)
    shape = DataShape(inputs="features", num_features=6, num_outputs=3)
    spec = MLPSpec.of_size({"depth": 1, "width": 4}, shape)
    module, inputs = (
        build(spec, seed=0).eval(),
        np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32),
    )
    staged = staged_forward(engine, tmp_path, module, spec, [inputs], num_threads=1)
    work = Opening.model_validate_json(staged.model_dump_json()).open()
    assert (work.engine, work.workload, work.precision, work.notes) == (engine, "forward", "fp32", ())
    assert staged.packages == (engine,)
    said = work._predictor(inputs)
    assert np.allclose(said, module(torch.from_numpy(inputs)).detach().numpy(), atol=1e-6)
    assert work.turn(3)(2) > 0


def test_what_cannot_be_measured() -> None:
    forward, decode = ForwardWork(Sleeper(0.0), [np.zeros((1, 1))]), DecodeWork(Counter(), TOKENS)
    with pytest.raises(UsageError, match=r"the reference 'b' is not measured. Measured: a"):
        measure({"a": forward}, "b", num_threads=1)
    with pytest.raises(UsageError, match="must do the same work"):
        measure({"a": forward, "b": decode}, "a", num_threads=1)
    with pytest.raises(UsageError, match=r"at least 2 rounds. Got 1"):
        measure({"a": forward}, "a", num_threads=1, num_rounds=1)
