from __future__ import annotations

import numpy as np
import pytest

from kleiber.scaling.bootstrap import MANY_TRUNKS, bootstrap, estimate
from kleiber.scaling.forms import CHINCHILLA, FORMS, Design
from kleiber.scaling.grid_start import estimate_from_grid
from kleiber.scaling.noise import Groups, Noise, measure_noise
from kleiber.scaling.refine import huber, refine


def arrays(rows):
    num_params = np.array([float(row.num_params.total) for row in rows])
    num_tokens = np.array([row.num_tokens for row in rows])
    groups = Groups(num_params, num_tokens, [row.trunk for row in rows])
    return Design.of({"N": num_params, "D": num_tokens}), np.log([row.loss for row in rows]), groups


def spread_at_the_target(theta, design):
    return float(
        np.log(CHINCHILLA.value(CHINCHILLA.coefficients_of(theta, design), {"N": 8e5, "D": 3.3e6})).std()
    )


def test_few_trunks_spread_as_refits_of_fresh_ladders_do(ladder):
    """The reference: 150 ladders drawn anew, each fitted once."""
    noise = Noise(trunk_frac=0.004, run_frac=0.0015, misfit_frac=0.0, num_repeats=4)
    fresh = []
    for seed in range(150):
        design, log_loss, groups = arrays(ladder(trunk_frac=0.004, run_frac=0.0015, seed=seed))
        fresh.append(estimate(CHINCHILLA, design, log_loss)[0][0])
    design, log_loss, groups = arrays(ladder())
    refits = bootstrap(
        CHINCHILLA,
        design,
        log_loss,
        estimate(CHINCHILLA, design, log_loss)[0],
        groups=groups,
        noise=noise,
        num_samples=400,
        seed=0,
    )
    assert spread_at_the_target(refits, design) == pytest.approx(
        spread_at_the_target(np.array(fresh), design), rel=0.2
    )


def test_every_kind_of_noise_spreads_the_refits(ladder):
    design, log_loss, groups = arrays(ladder())
    theta, _ = estimate(CHINCHILLA, design, log_loss)

    def spread(**scales):
        noise = Noise(**{"trunk_frac": 0.0, "run_frac": 0.0, "misfit_frac": 0.0, "num_repeats": 4, **scales})
        return spread_at_the_target(
            bootstrap(
                CHINCHILLA, design, log_loss, theta, groups=groups, noise=noise, num_samples=300, seed=0
            ),
            design,
        )

    for name in ("trunk_frac", "run_frac", "misfit_frac"):
        assert spread(**{name: 0.004}) == pytest.approx(2 * spread(**{name: 0.002}), rel=0.15)
    # Misfit is the same for every seed, so seeds do not average it away.
    assert spread(misfit_frac=0.004) > 1.2 * spread(run_frac=0.004) > 0.004


def test_many_trunks_are_drawn_whole(monkeypatch, ladder):
    rows = ladder(sizes=[round(4e4 * 1.15**k) for k in range(MANY_TRUNKS)], num_seeds=1, run_frac=0.004)
    design, log_loss, groups = arrays(rows)
    theta, _ = estimate(CHINCHILLA, design, log_loss)
    seen = []
    monkeypatch.setattr(
        "kleiber.scaling.bootstrap._refit",
        lambda form, design, theta, targets, weights: seen.append((targets, weights)),
    )
    noise = measure_noise(log_loss, CHINCHILLA.fitted_and_jacobian(theta, design)[0][0], groups)
    bootstrap(CHINCHILLA, design, log_loss, theta, groups=groups, noise=noise, num_samples=100, seed=0)
    targets, weights = seen[0]
    assert (targets == log_loss).all()
    by_trunk = weights.reshape(100, MANY_TRUNKS, 3)
    assert (by_trunk == by_trunk[:, :, :1]).all()
    assert (by_trunk[:, :, 0].sum(axis=1) == MANY_TRUNKS).all()
    assert by_trunk.max() > 1


def test_many_trunks_spread_as_refits_of_fresh_rows_do(ladder):
    def rows(seed):
        sizes = [round(4e4 * 1.2**k) for k in range(24)]
        return ladder(sizes=sizes, num_seeds=2, horizons=[5e5, 1e6, 2e6], run_frac=0.01, seed=seed)

    fresh = []
    for seed in range(100):
        design, log_loss, groups = arrays(rows(seed))
        fresh.append(estimate(CHINCHILLA, design, log_loss)[0][0])
    design, log_loss, groups = arrays(rows(1000))
    noise = Noise(trunk_frac=0.0, run_frac=0.0, misfit_frac=0.0, num_repeats=0)
    refits = bootstrap(
        CHINCHILLA,
        design,
        log_loss,
        estimate(CHINCHILLA, design, log_loss)[0],
        groups=groups,
        noise=noise,
        num_samples=300,
        seed=0,
    )
    assert spread_at_the_target(refits, design) == pytest.approx(
        spread_at_the_target(np.array(fresh), design), rel=0.35
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_valley_is_missed_where_e_goes_to_0(seed):
    """The reference: approach 3, from a grid over levels and exponents."""
    random = np.random.default_rng(seed)
    n, d = 10 ** random.uniform(5.5, 8.9, 110), 10 ** random.uniform(7, 10, 110)
    design = Design.of({"N": n, "D": d})
    log_loss = np.log(11 * n**-0.08 + 2e4 * d**-0.47) + 0.03 * random.standard_t(3, 110)
    _, found = estimate(CHINCHILLA, design, log_loss)
    _, reference = estimate_from_grid(CHINCHILLA, design, log_loss)
    assert found <= reference * 1.001


def test_refits_of_farseer_are_not_stuck_where_the_point_estimate_lies():
    random = np.random.default_rng(5)
    n, d = 10 ** random.uniform(6, 9, 60), 10 ** random.uniform(8, 10.5, 60)
    design, form = Design.of({"N": n, "D": d}), FORMS["farseer"]
    log_loss = np.log(1.8 + 480 * n**-0.35 + 2000 * d**-0.37) + 0.01 * random.standard_t(3, 60)
    theta, _ = estimate(form, design, log_loss)
    groups = Groups(n, d, [f"{k}" for k in range(60)])
    noise = Noise(trunk_frac=0.0, run_frac=0.01, misfit_frac=0.01, num_repeats=0)
    refits = bootstrap(form, design, log_loss, theta, groups=groups, noise=noise, num_samples=40, seed=0)
    weights = np.random.default_rng(0).multinomial(60, np.full(60, 1 / 60), size=40).astype(float)
    weights = weights[:, groups.trunk_R]
    targets = np.broadcast_to(log_loss, weights.shape)
    found = (weights * huber(form.fitted_and_jacobian(refits, design)[0] - targets)).sum(axis=1)
    _, alone = refine(form, np.repeat(theta, 40, axis=0), design, targets, weights)
    assert (found <= alone * 1.001).all()
    assert (found < alone * 0.99).mean() > 0.1
