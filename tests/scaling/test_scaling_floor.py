"""Kaplan's form above a floor that is given: what rows of small models do not tell."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kleiber.errors import UsageError
from kleiber.runs import ParamCount, Row
from kleiber.scaling import Law, fit
from kleiber.scaling.bootstrap import estimate
from kleiber.scaling.forms import Design, form_of

TRUTH = (2.8e8, 3.3e8, 0.14, 0.2)
SIZES, TOKENS = np.geomspace(1e5, 6e5, 5), np.geomspace(8e5, 3e6, 3)
POINTS = {"N": np.repeat(SIZES, 3), "D": np.tile(TOKENS, 5)}


@pytest.fixture
def form():
    return form_of("kaplan", floor=1.25)


@pytest.fixture
def rows(form):
    losses = form.value(np.array([TRUTH]), POINTS)[0]
    return [
        Row(run=f"r{k}", trunk=f"r{k}", num_params=ParamCount(embedding=0, body=round(n), head=0, is_tied=True), num_tokens=d, loss=loss)
        for k, (n, d, loss) in enumerate(zip(POINTS["N"], POINTS["D"], losses, strict=True))
    ]  # fmt: skip


def test_the_floor_is_added(form):
    # ((64/4)^(1/2) + 12/2)^2 = (4 + 6)^2 = 100
    loss = form.value(np.array([[64.0, 12.0, 1.0, 2.0]]), {"N": np.array([4.0]), "D": np.array([2.0])})
    assert loss[0, 0] == pytest.approx(101.25)
    assert form.equation == "L(N, D) = 1.25 + ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D"
    assert "1.25" not in form_of("kaplan").equation


def test_the_jacobian_equals_central_differences(form):
    design, theta = Design.of(POINTS), np.array([[0.6, 0.3, 0.14, 0.2]])
    _, jacobian = form.fitted_and_jacobian(theta, design)
    for k in range(4):
        nudge = np.zeros_like(theta)
        nudge[:, k] = 1e-6
        high, low = (form.fitted_and_jacobian(theta + sign * nudge, design)[0] for sign in (1, -1))
        assert_allclose(jacobian[..., k], (high - low) / 2e-6, rtol=1e-5, atol=1e-8)


def test_a_fit_finds_the_truth_and_another_floor_does_not(form, rows):
    theta, _ = estimate(form, Design.of(POINTS), np.log([row.loss for row in rows]))
    assert_allclose(form.coefficients_of(theta, Design.of(POINTS))[0], TRUTH, rtol=1e-3)
    far = {"N": np.array([1.3e6]), "D": np.array([1.2e7])}
    true = form.value(np.array([TRUTH]), far)[0, 0]
    assert fit(rows, form="kaplan", floor=1.25).losses(far)[0] == pytest.approx(true, rel=1e-5)
    assert fit(rows, form="kaplan").losses(far)[0] < true * 0.998


def test_a_law_keeps_its_floor_and_one_without_keeps_its_hash(rows, tmp_path):
    law = fit(rows, form="kaplan", floor=1.25)
    law.write(tmp_path / "law.json")
    assert Law.read(tmp_path / "law.json") == law
    bare = fit(rows, form="kaplan")
    assert "floor" in bare.model_dump()
    path = tmp_path / "bare.json"
    bare.write(path)
    path.write_text(path.read_text().replace('  "floor": 0.0,\n', ""))
    assert '"floor"' not in path.read_text()
    assert Law.read(path).hash == bare.hash != law.hash


def test_a_floor_that_cannot_be_is_refused(rows):
    lowest = min(row.loss for row in rows)
    with pytest.raises(UsageError, match=rf"the floor must be from 0 to below {lowest:.4g}, the lowest loss"):
        fit(rows, form="kaplan", floor=lowest)
    with pytest.raises(UsageError, match="floor has no effect on the form 'chinchilla'"):
        fit(rows, floor=1.0)
