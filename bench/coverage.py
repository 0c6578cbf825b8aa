"""How often the intervals of a law hold, on simulated ladders whose law is known.

    python bench/coverage.py --ladders 100

Four sizes of 40 to 400 thousand parameters, two seeds, three horizons of 1,000 to 3,200 steps of 512 tokens. The truth
is a Chinchilla law with exponents and constants drawn anew for each ladder, times a smooth misfit that the form cannot
express; a trunk's branches share most of the seed noise. Each size is left out in turn, and a target of twice the largest
size and horizon is forecast. The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable

import numpy as np

from kleiber.runs import ParamCount, Row
from kleiber.scaling import fit, leave_one_out
from kleiber.scaling.backtest import coverage_frac

SIZES = np.geomspace(4e4, 4e5, 4)
HORIZONS = 512 * np.array([1000.0, 1800.0, 3200.0])
NUM_SEEDS = 2
RUN_NOISE_FRAC = 0.0015


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ladders", type=int, default=100)
    num_ladders = parser.parse_args().ladders
    results = []
    for trunk_noise_frac in (0.003, 0.005, 0.008):
        for misfit_frac in (0.0, 0.005):
            results.append(_setting(num_ladders, trunk_noise_frac, misfit_frac))
            print(json.dumps(results[-1]), flush=True)
    print(json.dumps({"num_ladders": num_ladders, "settings": results}))


def _setting(num_ladders: int, trunk_noise_frac: float, misfit_frac: float) -> dict[str, float]:
    """Return coverage and half-widths over ladders of one kind."""
    random = np.random.default_rng(1)
    cells, target_held, target_widths = [], [], []
    for _ in range(num_ladders):
        truth = _draw_truth(random, misfit_frac)
        rows = _draw_rows(random, truth, trunk_noise_frac)
        cells += leave_one_out(rows, num_bootstrap=100)
        size, tokens = 2 * SIZES[-1], 2 * HORIZONS[-1]
        noise = random.normal(0, np.hypot(trunk_noise_frac, RUN_NOISE_FRAC))
        low, high = fit(rows, num_bootstrap=100).predict(size, tokens).interval_80
        measured = truth(size, tokens) * np.exp(noise)
        target_held.append(low <= measured <= high)
        target_widths.append((high - low) / 2 / measured)
    return {
        "trunk_noise_frac": trunk_noise_frac,
        "misfit_frac": misfit_frac,
        "size_out_coverage_80_frac": coverage_frac(cells, "80"),
        "size_out_coverage_95_frac": coverage_frac(cells, "95"),
        "size_out_half_width_frac": statistics.median(cell.half_width_frac() for cell in cells),
        "target_coverage_80_frac": statistics.fmean(target_held),
        "target_half_width_frac": statistics.median(target_widths),
    }


def _draw_truth(random: np.random.Generator, misfit_frac: float) -> Callable[[float, float], float]:
    E, a, b = random.uniform(1.2, 1.8), random.uniform(1.6, 2.0), random.uniform(0.9, 1.2)
    alpha, beta = random.uniform(0.25, 0.4), random.uniform(0.3, 0.5)
    in_n, in_d = random.uniform(-misfit_frac, misfit_frac, 2)
    phase_n, phase_d = random.uniform(0, 2 * np.pi, 2)

    def truth(N: float, D: float) -> float:
        law = E + a * (N / SIZES[0]) ** -alpha + b * (D / HORIZONS[0]) ** -beta
        wave_n = in_n * np.sin(2 * np.pi * np.log(N) / np.log(40) + phase_n)
        wave_d = in_d * np.sin(2 * np.pi * np.log(D) / np.log(20) + phase_d)
        return float(law * np.exp(wave_n + wave_d))

    return truth


def _draw_rows(
    random: np.random.Generator, truth: Callable[[float, float], float], trunk_noise_frac: float
) -> list[Row]:
    rows = []
    for size in SIZES:
        for seed in range(NUM_SEEDS):
            trunk_noise = random.normal(0, trunk_noise_frac)
            for tokens in HORIZONS:
                loss = truth(size, tokens) * np.exp(trunk_noise + random.normal(0, RUN_NOISE_FRAC))
                count = ParamCount(embedding=0, body=round(size), head=0)
                trunk = f"{size:.0f}-{seed}"
                rows.append(
                    Row(
                        run=f"{trunk}-{tokens:.0f}",
                        num_params=count,
                        num_tokens=tokens,
                        loss=loss,
                        trunk=trunk,
                        seed=seed,
                    )
                )
    return rows


if __name__ == "__main__":
    main()
