from __future__ import annotations

import numpy as np
import pytest

from kleiber.scaling.form import Design, coefficients_of, log_loss_and_jacobian, predict_loss

DESIGN = Design.of(np.array([1e5, 1e6, 3e7]), np.array([1e7, 2e8, 1e9]))
THETA = np.array([[0.5, -0.3, -0.9, 0.34, 0.28], [-1.0, 0.7, 0.1, 0.9, 0.05]])


def test_the_design_is_centred():
    assert DESIGN.log_n.sum() == pytest.approx(0, abs=1e-12)
    assert DESIGN.log_n[1] + DESIGN.mean_log_n == pytest.approx(np.log(1e6))
    assert DESIGN.log_d[2] + DESIGN.mean_log_d == pytest.approx(np.log(1e9))


def test_log_loss_equals_the_formula_in_plain_coefficients():
    loss, _ = log_loss_and_jacobian(THETA, DESIGN)
    plain = predict_loss(coefficients_of(THETA, DESIGN), np.array([1e5, 1e6, 3e7]), np.array([1e7, 2e8, 1e9]))
    np.testing.assert_allclose(np.exp(loss), plain, rtol=1e-12)


def test_the_jacobian_equals_central_differences():
    _, jacobian = log_loss_and_jacobian(THETA, DESIGN)
    for k in range(5):
        nudge = np.zeros((1, 5))
        nudge[0, k] = 1e-6
        difference = (
            log_loss_and_jacobian(THETA + nudge, DESIGN)[0] - log_loss_and_jacobian(THETA - nudge, DESIGN)[0]
        ) / 2e-6
        np.testing.assert_allclose(jacobian[..., k], difference, atol=1e-8)


def test_terms_that_would_overflow_do_not():
    loss, _ = log_loss_and_jacobian(np.array([[900.0, 0.0, 0.0, 0.3, 0.3]]), DESIGN)
    np.testing.assert_allclose(loss, 900.0)


def test_an_e_that_no_row_can_see_is_zero():
    assert coefficients_of(np.array([[-20.0, 0.5, 0.5, 0.3, 0.3]]), DESIGN)[0, 0] == 0.0
    assert coefficients_of(np.array([[-5.0, 0.5, 0.5, 0.3, 0.3]]), DESIGN)[0, 0] == pytest.approx(np.exp(-5))


def test_a_loss_worked_by_hand():
    # 2 + 8 / 16^0.5 + 9 / 81^0.25 = 2 + 2 + 3
    assert predict_loss(np.array([[2.0, 8.0, 9.0, 0.5, 0.25]]), 16, 81)[0, 0] == pytest.approx(7.0)
