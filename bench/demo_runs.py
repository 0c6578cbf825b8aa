"""Several demos with different seeds: how far off were the forecasts, and did their intervals hold?

    python bench/demo_runs.py --runs 5 --folder runs/bench

Each demo is a process of its own, timed from its start to its report. A demo that has finished is not run again. The
last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kleiber.runs import RunFolder
from kleiber.scaling import Forecast, Law, leave_one_out
from kleiber.scaling.backtest import coverage_frac


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"))
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.runs)
    demos = [_demo(seed, arguments.folder / f"demo-{seed}") for seed in seeds]
    cells = [cell for seed in seeds for cell in _cells(arguments.folder / f"demo-{seed}")]
    errors = [abs(demo["law_error_frac"]) for demo in demos]
    summary = {
        "demos": demos,
        "worst_error_frac": max(errors),
        "mean_abs_error_frac": statistics.fmean(errors),
        # No skill: the target was no better than the last rung.
        "worst_skill": max(math.inf if demo["skill"] is None else demo["skill"] for demo in demos),
        "num_inside_80": sum(demo["is_inside"] for demo in demos),
        "leave_one_size_out": {
            "num_cells": len(cells),
            "coverage_80_frac": coverage_frac(cells, "80"),
            "coverage_95_frac": coverage_frac(cells, "95"),
            "mean_abs_error_frac": statistics.fmean(abs(cell.error_frac) for cell in cells),
        },
    }
    print(json.dumps(summary))


def _demo(seed: int, folder: Path) -> dict[str, Any]:
    """Run one demo, or read it when it has finished, and return its figures."""
    clock = folder / "wall_clock_s.txt"
    if not clock.is_file():
        if folder.exists():
            sys.exit(f"{folder} holds a demo that was stopped: its time is not known. Remove it first.")
        start = time.perf_counter()
        command = [sys.executable, "-m", "kleiber", "demo", "--seed", str(seed), "-o", str(folder)]
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"demo-{seed}.log").open("w") as log:
            subprocess.run(command, check=True, stdout=log)
        clock.write_text(f"{time.perf_counter() - start:.1f}\n")
    ledger = {(entry.quantity, entry.method): entry for entry in RunFolder(folder / "target").read_ledger()}
    law, forecast = ledger["val_loss", "law"], Forecast.read(folder / "forecast.json")
    figures = {
        "seed": seed,
        "wall_clock_s": float(clock.read_text()),
        "forecast": law.predicted,
        "measured": law.measured,
        "law_error_frac": law.error_frac,
        "skill": law.skill,
        "is_inside": law.is_inside,
        "half_width_80_frac": (forecast.interval_80[1] - forecast.interval_80[0]) / 2 / forecast.loss,
        "last_rung_error_frac": ledger["val_loss", "last_rung"].error_frac,
        "log_log_line_error_frac": ledger["val_loss", "log_log_line"].error_frac,
        "time_error_frac": ledger["total_time_s", "plan"].error_frac,
        "memory_error_frac": ledger["peak_memory_bytes", "plan"].error_frac,
    }
    print(json.dumps(figures), flush=True)
    return figures


def _cells(folder: Path) -> list[Any]:
    """Return the cells of a ladder, each predicted from the other sizes."""
    law = Law.read(folder / "law.json")
    return list(leave_one_out(list(law.rows), by="size", convention=law.convention))


if __name__ == "__main__":
    main()
