from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from kleiber.errors import KleiberError, UsageError
from kleiber.infer.generation import Sampling, draw, pick, probabilities
from kleiber.infer.generation.logprobs import logprobs

VOCAB = 12


def by_transformers(logits_BV: np.ndarray, sampling: Sampling, seen_BS: np.ndarray) -> np.ndarray:
    """The processors in the order in which `generate` of transformers makes them."""
    parts = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        parts.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    parts.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        parts.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        parts.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        parts.append(MinPLogitsWarper(sampling.min_p))
    # In double precision, as ours: in single a sum may fall on the other side of a bound.
    return parts(torch.from_numpy(seen_BS), torch.from_numpy(logits_BV).double()).softmax(-1).numpy()


@given(
    seed=st.integers(0, 2**32 - 1),
    sampling=st.builds(
        Sampling,
        temperature=st.floats(0.1, 3.0),
        top_k=st.integers(0, VOCAB + 3),
        top_p=st.one_of(st.just(1.0), st.floats(0.01, 0.999)),
        min_p=st.one_of(st.just(0.0), st.floats(0.01, 1.0)),
        repetition_penalty=st.one_of(st.just(1.0), st.floats(0.5, 2.0)),
    ),
)
@settings(max_examples=200)
def test_probabilities_are_those_of_transformers(seed: int, sampling: Sampling) -> None:
    rng = np.random.default_rng(seed)
    logits_BV = rng.normal(0, 3, (3, VOCAB)).astype(np.float32)
    seen_BS = rng.integers(0, VOCAB, (3, 5))
    ours = probabilities(logits_BV.astype(np.float64), sampling, seen_BS.tolist())
    assert np.allclose(ours, by_transformers(logits_BV, sampling, seen_BS), atol=1e-9)
    assert np.allclose(ours.sum(1), 1)


def test_top_k_keeps_what_is_as_likely_as_its_last_as_transformers_does() -> None:
    logits_BV = np.array([[1.0, 2.0, 2.0, 3.0]])
    sampling = Sampling(temperature=1.0, top_k=2)
    kept = probabilities(logits_BV, sampling, [[]])
    assert (kept > 0).tolist() == [[False, True, True, True]]
    assert np.allclose(kept, by_transformers(logits_BV, sampling, np.zeros((1, 0), np.int64)))


def test_of_equally_likely_tokens_top_p_keeps_the_first() -> None:
    kept = probabilities(np.zeros((1, 4)), Sampling(temperature=1, top_p=0.5), [[]])
    assert kept.tolist() == [[0.5, 0.5, 0, 0]]


def test_the_penalty_divides_what_is_positive_and_multiplies_what_is_not() -> None:
    sampling = Sampling(temperature=0, repetition_penalty=2)
    logits_BV = np.array([[3.0, 1.6, -1.0], [-1.0, -3.0, -1.5]])
    assert draw(logits_BV, sampling, [[0, 0], [0]], np.zeros(2)).tolist() == [1, 2]
    assert draw(logits_BV, sampling, [[0, 1], [2, 1]], np.zeros(2)).tolist() == [0, 0]
    assert logits_BV[0, 0] == 3.0  # the engine's memory stays as it is


@given(
    weights=st.lists(st.floats(0, 1), min_size=1, max_size=9).filter(lambda found: sum(found) > 1e-3),
    uniform=st.one_of(st.floats(0, 1, exclude_max=True), st.just(np.nextafter(1.0, 0.0))),
)
@example(weights=[0.0, 0.5, 0.0, 0.5], uniform=0.0)
@example(weights=[0.5, 0.0, 0.5, 0.0], uniform=0.5)
@example(weights=[0.3, 0.3, 0.3, 0.1, 0.0], uniform=1 - 2**-53)
def test_pick_inverts_the_sum_and_never_draws_the_impossible(weights: list[float], uniform: float) -> None:
    token = int(pick(np.array([weights]), np.array([uniform]))[0])
    assert weights[token] > 0
    total = float(np.cumsum(weights)[-1])
    assert sum(weights[:token]) <= uniform * total + 1e-9
    assert uniform * total <= sum(weights[: token + 1]) + 1e-9


@given(seed=st.integers(0, 2**32), num_tokens=st.integers(60, 700), power=st.sampled_from([1, 8, 60]))
def test_of_many_tokens_the_one_is_drawn_whose_sum_passes(seed: int, num_tokens: int, power: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.random((3, num_tokens)) ** power * (rng.random((3, num_tokens)) < 0.5)
    probs[:, -1] += 1e-3
    uniform = np.array([0.0, rng.random(), 1 - 2**-53])
    sums = probs.cumsum(1)
    for token, weights, total, passed in zip(
        pick(probs, uniform), probs, sums, uniform * sums[:, -1], strict=True
    ):
        assert weights[token] > 0
        assert total[token] - weights[token] <= passed + 1e-12 * total[-1]
        assert passed <= total[token] + 1e-12 * total[-1]


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999])
def test_top_p_is_the_same_however_many_tokens_are_sorted_first(
    top_p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 80)) * np.array([[0.0], [0.1], [1.0], [3.0], [9.0]])
    sampling, seen = Sampling(temperature=1, top_p=top_p), [[]] * 5
    whole = probabilities(logits, sampling, seen)
    for num in (1, 4, 30):
        monkeypatch.setattr("kleiber.infer.generation.sampling._LIKELIEST", num)
        np.testing.assert_array_equal(probabilities(logits, sampling, seen), whole)


LOGITS = np.log(np.array([[0.1, 0.5, 0.15, 0.25]]))


def counts(**options: float) -> Counter[int]:
    uniform = np.random.default_rng(0).random(4000)
    drawn = draw(np.repeat(LOGITS, 4000, 0), Sampling(**options), [[]] * 4000, uniform)  # type: ignore[arg-type]
    return Counter(drawn.tolist())


def test_sampling_follows_the_probabilities() -> None:
    drawn = counts(temperature=1.0)
    assert [drawn[token] / 4000 for token in range(4)] == pytest.approx([0.1, 0.5, 0.15, 0.25], abs=0.025)
    # at temperature 0.5 probabilities are squared: 0.25 of 0.345 in all
    assert counts(temperature=0.5)[1] / 4000 == pytest.approx(0.25 / 0.345, abs=0.025)
    assert set(counts(temperature=0)) == {1}
    assert set(counts(temperature=1, top_p=1e-9)) == {1}
    assert set(counts(temperature=1, min_p=0.5)) == {1, 3}
    assert set(counts(temperature=1e-3)) == {1}


def test_greedy_probabilities_are_certain() -> None:
    assert probabilities(LOGITS, Sampling(temperature=0), [[]]).tolist() == [[0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, r"temperature must be 0 or more\. Got -1"),
        ({"temperature": float("nan")}, r"temperature must be 0 or more\. Got nan"),
        ({"top_k": -5}, r"top_k must be 0 \(all tokens\) or more\. Got -5"),
        ({"top_p": 0}, r"top_p must be above 0 and at most 1\. Got 0"),
        ({"top_p": 1.1}, r"top_p must be above 0 and at most 1\. Got 1.1"),
        ({"min_p": 1.1}, r"min_p must be from 0 to 1\. Got 1.1"),
        ({"repetition_penalty": 0}, r"repetition_penalty must be above 0; 1 is none\. Got 0"),
        ({"repetition_penalty": float("inf")}, r"repetition_penalty must be above 0; 1 is none\. Got inf"),
    ],
)
def test_what_is_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sampling(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("damage", [np.nan, np.inf])
def test_weights_that_diverged_are_refused(temperature: float, damage: float) -> None:
    with pytest.raises(KleiberError, match="output is not finite: its weights are damaged"):
        draw(np.array([[0.0, damage]]), Sampling(temperature=temperature), [[]], np.zeros(1))


def test_logprobs_are_those_of_torch() -> None:
    logits_V = np.random.default_rng(0).normal(size=50).astype(np.float32)
    expected = torch.from_numpy(logits_V).double().log_softmax(0)
    said, likeliest = logprobs(logits_V, 7, 5)
    assert said == pytest.approx(float(expected[7]))
    values, tokens = expected.topk(5)
    assert [token for token, _ in likeliest] == tokens.tolist()
    assert [value for _, value in likeliest] == pytest.approx(values.tolist())
    assert logprobs(logits_V, 7, 0) == (said, ())
    assert len(logprobs(logits_V, 7, 99)[1]) == 50
    assert [token for token, _ in logprobs(np.array([1.0, 2.0, 2.0, 1.0]), 0, 3)[1]] == [1, 2, 0]
