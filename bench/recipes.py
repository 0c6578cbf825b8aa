"""Train every recipe on public data, each beside its classical baselines, and print what they came to as a table.

What is finished in the runs' folder is not trained again. The recipes name their data below `data/`: run this where that
folder, or a link to it, stands. The last line is JSON.

    python bench/recipes.py [--runs runs] [--threads 2] [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from kleiber.runs import RunFolder

RECIPES = Path(__file__).parents[1] / "recipes"
SHOWN = ("accuracy", "auc", "r2", "bleu", "image_to_text_recall_at_1", "bits_per_byte")
"""The first of a run's measures among these is its figure; AUC where classes are weighed against their rarity."""


def names_of(asked: list[str]) -> list[str]:
    """Return the recipes, ladders left out."""
    return asked or sorted(
        path.stem for path in RECIPES.glob("*.yaml") if not path.stem.startswith(("ladder-", "study-"))
    )


def train(name: str, folder: Path, threads: int) -> None:
    """Train a recipe; one whose data is not there says so, and the others go on."""
    command = [
        sys.executable,
        "-m",
        "kleiber",
        "train",
        str(RECIPES / f"{name}.yaml"),
        "-o",
        str(folder / name),
    ]
    subprocess.run([*command, "--baseline", "--set", f"parallel.num_threads={threads}"], check=False)


def figure(metrics: dict[str, Any], measure: str) -> str:
    one = metrics.get(measure)
    return f"{one.value:.4g} [{one.low:.4g}, {one.high:.4g}]" if one else ""


def row(run: RunFolder) -> dict[str, Any]:
    """Return what a run and its baselines came to, on the test split where there is one."""
    record = run.read_record()
    result = record.result
    if result is None:
        return {"recipe": run.name, "status": record.status}
    metrics = result.test_metrics or result.val_metrics
    wanted = ("auc", *SHOWN) if record.recipe.task.class_weights == "balanced" else SHOWN
    measure = next(name for name in wanted if name in metrics)
    baseline = run.read_baseline()
    return {
        "recipe": run.name,
        "parameters": record.num_params.total,
        "measure": measure,
        "split": "test" if result.test_metrics else "validation",
        "figure": figure(metrics, measure),
        "baselines": {
            one.method: figure(one.test_metrics or one.val_metrics, measure)
            for one in (baseline.results if baseline else ())
        },
        "cpu_minutes": round(result.total_time_s * record.environment.num_threads / 60, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table-only", action="store_true", help="train nothing, show what is there")
    asked = parser.parse_args()
    rows = []
    for name in names_of(asked.names):
        if not asked.table_only:
            train(name, asked.runs, asked.threads)
        run = RunFolder(asked.runs / name)
        if run.exists():
            rows.append(row(run))
    print(
        "| recipe | parameters | measured | this model | classical | thread-minutes |\n| --- | --- | --- | --- | --- | --- |"
    )
    for one in rows:
        if "figure" in one:
            beside = "; ".join(f"{method} {value}" for method, value in one["baselines"].items())
            print(
                f"| {one['recipe']} | {one['parameters']:,} | {one['measure']}, {one['split']} | {one['figure']} | "
                f"{beside} | {one['cpu_minutes']} |"
            )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
