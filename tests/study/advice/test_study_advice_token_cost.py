"""What a token costs: operations as the spec counts them, time as plans and limits give it, memory as formats do."""

from __future__ import annotations

import pytest

from kleiber.cost import described_device
from kleiber.cost.usage import Usage
from kleiber.study.advice.served import PLAIN, Request, Served
from kleiber.study.advice.token_cost import GPTCosts
from kleiber.study.gpt_layouts import gpt_step_time_s
from kleiber.study.place import Place

DEVICE = described_device({"bf16": 1e14}, 80e9, 1e12, usd_per_hour=3.6)
USAGE = Usage(batch_size=4, precision="bf16")
REQUEST = Request(prompt_tokens=256, new_tokens=64, batch=8)


@pytest.fixture(scope="module")
def costs() -> GPTCosts:
    return GPTCosts(
        Place(DEVICE), USAGE, REQUEST, vocab_size=8192, context=512, convention="total", weight_bytes=2.0
    )


def test_operations_are_those_of_the_spec_and_time_is_that_of_a_plan(costs):
    sized = costs.chosen(2e8)
    spec = sized.spec
    assert sized.num_params == spec.count().total == pytest.approx(2e8, rel=0.05)
    assert sized.training.flops == pytest.approx(spec.flops(4).total / (4 * 512))
    assert sized.training.device_s == pytest.approx(gpt_step_time_s(spec, USAGE, DEVICE) / (4 * 512))
    assert sized.serving(PLAIN).flops == pytest.approx(spec.flops(1, 320).forward / 320)


def test_a_written_token_takes_the_reading_of_weights_and_cache(costs):
    sized = costs.chosen(2e8)
    spec = sized.spec
    # keys and values in bf16 of 8 requests, 256 read and half of 64 written, and the token itself
    cache = 2 * spec.depth * spec.kv_width * 2 * 8 * 289
    kernels_s = 3e-6 * (10 * spec.depth + 3)
    weights_s, cache_s = (num / (0.87 * 0.85 * 1e12) for num in (2 * spec.count().total, cache))
    assert sized.token_s(PLAIN) == pytest.approx(weights_s + cache_s + kernels_s)
    # what is compressed to a quarter of the bytes reads a quarter of the weights, and all of the cache
    assert sized.token_s(Served(bytes_ratio=0.25)) == pytest.approx(weights_s / 4 + cache_s + kernels_s)
    assert sized.token_s(Served(bytes_ratio=0.25, write_time_ratio=0.5)) == pytest.approx(
        (weights_s + cache_s + kernels_s) / 2
    )


def test_a_served_token_is_read_or_written_in_the_shares_of_a_request(costs):
    sized = costs.chosen(2e8)
    plain, faster = sized.serving(PLAIN), sized.serving(Served(read_time_ratio=0.0, write_time_ratio=1.0))
    assert faster.device_s == pytest.approx(64 * sized.token_s(PLAIN) / 8 / 320)
    assert plain.device_s > faster.device_s


def test_memory_is_of_weights_and_the_cache_of_a_batch(costs):
    sized = costs.chosen(2e8)
    held = sized.memory(Served(bytes_ratio=0.5))
    assert held.weight_bytes == sized.num_params
    assert held.cache_bytes == 2 * sized.spec.depth * sized.spec.kv_width * 2 * 8 * 320
    assert held.total_bytes == held.weight_bytes + held.cache_bytes


def test_between_sizes_costs_are_near_those_of_the_size_that_exists(costs):
    for size in (3e6, 5e7, 2e9):
        sized = costs.chosen(size)
        assert costs.training(sized.num_params).flops == pytest.approx(sized.training.flops, rel=0.05)
        assert costs.serving(sized.num_params).device_s == pytest.approx(
            sized.serving(PLAIN).device_s, rel=0.1
        )


def test_small_models_have_the_dials_shape_too(costs):
    for size in (2e5, 6e5, 2e6, 1e7):
        sized = costs.chosen(size)
        assert sized.num_params == pytest.approx(size, rel=0.4)
        assert sized.spec.depth <= 2 + sized.spec.width / 40


def test_large_models_have_widths_of_whole_tiles(costs):
    for size in (1e9, 3e9, 2e10):
        sized = costs.chosen(size)
        assert sized.spec.width % 128 == 0
        assert sized.num_params == pytest.approx(size, rel=0.05)
