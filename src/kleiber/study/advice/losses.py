"""What a law says of many sizes and tokens at once, as its point estimate and as draws of what it could be.

Shapes: P points, B draws, G points of a grid of tokens, K coefficients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from kleiber.errors import UsageError
from kleiber.scaling import COEFFICIENTS, Law, PublishedLaw
from kleiber.scaling.average import Average, Member
from kleiber.scaling.forms import CHINCHILLA, Array, Form
from kleiber.scaling.points import Values, points_at
from kleiber.study.advice.spread import normals

__all__ = ["Losses", "compared_members"]

_TOKENS = (1e3, 1e21)
"""Between which tokens are sought."""
_BENT = (0.1, 1e3)
"""The same for a form that bends freely, times the fewest and the most tokens of its rows: beyond them it may turn."""
_NUM_COARSE, _NUM_FINE, _NUM_HALVINGS = 61, 1201, 26
_MOST_DRAWS = 400


@dataclass(frozen=True)
class _Part:
    """One form of a law: all of it, or a member of an average."""

    form: Form
    point_1K: Array
    refits_BK: Array
    weight: float


@dataclass(frozen=True)
class Losses:
    """A law as costs are sought under it: the tokens that a size needs for a loss, as one number and as draws."""

    parts: tuple[_Part, ...]
    shift_B: Array
    """Of log loss in each draw: what a new run's loss is off beside what refits say."""
    unique_tokens: float | None = None
    """Different tokens there are; None where each is new."""
    tokens: tuple[float, float] = _TOKENS
    """Between which tokens are sought."""

    @classmethod
    def of(cls, law: Law | PublishedLaw, *, unique_tokens: float | None = None) -> Losses:
        """Return the law; of a published one, which comes without refits, all draws are alike.

        Args:
            law: In size and tokens, of losses.
            unique_tokens: For a law that tells repeated tokens from new ones.

        Raises:
            UsageError: A law of another kind, or one that needs more than size and tokens.
        """
        if isinstance(law, PublishedLaw):
            _check_unique(CHINCHILLA.name, unique_tokens, has_effect=False)
            point = np.array([law.coefficients])
            assert CHINCHILLA.names == COEFFICIENTS  # noqa: S101 - of the same order
            return cls(
                (_Part(CHINCHILLA, point, np.repeat(point, _MOST_DRAWS, axis=0), 1.0),), np.zeros(_MOST_DRAWS)
            )
        _check(law, unique_tokens)
        if law.average is None:
            refits = law.refits[:_MOST_DRAWS]
            shift = law.noise.total_frac * normals(len(refits))
            return cls((_Part(law.shape, law.point, refits, 1.0),), shift, unique_tokens, _tokens_of(law))
        parts = []
        members = compared_members(law.average)
        whole = sum(one.weight for one in members)
        for one in members:
            # Rivals have no weight in the mean: among themselves they count alike.
            weight = one.weight / whole if whole else 1 / len(members)
            form, samples = one.shape, np.array(one.samples)
            kept = samples[np.arange(max(1, round(weight * _MOST_DRAWS))) % len(samples)]
            point = np.array([[one.coefficients[name] for name in form.names]])
            parts.append(_Part(form, point, kept, weight))
        num_draws = sum(len(part.refits_BK) for part in parts)
        return cls(tuple(parts), np.zeros(num_draws), unique_tokens, _tokens_of(law))

    @property
    def num_draws(self) -> int:
        """Coefficient vectors."""
        return len(self.shift_B)

    def lowest(self, sizes_P: Array) -> float:
        """Return the lowest loss of any of these sizes with any tokens that are sought."""
        grid_G = np.geomspace(*self.tokens, _NUM_COARSE)
        return float(self.point(np.repeat(sizes_P, len(grid_G)), np.tile(grid_G, len(sizes_P))).min())

    def widened(self, law: Law, num_params: float, num_tokens: float) -> Losses:
        """Return an average's draws as wide as the average itself says at a run, which counts what backtests showed.

        Args:
            law: With an average.
            num_params: Of the run, by the law's convention.
            num_tokens: Of the run.
        """
        if law.average is None:
            return self
        inputs = {"num_params": num_params, "num_tokens": num_tokens, "unique_tokens": self.unique_tokens}
        _, deviation = law.average.log_losses(inputs)
        within = float(np.log(self.drawn(num_params, np.array([num_tokens]))).std())
        missing = math.sqrt(max(0.0, float(deviation[0]) ** 2 - within**2))
        return replace(self, shift_B=missing * normals(self.num_draws))

    def point(self, num_params: Values, num_tokens: Values) -> Array:
        """Return the losses of runs [P]."""
        logs = [
            part.weight * np.log(part.form.value(part.point_1K, self._points(part.form, num_params, num_tokens))[0])
            for part in self.parts
        ]  # fmt: skip
        losses: Array = np.exp(np.sum(logs, axis=0))
        return losses

    def drawn(self, num_params: float, tokens_P: Array) -> Array:
        """Return the loss of one size at each number of tokens in each draw [B, P]."""
        values = [
            part.form.value(part.refits_BK, self._points(part.form, num_params, tokens_P))
            for part in self.parts
        ]
        return np.exp(self.shift_B)[:, None] * np.concatenate(values)

    def tokens_at(self, sizes_P: Array, loss: float) -> Array:
        """Return the fewest tokens with which each size has the loss [P]; infinite where none are enough."""
        grid_G = np.geomspace(*self.tokens, _NUM_COARSE)
        P, G = len(sizes_P), len(grid_G)
        loss_PG = self.point(np.repeat(sizes_P, G), np.tile(grid_G, P)).reshape(P, G)
        is_met_PG = loss_PG <= loss
        first_P = is_met_PG.argmax(axis=1)
        found = np.where(is_met_PG.any(axis=1), grid_G[first_P], np.inf)
        between = np.flatnonzero((first_P > 0) & np.isfinite(found))
        if len(between):
            low, high = np.log(grid_G[first_P[between] - 1]), np.log(grid_G[first_P[between]])
            for _ in range(_NUM_HALVINGS):
                middle = (low + high) / 2
                is_met = self.point(sizes_P[between], np.exp(middle)) <= loss
                low, high = np.where(is_met, low, middle), np.where(is_met, middle, high)
            found[between] = np.exp(high)
        return found

    def drawn_tokens(self, num_params: float, loss_B: Array | float) -> Array:
        """Return the fewest tokens with which one size has the loss in each draw [B]; infinite where none are enough."""
        log_G = np.linspace(math.log(self.tokens[0]), math.log(self.tokens[1]), _NUM_FINE)
        log_loss_BG = np.log(self.drawn(num_params, np.exp(log_G)))
        wanted_B = np.broadcast_to(np.log(loss_B), self.num_draws)
        is_met_BG = log_loss_BG <= wanted_B[:, None]
        first_B = np.clip(is_met_BG.argmax(axis=1), 1, None)
        rows = np.arange(self.num_draws)
        above, below = log_loss_BG[rows, first_B - 1], log_loss_BG[rows, first_B]
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.clip((above - wanted_B) / (above - below), 0.0, 1.0)
        found = np.exp(log_G[first_B - 1] + part * (log_G[1] - log_G[0]))
        return np.where(is_met_BG.any(axis=1), found, np.inf)

    def _points(self, form: Form, num_params: Values, num_tokens: Values) -> dict[str, Array]:
        unique = num_tokens if self.unique_tokens is None else self.unique_tokens
        return points_at(form, num_params, num_tokens, unique_tokens=unique if "U" in form.inputs else None)


def compared_members(average: Average) -> tuple[Member, ...]:
    """Return the laws of an average that trade size against tokens: its members, or its rivals where none of them does."""
    for group in (average.members, average.rivals):
        found = tuple(one for one in group if _trades(one.shape))
        if found:
            return found
    return average.members  # refused, with its form


def _trades(form: Form) -> bool:
    """Return whether a law of this form weighs size against tokens, and asks for nothing else of a run."""
    return {"N", "D"} <= set(form.inputs) and "S" not in form.inputs


def _forms(law: Law) -> list[Form]:
    return [law.shape] if law.average is None else [one.shape for one in compared_members(law.average)]


def _tokens_of(law: Law) -> tuple[float, float]:
    """Return between which tokens a law is asked."""
    if not any(one.kind == "free" for form in _forms(law) for one in form.coefficients):
        return _TOKENS
    tokens = [row.num_tokens for row in law.rows]
    return _BENT[0] * min(tokens), _BENT[1] * max(tokens)


def _check(law: Law, unique_tokens: float | None) -> None:
    """Refuse a law that does not weigh size against tokens."""
    forms = _forms(law)
    if law.loss_unit == "accuracy":
        raise UsageError(
            "Routes are compared at a loss, and this law is of accuracies.",
            got=f"form {law.form!r}",
            hint="kleiber fit ROWS --form chinchilla -o law.json",
        )
    for form in forms:
        if not _trades(form):
            needs = (
                "asks for the active part of a mixture"
                if "S" in form.inputs
                else "does not weigh size against tokens"
            )
            raise UsageError(
                f"Routes trade size against tokens, and a law of form {form.name!r} {needs}.",
                hint="kleiber fit ROWS --form chinchilla -o law.json",
            )
    _check_unique(law.form, unique_tokens, has_effect=any("U" in form.inputs for form in forms))


def _check_unique(form: str, unique_tokens: float | None, *, has_effect: bool) -> None:
    if unique_tokens is not None and not has_effect:
        raise UsageError(
            f"--unique-tokens has no effect on a law of form {form!r}, to which every token is new.",
            got=unique_tokens,
            hint="kleiber fit ROWS --form repeated -o law.json",
        )
