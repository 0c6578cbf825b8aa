"""The published refit of Chinchilla and backtests on its rows, beside Kleiber's fit.

    python bench/laws.py ../shared/data/scaling_laws

The folder holds `epoch_chinchilla.csv` (Besiroglu et al. 2024, arXiv:2404.10102). The last line is one JSON document.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from kleiber.runs import Row
from kleiber.scaling import COEFFICIENTS, fit, read_rows
from kleiber.scaling.bootstrap import estimate
from kleiber.scaling.forms import CHINCHILLA, Design

PUBLISHED = {
    "E": (1.817, 1.769, 1.871),
    "A": (482.0, 285.0, 744.0),
    "B": (2085.0, 1042.0, 5810.0),
    "alpha": (0.348, 0.317, 0.373),
    "beta": (0.366, 0.331, 0.415),
}
PUBLISHED_OBJECTIVE = 0.0010183


def compute(row: Row) -> float:
    return 6.0 * row.num_params.total * row.num_tokens


def refit(rows: list[Row]) -> dict[str, object]:
    design = Design.of(
        {
            "N": np.array([float(row.num_params.total) for row in rows]),
            "D": np.array([row.num_tokens for row in rows]),
        }
    )
    log_loss = np.log([row.loss for row in rows])
    start = time.perf_counter()
    estimate(CHINCHILLA, design, log_loss)
    point_s = time.perf_counter() - start
    start = time.perf_counter()
    law = fit(rows, num_bootstrap=4000)
    bootstrap_s = time.perf_counter() - start
    for name in COEFFICIENTS:
        low, high = law.intervals[name]["95"]
        print(
            f"{name:6s} {law.coefficients[name]:10.4f}  95% {low:10.4f} {high:10.4f}   "
            "published {:10.4f}  95% {:10.4f} {:10.4f}".format(*PUBLISHED[name])
        )
    print(
        f"objective {law.objective:.8f}, published {PUBLISHED_OBJECTIVE}; {point_s:.3f} s, 4,000 refits {bootstrap_s:.1f} s"
    )
    return {
        "coefficients": law.coefficients,
        "intervals_95": {name: law.intervals[name]["95"] for name in COEFFICIENTS},
        "objective": law.objective,
        "published_objective": PUBLISHED_OBJECTIVE,
        "point_fit_s": point_s,
        "bootstrap_4000_s": bootstrap_s,
    }


def backtest(rows: list[Row], cheapest_frac: float) -> dict[str, float]:
    """Fit the cheap part, predict the dear part."""
    ordered = sorted(rows, key=compute)
    cut = round(cheapest_frac * len(ordered))
    law = fit(ordered[:cut])
    predictions = [law.predict(row.num_params.total, row.num_tokens) for row in ordered[cut:]]
    errors = [abs(p.loss / row.loss - 1) for p, row in zip(predictions, ordered[cut:], strict=True)]
    inside_80 = [
        p.interval_80[0] <= row.loss <= p.interval_80[1]
        for p, row in zip(predictions, ordered[cut:], strict=True)
    ]
    inside_95 = [
        p.interval_95[0] <= row.loss <= p.interval_95[1]
        for p, row in zip(predictions, ordered[cut:], strict=True)
    ]
    return {
        "cheapest_frac": cheapest_frac,
        "compute_factor": compute(ordered[-1]) / compute(ordered[cut - 1]),
        "mean_error_frac": float(np.mean(errors)),
        "coverage_80_frac": float(np.mean(inside_80)),
        "coverage_95_frac": float(np.mean(inside_95)),
    }


def main() -> None:
    rows = read_rows([Path(sys.argv[1]) / "epoch_chinchilla.csv"], drop_highest=5)
    result = refit(rows)
    tests = [backtest(rows, cheapest_frac) for cheapest_frac in (0.5, 0.7, 0.8)]
    for test in tests:
        print(
            f"cheapest {test['cheapest_frac']:.0%}, up to {test['compute_factor']:.0f}x: mean error {test['mean_error_frac']:.2%}, "
            f"80% intervals held {test['coverage_80_frac']:.0%}, 95% {test['coverage_95_frac']:.0%}"
        )
    print(json.dumps(result | {"backtests": tests}))


if __name__ == "__main__":
    main()
