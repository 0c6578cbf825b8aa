"""Every form of a law, by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kleiber.errors import UsageError, nearest
from kleiber.scaling.forms.accuracy import Accuracy, accuracy_coefficients
from kleiber.scaling.forms.farseer import Farseer, farseer_coefficients
from kleiber.scaling.forms.form import Coefficient, Form
from kleiber.scaling.forms.kaplan import KAPLAN, Kaplan
from kleiber.scaling.forms.power_sum import EXPONENTS, PowerSum, Term
from kleiber.scaling.forms.quadratic import QUADRATIC
from kleiber.scaling.forms.repeated import Repeated, repeated_coefficients

__all__ = ["CHINCHILLA", "FORMS", "form_of"]

_E = Coefficient("E", "floor", "loss that remains [nats/token]")
_A = Coefficient("A", "level", "of the term of size [nats/token x N^alpha]")
_B = Coefficient("B", "level", "of the term of tokens [nats/token x D^beta]")
_ALPHA, _BETA = Coefficient("alpha", "exponent", "of size"), Coefficient("beta", "exponent", "of tokens")

CHINCHILLA = PowerSum(
    name="chinchilla",
    equation="L(N, D) = E + A/N^alpha + B/D^beta",
    source="Hoffmann et al. 2022, arXiv:2203.15556, equation 2",
    inputs=("N", "D"),
    coefficients=(_E, _A, _B, _ALPHA, _BETA),
    terms=(Term("E"), Term("A", (("N", "alpha"),)), Term("B", (("D", "beta"),))),
    grid={"alpha": EXPONENTS, "beta": EXPONENTS},
)

_TIED = PowerSum(
    name="tied",
    equation="L(N, D) = E + A/N^alpha + B/D^alpha",
    source="Gadre et al. 2024, arXiv:2403.08540: E + (a M^eta + b M^-eta) C^-eta with M = D/N, eta = alpha/2",
    inputs=("N", "D"),
    coefficients=(_E, _A, replace(_B, meaning="of the term of tokens [nats/token x D^alpha]"), replace(_ALPHA, meaning="of size and of tokens")),
    terms=(Term("E"), Term("A", (("N", "alpha"),)), Term("B", (("D", "alpha"),))),
    grid={"alpha": EXPONENTS},
)  # fmt: skip


def _power_law(variable: str, what: str) -> PowerSum:
    return PowerSum(
        name=f"power_{variable}",
        equation=f"L({variable}) = E + A/{variable}^alpha",
        source="Henighan et al. 2020, arXiv:2010.14701, equation 1.1",
        inputs=(variable,),
        coefficients=(
            _E,
            Coefficient("A", "level", f"of the term of {what} [nats/token x {variable}^alpha]"),
            Coefficient("alpha", "exponent", f"of {what}"),
        ),
        terms=(Term("E"), Term("A", ((variable, "alpha"),))),
        grid={"alpha": EXPONENTS},
    )


_COARSE = tuple(np.geomspace(0.05, 0.9, 6).tolist())
_SIGNED = (-0.6, -0.2, 0.2, 0.6)

_MIXTURE = PowerSum(
    name="mixture",
    equation="L(N, D, S) = E + A/N^alpha + B/D^beta + C/S^lambda + G/(S^delta N^gamma)",
    source="Abnar et al. 2025, arXiv:2501.12370, equation 6: N counts all parameters; S, their 1 - S, is the part that is active (of experts there)",
    inputs=("N", "D", "S"),
    coefficients=(
        _E,
        _A,
        _B,
        Coefficient("C", "level", "of the term of the active part [nats/token]"),
        Coefficient("G", "level", "of the term that size and active part share [nats/token x N^gamma]"),
        _ALPHA,
        _BETA,
        Coefficient("lambda", "free", "of the active part; negative where sparsity helps"),
        Coefficient("delta", "free", "of the active part where size meets it"),
        Coefficient("gamma", "exponent", "of size where the active part meets it"),
    ),
    terms=(
        Term("E"),
        Term("A", (("N", "alpha"),)),
        Term("B", (("D", "beta"),)),
        Term("C", (("S", "lambda"),)),
        Term("G", (("S", "delta"), ("N", "gamma"))),
    ),
    grid={
        "alpha": _COARSE,
        "beta": _COARSE,
        "lambda": _SIGNED,
        "delta": _SIGNED,
        "gamma": _COARSE[:4],
    },
)

_REPEATED = Repeated(
    name="repeated",
    equation="L(N, D, U) = E + A/N'^alpha + B/D'^beta, D' = U + U R_D (1 - exp(-(D/U - 1)/R_D)), N' likewise with U_N, R_N",
    source="Muennighoff et al. 2023, arXiv:2305.16264, section 3",
    inputs=("N", "D", "U"),
    coefficients=repeated_coefficients(CHINCHILLA),
    single=CHINCHILLA,
)

_FARSEER = Farseer(
    name="farseer",
    equation="L(N, D) = exp(a_3 N^gamma + b_3) + exp(a_2 N^beta + b_2) D^-exp(a_1 N^alpha + b_1)",
    source="Li et al. 2025, arXiv:2506.10972",
    inputs=("N", "D"),
    coefficients=farseer_coefficients(),
    single=CHINCHILLA,
)

_ACCURACY = Accuracy(
    name="accuracy",
    equation="accuracy(N, D) = c + (1 - c) sigmoid(h - a/N^alpha - b/D^beta), c = chance",
    source="Bhagia et al. 2024, arXiv:2412.04403, equations 1 and 2, in one step",
    inputs=("N", "D"),
    coefficients=accuracy_coefficients(),
    response="identity",
    single=CHINCHILLA,
)

FORMS: dict[str, Form] = {
    one.name: one
    for one in (
        CHINCHILLA,
        _TIED,
        _power_law("N", "size"),
        _power_law("D", "tokens"),
        _power_law("C", "compute"),
        KAPLAN,
        QUADRATIC,
        _FARSEER,
        _REPEATED,
        _MIXTURE,
        _ACCURACY,
    )
}
"""Forms by name."""


def form_of(name: str, *, chance: float = 0.0, floor: float = 0.0) -> Form:
    """Return the form of that name.

    Args:
        name: A key of `FORMS`.
        chance: The accuracy of guessing, for accuracies.
        floor: The loss that remains [nats/token], for the form `kaplan`, which does not fit it.

    Raises:
        UsageError: There is none of that name, or `chance` is not from 0 to below 1, or it or the floor has no effect.
    """
    if name not in FORMS:
        raise UsageError(f"{name!r} is not a form. {nearest(name, FORMS)}", hint="--form chinchilla")
    form = FORMS[name]
    if not 0 <= chance < 1:
        raise UsageError("chance must be from 0 to below 1.", got=chance, hint="--chance 0.25")
    if floor:
        if not isinstance(form, Kaplan):
            raise UsageError(
                f"floor has no effect on the form {name!r}: kaplan alone is given one.", hint="--form kaplan"
            )
        form = form.above(floor)
    if isinstance(form, Accuracy):
        return replace(form, chance=chance)
    if chance:
        raise UsageError(
            f"chance has no effect on the form {name!r}: it is of accuracies.", hint="--form accuracy"
        )
    return form
