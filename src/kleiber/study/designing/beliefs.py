"""What is believed of a law before its ladder is trained: several forms, each with several laws.

Shapes: F forms, V laws of a form, S sizes, H horizons, K parameters of the form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kleiber.scaling import PUBLISHED_LAWS, Law
from kleiber.scaling.bootstrap import estimate
from kleiber.scaling.forms import FORMS, Array, Design, Form
from kleiber.scaling.noise import Noise
from kleiber.study.designing.grid import Grid

__all__ = [
    "DESIGN_FORMS",
    "UNKNOWN_NOISE",
    "Belief",
    "Beliefs",
    "beliefs_of",
    "published_laws",
    "sampled_laws",
    "shrunk",
]

DESIGN_FORMS = ("chinchilla", "tied", "quadratic")
"""Forms that a design is good for on average: which of them the rows will follow is not known beforehand."""
UNKNOWN_NOISE = Noise(trunk_frac=0.004, run_frac=0.001, misfit_frac=0.004, num_repeats=0)
"""Of runs that nobody has repeated: about what small ladders on text showed (docs/log.md)."""

_NUM_LAWS = 8
_USUAL_REPEATS = 4
_FLOOR_SHARE, _SPREAD = 0.35, 0.25
"""Part of the loss that the floor is in the middle of the grid, and how far exponents and shares are varied."""
_LEAST_SLOPE = 1e-3
_WEAK_DEVIATION = 2.0
"""Of every parameter before any row: a factor of e^2 on a term, an exponent of 2. It keeps designs of few rows finite."""


@dataclass(frozen=True)
class Belief:
    """One form with its laws, as gradients of log loss."""

    form: str
    gradient_VSHK: Array
    target_VK: Array
    residual_VSH: Array
    """Log losses that are believed less those of the form where it comes nearest to them: what no coefficients of it say."""
    target_residual_V: Array
    precision_KK: Array
    """What is known without a row."""
    target_log_loss_V: Array


@dataclass(frozen=True)
class Beliefs:
    """All forms, and how single runs scatter."""

    forms: tuple[Belief, ...]
    noise: Noise
    says: str
    """Where they come from, in a sentence."""


def beliefs_of(grid: Grid, target: tuple[float, float], law: Law | None = None) -> Beliefs:
    """Return what is believed of a grid's losses.

    Args:
        grid: Sizes and horizons.
        target: N and D of the run that the ladder is for.
        law: Of earlier runs in N and D; None takes published exponents.
    """
    log_size, log_tokens = grid.log_points()
    points = {
        "N": np.exp(np.append(log_size, np.log(target[0]))),
        "D": np.exp(np.append(log_tokens, np.log(target[1]))),
    }
    if law is None:
        losses_VP = published_laws(points)
        noise = UNKNOWN_NOISE
        says = (
            "Nothing is known of these runs yet: the design rests on exponents as published (Besiroglu et al. 2024, arXiv:2404.10102), "
            f"varied by {_SPREAD:.0%}, in laws whose terms add and in laws whose terms are coupled, and on an assumed scatter of {noise.seed_frac:.2%} between seeds."
        )
    else:
        losses_VP, noise = sampled_laws(law, points), shrunk(law.noise)
        says = (
            f"The design rests on a law of form {law.form} of {law.num_rows} rows, its refits, each as fitted and with coupled terms, and its scatter of "
            f"{noise.seed_frac:.2%} between seeds."
        )
    forms = tuple(_belief(FORMS[name], points, losses_VP, log_size.shape) for name in DESIGN_FORMS)
    return Beliefs(forms, noise, says)


def shrunk(noise: Noise) -> Noise:
    """Return a measured scatter, drawn to the usual one as if that were four repeats: few say little.

    Example:
        >>> few = Noise(trunk_frac=0.0, run_frac=0.0, misfit_frac=0.002, num_repeats=0)
        >>> shrunk(few).trunk_frac == UNKNOWN_NOISE.trunk_frac, shrunk(few).misfit_frac
        (True, 0.002)
    """
    weight = noise.num_repeats / (noise.num_repeats + _USUAL_REPEATS)
    measured, usual = (noise.trunk_frac, noise.run_frac), (UNKNOWN_NOISE.trunk_frac, UNKNOWN_NOISE.run_frac)
    trunk, run = (
        math.sqrt(weight * a**2 + (1 - weight) * b**2) for a, b in zip(measured, usual, strict=True)
    )
    return noise.model_copy(update={"trunk_frac": trunk, "run_frac": run})


def published_laws(points: dict[str, Array]) -> Array:
    """Return the losses [V, P] of laws with published exponents, varied, in units of the loss in the points' middle.

    How far terms of size and of tokens stand from each other there is what the published law says of its best runs: there
    alpha A/N^alpha = beta B/D^beta. The level of a loss has no effect on gradients of its logarithm: vocabularies need
    no correction. In half of the laws the terms add; in the others, which have the same slopes there, they are coupled, so that
    larger models gain more from more tokens.

    Source:
        Hoffmann et al. 2022, arXiv:2203.15556, equation 2, and Kaplan et al. 2020, arXiv:2001.08361, equation 1.5, above a floor.
    """
    known = PUBLISHED_LAWS["besiroglu"].coefficients
    found = []
    for k in range(_NUM_LAWS):
        # A two-level fraction of three factors, so that few laws lie all around the middle one.
        a, b, floor = (1 + _SPREAD * (1 if k >> bit & 1 else -1) for bit in range(3))
        alpha, beta, share = known.alpha * a, known.beta * b, _FLOOR_SHARE * floor
        size_share = (1 - share) * beta / (alpha + beta)
        found += _added_and_coupled(points, (alpha, beta), (size_share, 1 - share - size_share))
    return np.stack(found)


def sampled_laws(law: Law, points: dict[str, Array]) -> Array:
    """Return the losses [V, P] of a law's refits, spread over what it says of the last point; each once more with coupled terms.

    A few rows hardly tell a sum of terms from coupled ones, whatever form was fitted to them. Coupling is that of exponents
    alike which have the refit's slopes above a usual floor.
    """
    values_BP = law.shape.value(law.refits, points)
    order = np.argsort(values_BP[:, -1])
    places = np.round(np.linspace(0.05, 0.95, _NUM_LAWS) * (len(order) - 1)).astype(int)
    found = []
    for losses in values_BP[order[places]]:
        of_size, of_tokens = _slopes(points, losses)
        exponent = (of_size + of_tokens) / (1 - _FLOOR_SHARE)
        shares = of_size / exponent, of_tokens / exponent
        added, coupled = _added_and_coupled(points, (exponent, exponent), shares)
        found += [losses, losses * coupled / added]
    return np.stack(found)


def _slopes(points: dict[str, Array], losses_P: Array) -> tuple[float, float]:
    """Return how fast log losses fall with log N and with log D over all points, each at least by little."""
    predictors = np.stack([np.log(points["N"]), np.log(points["D"]), np.ones(len(losses_P))], axis=1)
    slopes = -np.linalg.lstsq(predictors, np.log(losses_P), rcond=None)[0]
    return max(_LEAST_SLOPE, float(slopes[0])), max(_LEAST_SLOPE, float(slopes[1]))


def _added_and_coupled(
    points: dict[str, Array], exponents: tuple[float, float], shares: tuple[float, float]
) -> list[Array]:
    """Return two laws [P] of value 1 and the same slopes in the middle of the points: terms that add, and terms that are coupled.

    Args:
        points: N and D.
        exponents: Of N and D.
        shares: Of the terms of N and of D there; the rest is the floor.
    """
    sizes, tokens = (points[name] / np.exp(np.log(points[name]).mean()) for name in ("N", "D"))
    alpha, beta = exponents
    size_share, token_share = shares
    above = size_share + token_share
    added = size_share * sizes**-alpha + token_share * tokens**-beta
    coupled = above * ((size_share * sizes ** (-alpha / beta) + token_share / tokens) / above) ** beta
    return [1 - above + added, 1 - above + coupled]


def _belief(form: Form, points: dict[str, Array], losses_VP: Array, shape: Sequence[int]) -> Belief:
    design = Design.of({name: points[name] for name in form.inputs})
    found = [_gradients(form, design, np.log(losses)) for losses in losses_VP]
    fitted_VP, gradient_VPK = (np.stack(part) for part in zip(*found, strict=True))
    residual_VP = np.log(losses_VP) - fitted_VP
    num_params = gradient_VPK.shape[-1]
    return Belief(
        form=form.name,
        gradient_VSHK=gradient_VPK[:, :-1].reshape(len(losses_VP), *shape, num_params),
        target_VK=gradient_VPK[:, -1],
        residual_VSH=residual_VP[:, :-1].reshape(len(losses_VP), *shape),
        target_residual_V=residual_VP[:, -1],
        precision_KK=np.eye(num_params) / _WEAK_DEVIATION**2,
        target_log_loss_V=fitted_VP[:, -1],
    )


def _gradients(form: Form, design: Design, response_P: Array) -> tuple[Array, Array]:
    """Return the form that comes nearest to these log losses, and its gradients [P, K]."""
    theta, _ = estimate(form, design, response_P)
    fitted, jacobian = form.fitted_and_jacobian(theta, design)
    return fitted[0], jacobian[0]
