from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import huber as scipy_huber

from kleiber.scaling.forms import CHINCHILLA, Design
from kleiber.scaling.refine import HUBER_DELTA, huber, refine


def sampled(seed: int, num_rows: int, noise: float) -> tuple[Design, np.ndarray]:
    random = np.random.default_rng(seed)
    n, d = 10 ** random.uniform(7, 10, num_rows), 10 ** random.uniform(8.5, 11, num_rows)
    loss = 1.8 + 480 * n**-0.35 + 2000 * d**-0.37
    return Design.of({"N": n, "D": d}), np.log(loss) + noise * random.standard_t(3, num_rows)


def objective(theta: np.ndarray, design: Design, log_loss: np.ndarray) -> tuple[float, np.ndarray]:
    """The same objective written another way, for scipy."""
    e, a, b, alpha, beta = theta
    predicted = np.log(np.exp(e) + np.exp(a - alpha * design.logs["N"]) + np.exp(b - beta * design.logs["D"]))
    _, jacobian = CHINCHILLA.fitted_and_jacobian(theta[None], design)
    residual = predicted - log_loss
    slope = np.clip(residual, -HUBER_DELTA, HUBER_DELTA)
    return float(scipy_huber(HUBER_DELTA, residual).sum()), slope @ jacobian[0]


def test_huber_equals_scipys():
    residuals = np.linspace(-0.01, 0.01, 41)
    np.testing.assert_allclose(huber(residuals), scipy_huber(HUBER_DELTA, residuals), rtol=1e-12)


@pytest.mark.parametrize(
    ("seed", "num_rows", "noise"), [(0, 240, 0.008), (1, 60, 0.003), (2, 24, 0.01), (3, 120, 0.0003)]
)
def test_no_optimizer_of_scipys_finds_a_lower_objective(seed, num_rows, noise):
    design, log_loss = sampled(seed, num_rows, noise)
    ones = np.ones((1, num_rows))
    start = CHINCHILLA.starts(design, np.exp(log_loss)[None], ones)[0]
    theta, found = refine(CHINCHILLA, start, design, log_loss[None], ones)
    rivals = []
    for first in (start[0], theta[0]):
        for method in ("BFGS", "L-BFGS-B", "Nelder-Mead"):
            options = {"maxiter": 4000} if method == "Nelder-Mead" else {"maxiter": 4000, "gtol": 1e-14}
            if method == "Nelder-Mead":
                result = minimize(
                    lambda t: objective(t, design, log_loss)[0], first, method=method, options=options
                )
            else:
                result = minimize(objective, first, (design, log_loss), method, jac=True, options=options)
            rivals.append(result.fun)
    assert found[0] == pytest.approx(objective(theta[0], design, log_loss)[0], rel=1e-12)
    assert found[0] <= min(rivals) * (1 + 1e-7)
    # The sum is stationary: no direction is left in which it falls.
    assert np.abs(objective(theta[0], design, log_loss)[1]).max() < 1e-7


def test_a_row_of_weight_two_counts_as_two_rows():
    design, log_loss = sampled(5, 20, 0.004)
    doubled = Design(
        {name: np.append(values, values[0]) for name, values in design.logs.items()}, design.means
    )
    weights = np.ones((1, 20))
    weights[0, 0] = 2.0
    start = CHINCHILLA.starts(design, np.exp(log_loss)[None], weights)[0]
    weighted, first = refine(CHINCHILLA, start, design, log_loss[None], weights)
    repeated, second = refine(
        CHINCHILLA, start, doubled, np.append(log_loss, log_loss[0])[None], np.ones((1, 21))
    )
    assert first == pytest.approx(second, rel=1e-9)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-4)


def test_problems_side_by_side_do_not_touch_each_other():
    design, first = sampled(6, 30, 0.004)
    second = first + np.linspace(0, 0.05, 30)
    ones = np.ones((2, 30))
    starts = CHINCHILLA.starts(design, np.exp(np.stack([first, second])), ones)[:, 0]
    together, _ = refine(CHINCHILLA, starts, design, np.stack([first, second]), ones)
    alone, _ = refine(CHINCHILLA, starts[1:], design, second[None], ones[1:])
    np.testing.assert_allclose(together[1], alone[0], rtol=1e-9)


def test_parameters_stay_in_their_box_when_the_rows_pull_them_out():
    # A loss that does not depend on tokens at all: B and beta are free to run away.
    n, d = np.geomspace(1e5, 1e8, 12), np.tile([1e8, 1e9, 1e10], 4)
    log_loss = np.log(30 * n**-0.2)
    design, ones = Design.of({"N": n, "D": d}), np.ones((1, 12))
    theta, found = refine(
        CHINCHILLA, CHINCHILLA.starts(design, np.exp(log_loss)[None], ones)[0], design, log_loss[None], ones
    )
    assert np.isfinite(theta).all()
    assert 0.01 <= theta[0, 4] <= 3.0
    assert found[0] < 1e-8
    assert theta[0, 3] == pytest.approx(0.2, abs=0.01)


def test_it_stops_where_it_is_told():
    design, log_loss = sampled(0, 60, 0.008)
    ones = np.ones((1, 60))
    start = CHINCHILLA.starts(design, np.exp(log_loss)[None], ones)[0]
    _, none = refine(CHINCHILLA, start, design, log_loss[None], ones, max_steps=0)
    _, some = refine(CHINCHILLA, start, design, log_loss[None], ones, max_steps=2)
    _, many = refine(CHINCHILLA, start, design, log_loss[None], ones)
    assert none[0] > some[0] > many[0]
