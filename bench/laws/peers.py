"""Kleiber's fit beside SciPy's curve_fit and the PyPI package `chinchilla` (0.2.0): error, coverage, time.

    python bench/laws/peers.py ../shared/data/scaling_laws

Truth is known: tables are drawn from a law on the sizes and tokens of a small ladder, once with a diverged run in it, and on
those of Chinchilla's runs, and a run of 30 times the compute of the dearest is to be foretold. `chinchilla` has no intervals; it is measured where it is
installed, from 243 of the grid's starts, its own default loss and the paper's.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from scipy.optimize import curve_fit

from kleiber.runs import ParamCount, Row
from kleiber.scaling import Coefficients, fit, optimum, read_rows

TRUTH = Coefficients(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
NUM_TABLES = 40
Z_80 = NormalDist().inv_cdf(0.9)


@dataclass(frozen=True)
class Answer:
    """What a fitter says of one table."""

    loss: float
    interval_80: tuple[float, float] | None
    size_exponent: float


Points = tuple[np.ndarray, np.ndarray]
Fitter = Callable[[np.ndarray, np.ndarray, np.ndarray, float, float], Answer]


def kleiber(n: np.ndarray, d: np.ndarray, loss: np.ndarray, size: float, tokens: float) -> Answer:
    rows = [
        Row(
            run=f"{k}",
            trunk=f"{k}",
            num_params=ParamCount(embedding=0, body=round(n[k]), head=0),
            num_tokens=d[k],
            loss=loss[k],
        )
        for k in range(len(n))
    ]
    law = fit(rows)
    said = law.predict(size, tokens)
    return Answer(said.loss, said.interval_80, Coefficients.of(law).size_exponent)


def scipy_curve_fit(n: np.ndarray, d: np.ndarray, loss: np.ndarray, size: float, tokens: float) -> Answer:
    def law(x: np.ndarray, *theta: float) -> np.ndarray:
        E, a, b, alpha, beta = theta
        return E + np.exp(a - alpha * x[0]) + np.exp(b - beta * x[1])

    x = np.log(np.stack([n, d]))
    theta, covariance = curve_fit(law, x, loss, p0=(1.7, 6.0, 6.0, 0.3, 0.3), maxfev=20_000)
    at = np.log([[size], [tokens]])
    said = float(law(at, *theta)[0])
    steps = 1e-5 * np.maximum(np.abs(theta), 1e-3)
    slope = np.array([(law(at, *(theta + np.eye(5)[k] * steps[k]))[0] - said) / steps[k] for k in range(5)])
    residual = loss - law(x, *theta)
    spread = float(np.sqrt(slope @ covariance @ slope + residual @ residual / (len(loss) - 5)))
    return Answer(said, (said - Z_80 * spread, said + Z_80 * spread), theta[4] / (theta[3] + theta[4]))


def chinchilla_package(which: str) -> Fitter | None:
    try:
        from chinchilla import Chinchilla  # noqa: PLC0415 - may be missing
        from chinchilla._metrics import asymmetric_mae, log_huber  # noqa: PLC0415 - the same
    except ImportError as error:
        print(f"the package `chinchilla` is not measured: {error}")
        return None
    loss_fn = asymmetric_mae if which == "its default loss" else lambda y, p: log_huber(y, p, 1e-3)
    grid = {
        "E": np.linspace(1.0, 2.0, 3),
        "A": np.linspace(4.0, 8.0, 3),
        "B": np.linspace(4.0, 8.0, 3),
        "alpha": np.linspace(0.2, 0.6, 3),
        "beta": np.linspace(0.2, 0.6, 3),
    }
    grid = {
        name.lower() if name in "EAB" else name: np.log(v) if name == "E" else v for name, v in grid.items()
    }

    def fitter(n: np.ndarray, d: np.ndarray, loss: np.ndarray, size: float, tokens: float) -> Answer:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            one = Chinchilla(folder, param_grid=grid, loss_fn=loss_fn, log_level=50)
            for k in range(len(n)):
                one.database.append(C=6 * n[k] * d[k], N=n[k], D=d[k], loss=loss[k])
            one.fit()
            E, A, B, alpha, beta = (float(value) for value in one.get_params().values())
        return Answer(Coefficients(E, A, B, alpha, beta).loss(size, tokens), None, beta / (alpha + beta))

    return fitter


@dataclass(frozen=True)
class Design:
    """Where tables are drawn, and how noisy they are."""

    points: Points
    noise: float
    num_diverged: int = 0
    """Runs whose loss is a fifth too high."""


def measure(name: str, fitter: Fitter, design: Design, num_tables: int) -> dict[str, float | None]:
    (n, d), noise = design.points, design.noise
    best = optimum(TRUTH, 30 * float((6 * n * d).max()))
    errors, held, exponents, times, failed = [], [], [], [], 0
    for seed in range(num_tables):
        random = np.random.default_rng(seed)
        clean = np.array([TRUTH.loss(*point) for point in zip(n, d, strict=True)])
        loss = clean * np.exp(noise * random.standard_t(4, len(n)) / np.sqrt(2))
        loss[random.choice(len(n), design.num_diverged, replace=False)] *= 1.2
        new = best.loss * np.exp(noise * random.standard_t(4) / np.sqrt(2))
        start = time.perf_counter()
        try:
            said = fitter(n, d, loss, best.num_params, best.num_tokens)
        except (RuntimeError, ValueError):
            failed += 1
            continue
        times.append(time.perf_counter() - start)
        errors.append(abs(said.loss / best.loss - 1))
        exponents.append(abs(said.size_exponent - TRUTH.size_exponent))
        if said.interval_80:
            held.append(said.interval_80[0] <= new <= said.interval_80[1])
    found = {
        "error_frac": float(np.mean(errors)),
        "worst_error_frac": float(np.max(errors)),
        "exponent_error": float(np.mean(exponents)),
        "coverage_80_frac": float(np.mean(held)) if held else None,
        "time_s": float(np.median(times)),
        "failed": failed,
    }
    covered = f"80% intervals held {np.mean(held):.0%}" if held else "no intervals"
    print(
        f"{name:34s} loss off by {found['error_frac']:.3%}, at worst {found['worst_error_frac']:.2%}; exponent of the optimum by "
        f"{found['exponent_error']:.4f}; {covered}; {found['time_s']:.3f} s a table, "
        f"{failed} of {num_tables} failed"
    )
    return found


def main(folder: Path) -> dict[str, object]:
    rows = read_rows([folder / "epoch_chinchilla.csv"], drop_highest=5)
    grid = np.array([(n, d) for n in np.geomspace(1e7, 1e9, 5) for d in np.geomspace(1e9, 3e10, 4)])
    ladder = grid[:, 0], grid[:, 1]
    published = (
        np.array([float(row.num_params.total) for row in rows]),
        np.array([row.num_tokens for row in rows]),
    )
    designs = {
        "a ladder of 20 runs": Design(ladder, 0.003),
        "the same with a diverged run": Design(ladder, 0.003, num_diverged=1),
        "Chinchilla's 240": Design(published, 0.01),
    }
    fitters: dict[str, tuple[Fitter | None, int]] = {
        "kleiber with 400 refits": (kleiber, NUM_TABLES),
        "kleiber, four of the tables": (kleiber, 4),
        "scipy curve_fit": (scipy_curve_fit, NUM_TABLES),
        "chinchilla, its default loss": (chinchilla_package("its default loss"), 4),
        "chinchilla, the paper's loss": (chinchilla_package("the paper's loss"), 4),
    }
    found = {}
    for name, design in designs.items():
        print(f"{name}, noise {design.noise:.1%}, 30 times the compute:")
        found[name] = {
            peer: measure(peer, fitter, design, num) for peer, (fitter, num) in fitters.items() if fitter
        }
    return {"peers": found}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
