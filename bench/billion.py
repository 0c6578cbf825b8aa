"""A real billion: a perceptron and a GPT of 1.0e9 parameters, planned, then trained for a few full fp32 Adam steps here.

    python bench/billion.py                    both; 20 GiB of memory, some minutes on two cores
    python bench/billion.py --only perceptron
    python bench/billion.py --plan             predict, run nothing

Predicted and measured are what `kleiber plan MODEL --measure` shows. The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kleiber.cost.calibration import load_calibration
from kleiber.study.cost_plan import plan_cost
from kleiber.study.job import Job
from kleiber.study.measured_plan import measure_plan
from kleiber.study.place import here
from kleiber.study.planned_model import Asked, open_planned
from kleiber.units import format_bytes

ROOT = Path(__file__).parents[1]
LIMIT_BYTES = 20 * 2**30
NUM_STEPS = 3

MODELS = {
    # Fifteen matrices of 8192 x 8192.
    "perceptron": Asked(
        f"{ROOT / 'examples' / 'perceptron.py'}:Perceptron",
        inputs=("256x8192",),
        init=json.dumps({"widths": [8192] * 16}),
        batch_size=256,
        optimizer="adam",
    ),
    "gpt": Asked("gpt:params=1.0e9", batch_size=1, context=512, optimizer="adam"),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--plan", action="store_true", help="predict, run nothing")
    arguments = parser.parse_args()
    results = {
        name: run(asked, is_run=not arguments.plan)
        for name, asked in MODELS.items()
        if arguments.only in {None, name}
    }
    print(json.dumps(results))
    return 0


def run(asked: Asked, *, is_run: bool) -> dict[str, object]:
    place = here(load_calibration())
    planned = open_planned(asked, place, Job())
    plan = plan_cost(planned.model, planned.usage, place, planned.job)
    print(
        f"{plan.model}: {plan.num_params.total:,} parameters, predicted {format_bytes(plan.memory_bytes.peak)} "
        f"and {plan.step_time_s:.1f} s a step",
        flush=True,
    )
    if plan.memory_bytes.peak > LIMIT_BYTES:
        sys.exit(f"{plan.model} would need more than {format_bytes(LIMIT_BYTES)}; it is not run")
    entries = measure_plan(plan, planned.arguments, place, num_steps=NUM_STEPS) if is_run else ()
    for entry in entries:
        print(
            f"  {entry.quantity}: predicted {entry.predicted:.4g} {entry.unit}, measured {entry.measured:.4g} {entry.unit}, "
            f"error {entry.predicted / entry.measured - 1:+.1%}",
            flush=True,
        )
    return {
        "num_params": plan.num_params.total,
        "predicted": {"peak_memory_bytes": plan.memory_bytes.peak, "step_time_s": plan.step_time_s},
        "measured": {entry.quantity: entry.measured for entry in entries},
    }


if __name__ == "__main__":
    sys.exit(main())
