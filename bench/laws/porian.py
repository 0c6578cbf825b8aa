"""Porian et al. 2024 (arXiv:2406.19146): the exponent of the optimum, from Kaplan's accounting to corrected and tuned runs.

python bench/laws/porian.py ../shared/data/scaling_laws
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kleiber.scaling import allocations, read_rows

STAGES = {
    "Kaplan's accounting": 'flops_basis == "isoflop_kaplan"',
    "with the last layer's FLOPs": 'hparams == "base" and warmup == "long" and split == "val"',
    "and a short warm-up": 'hparams == "base" and warmup == "short" and decay == "kaplan"',
    "and decay to the run's end": 'decay == "chinchilla"',
    "tuned at every size": 'hparams == "tuned"',
}
KAPLAN, CHINCHILLA = 0.73, 0.5


def main(folder: Path) -> dict[str, object]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    for group in ("rw", "owt2"):
        for stage, condition in STAGES.items():
            rows = read_rows([folder / "porian.csv"], where=f'group == "{group}" and {condition}')
            each = allocations(
                rows, [1e19], estimators=("projection", "approach1", "approach2"), num_bootstrap=100
            )
            found.setdefault(group, {})[stage] = {one.estimator: one.size_exponent for one in each}
            shown = ", ".join(
                f"{one.estimator} {one.size_exponent:.3f} ({one.size_exponent_80[0]:.3f} to {one.size_exponent_80[1]:.3f})"
                for one in each
            )
            print(f"{group:5s} {stage:28s} {len(rows):4d} rows: {shown}")
    last = {group: stages["tuned at every size"]["approach2"] for group, stages in found.items()}
    first = {group: stages["Kaplan's accounting"]["approach2"] for group, stages in found.items()}
    met = {
        "corrected": all(abs(a - CHINCHILLA) <= 0.05 for a in last.values()),
        "kaplan": all(abs(a - KAPLAN) <= 0.1 for a in first.values()),
    }
    print(
        f"porian, approach 2: corrected {last} (asked near {CHINCHILLA}) {'met' if met['corrected'] else 'NOT MET'}; "
        f"Kaplan's {first} (asked near {KAPLAN}, within 0.1) {'met' if met['kaplan'] else 'NOT MET'}"
    )
    return {"exponents": found, "met": met}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
