from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from kleiber.scaling.forms import CHINCHILLA, Design
from kleiber.scaling.forms.power_sum import EXPONENTS


def sampled(seed: int, num_rows: int = 30) -> tuple[Design, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    n, d = 10 ** random.uniform(5, 9, num_rows), 10 ** random.uniform(7, 11, num_rows)
    loss = (1.7 + 400 * n**-0.34 + 410 * d**-0.28) * np.exp(random.normal(0, 0.02, num_rows))
    return Design.of({"N": n, "D": d}), loss, random.integers(0, 3, num_rows).astype(float)


@pytest.mark.parametrize("seed", range(4))
def test_the_best_grid_point_and_its_terms_equal_scipys_nnls_on_the_whole_grid(seed):
    design, loss, weights = sampled(seed)
    root = np.sqrt(weights)
    found = {}
    for alpha in EXPONENTS:
        for beta in EXPONENTS:
            terms = np.stack(
                [np.ones_like(loss), np.exp(-alpha * design.logs["N"]), np.exp(-beta * design.logs["D"])],
                axis=1,
            )
            solution, norm = nnls(terms * (root / loss)[:, None], root)
            found[alpha, beta] = (norm, solution)
    (alpha, beta), (_, solution) = min(found.items(), key=lambda item: item[1][0])
    theta = CHINCHILLA.starts(design, loss[None], weights[None])[0, 0]
    assert theta[3:] == pytest.approx([alpha, beta])
    np.testing.assert_allclose(np.exp(theta[:3]), np.maximum(solution, 1e-5 * loss.min()), rtol=1e-5)


def test_a_term_that_least_squares_would_make_negative_is_left_out():
    # The loss grows with tokens: B would be negative.
    n = np.array([1e5, 1e6, 1e7, 1e5, 1e6, 1e7])
    d = np.array([1e8, 1e8, 1e8, 1e9, 1e9, 1e9])
    loss = 1 + 100 * n**-0.3 + 0.1 * np.log10(d)
    theta = CHINCHILLA.starts(Design.of({"N": n, "D": d}), loss[None], np.ones((1, 6)), num_starts=5)[0]
    assert theta.shape == (5, 5)
    assert np.isfinite(theta).all()
    np.testing.assert_allclose(np.exp(theta[:, 2]), 1e-5 * loss.min())
    # The others are fitted anew without it.
    terms = np.stack([np.ones(6), np.exp(-theta[0, 3] * np.log(n / 1e6)), np.zeros(6)], axis=1)
    rest, _ = nnls(terms / loss[:, None], np.ones(6))
    np.testing.assert_allclose(np.exp(theta[0, :2]), rest[:2], rtol=1e-5)


def test_many_problems_at_once_equal_each_by_itself():
    design, loss, weights = sampled(1)
    _, other, _ = sampled(2)
    both = CHINCHILLA.starts(design, np.stack([loss, other]), np.stack([weights, weights + 1]), num_starts=3)
    np.testing.assert_allclose(
        both[1], CHINCHILLA.starts(design, other[None], weights[None] + 1, num_starts=3)[0], rtol=1e-9
    )


def test_starts_come_best_first():
    design, loss, weights = sampled(0)
    starts = CHINCHILLA.starts(design, loss[None], weights[None], num_starts=6)[0]
    errors = []
    for e, a, b, alpha, beta in starts:
        fitted = np.exp(e) + np.exp(a - alpha * design.logs["N"]) + np.exp(b - beta * design.logs["D"])
        errors.append(float((weights * (fitted / loss - 1) ** 2).sum()))
    assert errors == sorted(errors)
    assert len(set(errors)) == 6
