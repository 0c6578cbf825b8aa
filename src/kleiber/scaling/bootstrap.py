"""Where else the law could have come out: refits of resampled rows."""

from __future__ import annotations

import math

import numpy as np

from kleiber.scaling.forms import Array, Design, Form
from kleiber.scaling.noise import Groups, Labels, Noise
from kleiber.scaling.refine import huber, refine

__all__ = ["MANY_TRUNKS", "bootstrap", "estimate"]

MANY_TRUNKS = 40
"""From here on, eight a coefficient, trunks are resampled as they are."""

_NUM_STARTS = 36
_BARE_STRIDE = 3
_ABOVE_NOTHING = 4.0
"""Of the logarithm of a term that no row can see: from there it may still grow."""
_FIRST_STEPS, _NUM_FINISHED = 8, 6
_REFIT_STEPS = 20
_CHUNK = 256  # replicates whose work arrays fit the cache


def estimate(form: Form, design: Design, response_R: Array) -> tuple[Array, float]:
    """Return the parameters [1, K] of the best of many starts, and the summed Huber loss.

    All starts are refined for a few steps and the best of them to the end. Some start without a floor: where E goes to
    0 the grid's best points lie in one valley and the lowest in another.
    """
    value = form.value_of(response_R)[None]
    starts = form.starts(design, value, np.ones_like(value), num_starts=_NUM_STARTS)[0]
    if form.coefficients[0].kind == "floor":  # theta begins with its logarithm
        bare = starts[::_BARE_STRIDE].copy()
        bare[:, 0] = form.box(value)[0][0, 0] + _ABOVE_NOTHING
        starts = np.concatenate([starts, bare])
    targets = np.broadcast_to(response_R, (len(starts), len(response_R)))
    near, objective = refine(form, starts, design, targets, np.ones_like(targets), max_steps=_FIRST_STEPS)
    chosen = np.argsort(objective)[:_NUM_FINISHED]
    theta, objective = refine(form, near[chosen], design, targets[chosen], np.ones_like(targets[chosen]))
    best = int(objective.argmin())
    return theta[best : best + 1], float(objective[best])


def bootstrap(
    form: Form,
    design: Design,
    response_R: Array,
    theta_1K: Array,
    *,
    groups: Groups,
    noise: Noise,
    num_samples: int,
    seed: int,
) -> Array:
    """Return the parameters of `num_samples` refits [B, K].

    With many trunks, whole trunks are drawn with replacement. With few, that drops whole sizes or repeats a
    single seed (on ladders of eight trunks its 80% intervals held 55-70% of left-out runs); there the fitted law is
    sampled instead, with noise of the measured scale for each trunk and run, and with misfit of which half the
    variance is shared by all runs of a size and half belongs to a cell, as errors of the form are smooth.

    Args:
        form: Of the law.
        design: The rows.
        response_R: Log of the measured losses, or accuracies.
        theta_1K: The point estimate.
        groups: Labels of the rows.
        noise: Scales of what is drawn.
        num_samples: Refits.
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    if groups.num_trunks >= MANY_TRUNKS:
        drawn = random.multinomial(
            groups.num_trunks, np.full(groups.num_trunks, 1 / groups.num_trunks), size=num_samples
        )
        weights_BR = drawn[:, groups.trunk_R].astype(np.float64)
        targets_BR = np.broadcast_to(response_R, weights_BR.shape)
    else:
        fitted_1R, _ = form.fitted_and_jacobian(theta_1K, design)
        targets_BR = fitted_1R + _draw(random, groups, noise, num_samples)
        weights_BR = np.ones_like(targets_BR)
    return _refit(form, design, theta_1K, targets_BR, weights_BR)


def _draw(random: np.random.Generator, groups: Groups, noise: Noise, num_samples: int) -> Array:
    """Return errors of the response [B, R] with the structure of the rows."""

    def normal(label_R: Labels, scale: float) -> Array:
        drawn: Array = scale * random.standard_normal((num_samples, int(label_R.max()) + 1))[:, label_R]
        return drawn

    half = noise.misfit_frac * math.sqrt(0.5)
    own_R = np.arange(len(groups.trunk_R))
    return (
        normal(groups.size_R, half)
        + normal(groups.cell_R, half)
        + normal(groups.trunk_R, noise.trunk_frac)
        + normal(own_R, noise.run_frac)
    )


def _refit(form: Form, design: Design, theta_1K: Array, targets_BR: Array, weights_BR: Array) -> Array:
    samples = []
    for first in range(0, len(targets_BR), _CHUNK):
        targets, weights = targets_BR[first : first + _CHUNK], weights_BR[first : first + _CHUNK]
        starts = np.repeat(theta_1K, len(targets), axis=0)
        if form.refits_from_grid:
            projected = form.starts(design, form.value_of(targets), weights)[:, 0]
            is_better = _summed(form, projected, design, targets, weights) < _summed(
                form, starts, design, targets, weights
            )
            starts = np.where(is_better[:, None], projected, starts)
        elif form.num_refit_starts:
            starts = _lowest(form, starts, design, targets, weights)
        samples.append(refine(form, starts, design, targets, weights)[0])
    return np.concatenate(samples)


def _lowest(form: Form, starts_BK: Array, design: Design, targets_BR: Array, weights_BR: Array) -> Array:
    """Return the refits from these starts [B, K], or where some steps from starts of a refit's own rows are lower already."""
    own = form.starts(design, form.value_of(targets_BR), weights_BR, num_starts=form.num_refit_starts)
    tried = [refine(form, starts_BK, design, targets_BR, weights_BR)]
    tried += [
        refine(form, start, design, targets_BR, weights_BR, max_steps=_REFIT_STEPS)
        for start in np.moveaxis(own, 1, 0)
    ]
    best = np.argmin([objective for _, objective in tried], axis=0)
    found: Array = np.stack([theta for theta, _ in tried])[best, np.arange(len(best))]
    return found


def _summed(form: Form, theta_BK: Array, design: Design, targets_BR: Array, weights_BR: Array) -> Array:
    """Return the summed Huber loss of each [B]."""
    fitted, _ = form.fitted_and_jacobian(theta_BK, design)
    summed: Array = (weights_BR * huber(fitted - targets_BR)).sum(axis=1)
    return summed
