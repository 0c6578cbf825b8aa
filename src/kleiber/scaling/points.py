"""From rows, or from a run to come, to the inputs of a form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kleiber.errors import DataError, UsageError
from kleiber.runs import Convention, Row
from kleiber.scaling.forms import INPUTS, Array, Form, rule_of_thumb_flops

__all__ = ["Values", "check_positive", "flops_of", "points_at", "points_of"]

Values = Array | Sequence[float] | float


def flops_of(row: Row, convention: Convention) -> float:
    """Return the compute of a row: as it was counted, else 6 N D [FLOP]."""
    return row.train_flops or rule_of_thumb_flops(row.num_params.by(convention), row.num_tokens)


def points_of(rows: Sequence[Row], form: Form, convention: Convention) -> dict[str, Array]:
    """Return what `form` is a function of, each [R].

    Raises:
        DataError: A row lacks an input that the form needs.
    """
    found = {}
    for name in form.inputs:
        values = [_input_of(row, name, convention) for row in rows]
        missing = next((row for row, value in zip(rows, values, strict=True) if value is None), None)
        if missing is not None:
            column = {"U": "unique_tokens", "S": "active_params"}[name]
            raise DataError(
                f"A law of form {form.name!r} needs {INPUTS[name]}, and run {missing.run!r} does not say.",
                hint=f"--columns {column}=NAME   (the column that holds it)",
            )
        found[name] = np.array(values, dtype=np.float64)
    return found


def _input_of(row: Row, name: str, convention: Convention) -> float | None:
    if name == "N":
        return float(row.num_params.by(convention))
    if name == "D":
        return row.num_tokens
    if name == "C":
        return flops_of(row, convention)
    if name == "U":
        return None if row.unique_tokens is None else min(row.unique_tokens, row.num_tokens)
    return None if row.active_params is None else row.active_params / row.num_params.total


def points_at(
    form: Form,
    num_params: Values,
    num_tokens: Values,
    *,
    unique_tokens: Values | None = None,
    active_frac: Values | None = None,
    flops: Values | None = None,
) -> dict[str, Array]:
    """Return what `form` is a function of, each [P], for runs to come.

    Args:
        form: Of the law.
        num_params: N, by the law's convention.
        num_tokens: D, repeats included.
        unique_tokens: U, for a form that tells repeated tokens from new ones.
        active_frac: S, for a mixture of experts.
        flops: C; None takes 6 N D.

    Raises:
        UsageError: A number is not positive and finite, or the form needs one that is not given.
    """
    given: dict[str, tuple[str, Values | None]] = {
        "N": ("num_params", num_params),
        "D": ("num_tokens", num_tokens),
        "U": ("unique_tokens", unique_tokens),
        "S": ("active_frac", active_frac),
        "C": ("flops", flops),
    }
    found = {}
    for key, (name, value) in given.items():
        if value is not None:
            array = np.atleast_1d(np.asarray(value, dtype=np.float64))
            wrong = array[~(np.isfinite(array) & (array > 0))]
            if len(wrong):
                raise UsageError(
                    f"{name} must be a positive number.",
                    got=float(wrong[0]),
                    hint="--params 1.2e9 --tokens 30e9",
                )
            found[key] = array
    found.setdefault("C", rule_of_thumb_flops(1.0, 1.0) * found["N"] * found["D"])
    for key in form.inputs:
        if key not in found:
            option = {"U": "--unique-tokens 10e9", "S": "--active-params 3e8"}[key]
            raise UsageError(
                f"A law of form {form.name!r} needs {INPUTS[key]} of the run to come.", hint=option
            )
    if "U" in found:
        found["U"] = np.minimum(found["U"], found["D"])
    shape = np.broadcast_shapes(*(found[key].shape for key in form.inputs))
    return {key: np.broadcast_to(found[key], shape) for key in form.inputs}


def check_positive(value: float, name: str, hint: str) -> None:
    """Refuse a number that is not positive and finite.

    Raises:
        UsageError: It is not.
    """
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} must be a positive number.", got=value, hint=hint)
