"""Predicted beside measured: peak memory, parameters and FLOPs of training steps, Kleiber's and other tools'.

    python bench/cost_grid.py                          all cells, some minutes on two cores
    python bench/cost_grid.py --cells gpt-short,gru-100
    python bench/cost_grid.py --output grid.jsonl      a cell that is in the file is not measured again

Each step is measured in a fresh process, which is why a cell takes seconds. The table goes to stdout, and as its last
line one JSON document; progress goes to stderr. Needs `pip install -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cost_cells import CELLS, Cell

from kleiber.errors import KleiberError
from kleiber.study.measured_step import measure

TOOLS = ("kleiber", "torchinfo", "accelerate", "deepspeed", "calflops")
NUM_STEPS = 3
NUM_THREADS = 2


def main() -> int:
    arguments = _arguments()
    known = _read(arguments.output)
    cells = [cell for cell in CELLS if not arguments.cells or cell.name in arguments.cells.split(",")]
    # A server that has imported everything hands out a clean process for each cell: some peers patch torch.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cost_prediction"])
    rows = []
    with context.Pool(1, maxtasksperchild=1) as pool:
        for number, cell in enumerate(cells, 1):
            start = time.perf_counter()
            measured = known[cell.name]["measured"] if cell.name in known else _measure(cell)
            says = pool.apply(_predict, (cell.name,))
            row = {"cell": cell.name, "is_large": cell.is_large, "measured": measured, "says": says}
            rows.append(row)
            if cell.name not in known:
                _append(arguments.output, row)
            print(
                f"{number}/{len(cells)} {cell.name} {time.perf_counter() - start:.1f} s",
                file=sys.stderr,
                flush=True,
            )
    summary = summarize(rows)
    if not arguments.json:
        _print_table(rows, summary)
    print(json.dumps({"tools": summary, "cells": rows}))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", help="names joined by commas; default all")
    parser.add_argument("--json", action="store_true", help="only the last line")
    parser.add_argument("--output", type=Path, help="JSON lines of measured cells, read and added to")
    arguments = parser.parse_args()
    names = {cell.name for cell in CELLS}
    unknown = set(arguments.cells.split(",")) - names if arguments.cells else set()
    if unknown:
        parser.error(f"unknown cells {sorted(unknown)}; known: {', '.join(sorted(names))}")
    return arguments


def _read(path: Path | None) -> dict[str, dict[str, Any]]:
    if path is None or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["cell"]: row for row in rows}


def _append(path: Path | None, row: dict[str, Any]) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            print(json.dumps(row), file=file)


def _measure(cell: Cell) -> dict[str, Any]:
    try:
        measured = measure(cell.subject, cell.usage, num_steps=NUM_STEPS, num_threads=NUM_THREADS)
    except KleiberError as error:
        sys.exit(f"{cell.name}: {error}")
    return measured.model_dump(mode="json")


def _predict(name: str) -> dict[str, Any]:
    """Return what every tool says of a cell; runs in a process of its own."""
    from cost_prediction import predict  # noqa: PLC0415 - torch stays out of the process that waits

    cell = next(cell for cell in CELLS if cell.name == name)
    return {tool: asdict(says) for tool, says in predict(cell).items()}


def summarize(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each tool's errors: of memory against what was measured, of counts against torch's own."""
    rows = list(rows)
    summary = {}
    for tool in TOOLS:
        memory = _errors(memory_error_frac(row, tool) for row in rows)
        params = _errors(_count_error_frac(row, tool, "num_params") for row in rows)
        flops = _errors(_count_error_frac(row, tool, "forward_flops") for row in rows)
        summary[tool] = {
            "memory": memory,
            "params": params,
            "forward_flops": flops,
            "num_failed": sum(row["says"][tool]["failure"] is not None for row in rows),
        }
    return summary


def _errors(errors: Iterable[float | None]) -> dict[str, float | int] | None:
    sizes = [abs(error) for error in errors if error is not None]
    if not sizes:
        return None
    return {
        "num_cells": len(sizes),
        "num_exact": sum(size == 0 for size in sizes),
        "mean_error_frac": statistics.fmean(sizes),
        "worst_error_frac": max(sizes),
    }


def memory_error_frac(row: dict[str, Any], tool: str) -> float | None:
    """Return predicted / measured - 1, None where the tool says nothing of memory."""
    predicted = row["says"][tool]["memory_bytes"]
    return None if predicted is None else predicted / row["measured"]["peak_memory_bytes"] - 1


def _count_error_frac(row: dict[str, Any], tool: str, quantity: str) -> float | None:
    said, true = row["says"][tool][quantity], row["says"]["torch"][quantity]
    if said is None:
        return None
    # What torch's counter does not know at all, such as a recurrent layer alone, leaves nothing to divide by.
    return said / true - 1 if true else float(said != true)


def _print_table(rows: list[dict[str, Any]], summary: dict[str, dict[str, Any]]) -> None:
    with_memory = [tool for tool in TOOLS if summary[tool]["memory"]]
    print(f"{'cell':24s}{'parameters':>14s}{'peak':>10s}" + "".join(f"{tool:>12s}" for tool in with_memory))
    for row in rows:
        errors = [memory_error_frac(row, tool) for tool in with_memory]
        print(
            f"{row['cell']:24s}{row['measured']['num_params']:14,d}{row['measured']['peak_memory_bytes'] / 1e6:7.0f} MB"
            + "".join(f"{'-' if error is None else format(error, '+.1%'):>12s}" for error in errors)
        )
    for label in ("mean", "worst"):
        print(
            f"{f'{label} absolute error':48s}"
            + "".join(f"{summary[tool]['memory'][f'{label}_error_frac']:>12.1%}" for tool in with_memory)
        )
    print("\nCounts beside sum(numel) and torch's FlopCounterMode:")
    for tool in TOOLS:
        print(
            f"  {tool:12s}failed on {summary[tool]['num_failed']:2d}"
            + "".join(
                f"; {quantity} exact in {found['num_exact']} of {found['num_cells']}, worst error {found['worst_error_frac']:.1%}"
                for quantity in ("params", "forward_flops")
                if (found := summary[tool][quantity])
            )
        )


if __name__ == "__main__":
    sys.exit(main())
