"""One contract for every form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from kleiber.errors import UsageError
from kleiber.scaling.bootstrap import estimate
from kleiber.scaling.forms import FORMS, INPUTS, Design, form_of
from kleiber.scaling.refine import HUBER_DELTA, huber

RANDOM = np.random.default_rng(0)
POINTS = {
    "N": 10 ** RANDOM.uniform(7, 9.5, 60),
    "D": 10 ** RANDOM.uniform(8, 11, 60),
    "S": 10 ** RANDOM.uniform(-1.2, 0, 60),
}
POINTS["U"] = POINTS["D"] / 10 ** RANDOM.choice([0.0, 0.3, 0.8, 1.4], 60)
POINTS["C"] = 6 * POINTS["N"] * POINTS["D"]

TRUTH = {
    "chinchilla": (1.8, 480.0, 2000.0, 0.35, 0.37),
    "tied": (1.8, 480.0, 2000.0, 0.36),
    "power_N": (1.8, 480.0, 0.35),
    "power_D": (1.8, 2000.0, 0.37),
    "power_C": (1.8, 1e4, 0.2),
    "kaplan": (6.4e13, 1.8e13, 0.076, 0.103),
    "quadratic": (9.0, -0.25, -0.3, 0.003, 0.001, 0.004),
    "farseer": (-0.124, 0.424, 88.0, -6.3, -0.02, 0.9, 0.12, -0.1, 0.17),
    "repeated": (1.87, 521.0, 1488.0, 0.353, 0.353, 15.4, 5.3),
    "mixture": (0.94, 1.6e4, 5455.0, 0.4598, 17.26, 0.5962, 0.3954, -0.1666, 0.16, 0.1595),
    "accuracy": (3.0, 150.0, 300.0, 0.3, 0.27),
}

TELLS = {"mixture": 0.02, "farseer": 1e-3}
"""How near the losses of a fit without noise come where coefficients trade places; elsewhere 1e-5."""


def data_of(name):
    form = FORMS[name]
    points = {key: POINTS[key] for key in form.inputs}
    return form, points, form.value(np.array([TRUTH[name]]), points)[0]


def near(form, points, values):
    return estimate(form, Design.of(points), form.response_of(values))


def test_every_form_has_a_truth_here():
    assert set(TRUTH) == set(FORMS)
    assert {name for form in FORMS.values() for name in form.inputs} == set(INPUTS)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_says_what_it_is(name):
    form = FORMS[name]
    assert form.name == name
    assert form.source
    assert form.equation
    assert all(one.meaning for one in form.coefficients)
    assert len(set(form.names)) == len(form.names) == len(TRUTH[name])
    assert set(form.nonlinear) <= set(form.names)


@pytest.mark.parametrize("name", FORMS)
def test_the_jacobian_equals_central_differences(name):
    form, points, values = data_of(name)
    design = Design.of(points)
    theta = form.starts(design, values[None], np.ones((1, 60)), num_starts=1)[0]
    theta = theta + 0.05 * np.random.default_rng(1).standard_normal(theta.shape)
    _, jacobian = form.fitted_and_jacobian(theta, design)
    for k in range(theta.shape[1]):
        nudge = np.zeros_like(theta)
        nudge[:, k] = 1e-6
        high, low = (form.fitted_and_jacobian(theta + sign * nudge, design)[0] for sign in (1, -1))
        np.testing.assert_allclose(jacobian[..., k], (high - low) / 2e-6, atol=2e-7, rtol=1e-5)


@pytest.mark.parametrize("name", FORMS)
def test_plain_coefficients_give_the_same_values(name):
    form, points, values = data_of(name)
    design = Design.of(points)
    theta = form.starts(design, np.stack([values, values * 0.9]), np.ones((2, 60)))[:, 0]
    plain = form.value(form.coefficients_of(theta, design), points)
    np.testing.assert_allclose(form.value_of(form.fitted_and_jacobian(theta, design)[0]), plain, rtol=1e-8)


@pytest.mark.parametrize("name", FORMS)
def test_a_fit_finds_the_losses_it_was_made_of(name):
    form, points, values = data_of(name)
    theta, _ = near(form, points, values)
    found = form.value(form.coefficients_of(theta, Design.of(points)), points)[0]
    np.testing.assert_allclose(found, values, rtol=TELLS.get(name, 1e-5))
    if name not in TELLS:
        np.testing.assert_allclose(form.coefficients_of(theta, Design.of(points))[0], TRUTH[name], rtol=0.02)


@pytest.mark.parametrize("name", [name for name in FORMS if name not in {"accuracy", "mixture"}])
def test_no_restart_finds_a_lower_objective_on_losses_of_another_form(name):
    form = FORMS[name]
    points = {key: POINTS[key] for key in form.inputs}
    noise = 0.01 * np.random.default_rng(2).standard_t(4, 60)
    target = np.log(FORMS["chinchilla"].value(np.array([TRUTH["chinchilla"]]), POINTS)[0]) + noise
    design = Design.of(points)
    theta, objective = estimate(form, design, target)
    low, high = form.box(np.exp(target)[None])
    bounds = list(zip(low[0], high[0], strict=True))

    def summed(vector):
        fitted, jacobian = form.fitted_and_jacobian(vector[None], design)
        off = fitted[0] - target
        return float(huber(off).sum()), np.clip(off, -HUBER_DELTA, HUBER_DELTA) @ jacobian[0]

    random, rivals = np.random.default_rng(3), []
    for spread in (0.05, 0.05, 0.3, 0.3):
        start = theta[0] + spread * random.standard_normal(len(theta[0])) * np.maximum(np.abs(theta[0]), 0.1)
        start = np.clip(start, low[0], high[0])
        rivals.append(
            minimize(summed, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000}).fun
        )
    assert objective == pytest.approx(summed(theta[0])[0])
    assert objective <= min(rivals) * 1.002


@pytest.mark.parametrize("name", FORMS)
def test_theta_stays_in_its_box(name):
    form, points, values = data_of(name)
    low, high = form.box(values[None])
    theta, _ = near(form, points, values)
    assert low.shape == high.shape == theta.shape
    assert (low <= theta).all()
    assert (theta <= high).all()


def test_losses_worked_by_hand():
    def value(name, coefficients, **inputs):
        form = FORMS[name]
        return float(
            form.value(np.array([coefficients]), {k: np.array([v]) for k, v in inputs.items()})[0, 0]
        )

    # 2 + 8 / 16^0.5 + 9 / 81^0.25 = 2 + 2 + 3
    assert value("chinchilla", (2.0, 8.0, 9.0, 0.5, 0.25), N=16.0, D=81.0) == pytest.approx(7.0)
    assert value("tied", (2.0, 8.0, 18.0, 0.5), N=16.0, D=81.0) == pytest.approx(6.0)
    # ((64/4)^(1/2) + 12/2)^2 = (4 + 6)^2
    assert value("kaplan", (64.0, 12.0, 1.0, 2.0), N=4.0, D=2.0) == pytest.approx(100.0)
    assert value("quadratic", (1.0, 2.0, 3.0, 0.5, 0.25, 0.125), N=1.0, D=1.0) == pytest.approx(np.e)
    assert value(
        "mixture", (1.0, 8.0, 9.0, 2.0, 12.0, 0.5, 0.25, 1.0, -1.0, 0.5), N=16.0, D=81.0, S=0.5
    ) == pytest.approx(1 + 2 + 3 + 4 + 1.5)
    assert value("accuracy", (0.0, 0.0, 0.0, 1.0, 1.0), N=1.0, D=1.0) == 0.5
    # Once over the data nothing counts for less.
    many = (2.0, 8.0, 9.0, 0.5, 0.25, 15.4, 5.3)
    assert value("repeated", many, N=16.0, D=81.0, U=81.0) == pytest.approx(
        value("chinchilla", many[:5], N=16.0, D=81.0)
    )
    # N_opt of 81 tokens: 0.5 * 8 / N^0.5 = 0.25 * 9 / 3, N = 28.4: 16 parameters are no excess, 100 are.
    assert value("repeated", many, N=100.0, D=81.0, U=81.0) > value("chinchilla", many[:5], N=100.0, D=81.0)
    # exp(0) + exp(0) * 4^-exp(log 2 * 0 + 0)
    assert value("farseer", (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0), N=5.0, D=4.0) == pytest.approx(
        1.25
    )


def test_chance_is_the_floor_of_accuracies():
    form = form_of("accuracy", chance=0.25)
    low = form.value(np.array([[2.0, 1e6, 1e6, 0.3, 0.3]]), {"N": np.array([1e3]), "D": np.array([1e3])})
    assert low[0, 0] == pytest.approx(0.25)
    with pytest.raises(UsageError, match=r"chance must be from 0 to below 1\. Got 1\.0"):
        form_of("accuracy", chance=1.0)
    with pytest.raises(UsageError, match="chance has no effect on the form 'kaplan'"):
        form_of("kaplan", chance=0.5)
    with pytest.raises(UsageError, match=r"'kaplann' is not a form\. Did you mean 'kaplan'"):
        form_of("kaplann")
