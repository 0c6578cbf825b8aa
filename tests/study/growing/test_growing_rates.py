import math

import numpy as np
import pytest

from kleiber.study.growing.gradients import noise_scale, packed_bytes
from kleiber.study.growing.rates import MAX_SHORT_RUNS, bisect_rate, tune


@pytest.mark.parametrize("edge", [1.3, 3.0, 10.0, 77.0, 900.0])
def test_bisection_brackets_the_edge_within_a_root_of_two(edge):
    factors, losses = bisect_rate(lambda factor: 1.0 if factor <= edge else 1.9, 2.0)
    learnt = [factor for factor, loss in zip(factors, losses, strict=True) if loss == 1.0]
    failed = [factor for factor in factors if factor not in learnt]
    assert max(learnt) <= edge < min(failed)
    assert min(failed) / max(learnt) <= math.sqrt(2) * 1.001
    assert len(factors) <= MAX_SHORT_RUNS


def test_half_of_what_the_usual_rate_learns_is_enough():
    losses = {1.0: 1.0, 4.0: 1.49, 16.0: 1.51}
    factors, _ = bisect_rate(lambda factor: losses.get(factor, 3.0), 2.0)
    assert factors[:3] == [1.0, 4.0, 16.0]
    assert max(factors[3:]) < 16.0


def test_a_rate_that_never_learns_and_one_that_always_does():
    assert bisect_rate(lambda _: math.nan, 2.0)[0] == [1.0]
    factors, _ = bisect_rate(lambda _: 1.0, 2.0)
    assert factors == [4.0**k for k in range(7)]


def test_a_usual_rate_that_only_guesses_has_no_edge():
    # ln 10 is 2.3026; a loss of 2.3053 after 2.4 at the start has learnt nothing, and half of that means nothing.
    assert bisect_rate(lambda _: 2.3053, 2.4, math.log(10))[0] == [1.0]
    assert len(bisect_rate(lambda _: 2.2, 2.4, math.log(10))[0]) > 1


def test_tuning_goes_downhill_and_stops_at_its_edge():
    assert tune(lambda factor: (math.log2(factor) + 1) ** 2)[1] == 0.5
    assert tune(lambda factor: -factor)[1] == 64.0
    assert tune(lambda factor: factor)[1] == 2.0**-8
    losses, best = tune(lambda factor: math.nan if factor > 1 else factor)
    assert best == 2.0**-8
    assert losses[2.0] == math.inf


def test_the_noise_scale_of_known_gradients():
    rng = np.random.default_rng(0)
    truth, units = np.full(200, 0.1), 16
    # Each micro-batch of 16 has noise of variance 0.5 a parameter: tr(S) = 16 x 200 x 0.5, |G|^2 = 2.
    gradients = truth + rng.normal(0, math.sqrt(0.5), (32, 200))
    found = noise_scale(gradients, units)
    assert found.low <= 16 * 200 * 0.5 / 2 <= found.high
    assert found.value == pytest.approx(800, rel=0.4)
    # The same gradients in micro-batches that count for twice as much.
    assert noise_scale(gradients, 2 * units).value == pytest.approx(2 * found.value)


def test_noise_alone_has_no_scale():
    rng = np.random.default_rng(3)
    found = [noise_scale(rng.normal(0, 1, (8, 500)), 1) for _ in range(20)]
    assert found.count(None) >= 10


def test_bytes_of_eight_bits_are_a_quarter_and_less_where_they_repeat():
    torch = pytest.importorskip("torch")
    noise = torch.randn(100, 100, generator=torch.Generator().manual_seed(0))
    assert 7000 < packed_bytes([noise]) < 10_800
    assert packed_bytes([torch.ones(100, 100)]) < 1500
    assert packed_bytes([torch.ones(3)]) > 0


def test_where_the_usual_rates_diverge_lower_ones_are_sought():
    losses, best = tune(lambda factor: math.nan if factor > 2**-4 else factor)
    assert best == 2.0**-8
    assert losses[1.0] == math.inf
    assert tune(lambda factor: math.nan if factor > 0.1 else 1 / factor)[1] == 0.0625
