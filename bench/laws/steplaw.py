"""Step Law (arXiv:2503.04715): the best learning rate and batch over size and tokens, from 17 sweeps.

    python bench/laws/steplaw.py ../shared/data/scaling_laws

Read twice: by each sweep's lowest point for itself, and by one bowl in (log rate, log batch) of the same
curvature for all sweeps, whose lowest point moves linearly in log size and log tokens; the second lets the batch depend on size.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kleiber.scaling.hyperparameters import fit_hyperparameters, fit_shared_bowl
from kleiber.scaling.sweeps import read_sweeps

PUBLISHED = {"rate_by_size": -0.713, "rate_by_tokens": 0.307, "batch_by_tokens": 0.571}
SHARED = ("rate_by_size", "rate_by_tokens", "batch_by_size", "batch_by_tokens")
NEAR_FRACS = (0.005, 0.01, 0.02)
NUM_BOOTSTRAP = 200


def main(folder: Path) -> dict[str, object]:
    sweeps = read_sweeps([folder / "steplaw_dense.csv"], where="loss < 4")
    found: dict[str, dict[str, object]] = {}
    for near_frac in NEAR_FRACS:
        law = fit_hyperparameters(sweeps, near_frac=near_frac, num_bootstrap=NUM_BOOTSTRAP)
        each = {name: (law.coefficients[name], *law.intervals[name]["95"]) for name in PUBLISHED}
        bowl = fit_shared_bowl(sweeps, near_frac=near_frac, num_bootstrap=NUM_BOOTSTRAP)
        assert bowl is not None
        shared = {name: (bowl.coefficients[name], *bowl.intervals[name]["95"]) for name in SHARED}
        print(
            f"runs within {near_frac:.1%} of the best of a sweep; {law.num_surfaces} of {law.num_sweeps} sweeps show a bowl"
        )
        for label, read in (("each sweep", each), ("one bowl", shared)):
            for name, (value, low, high) in read.items():
                published = PUBLISHED.get(name)
                beside = (
                    ""
                    if published is None
                    else f", published {published:+.3f} {'inside' if low <= published <= high else 'OUTSIDE'}"
                )
                print(f"  {label:10s} {name:16s} {value:+.3f} (95% {low:+.3f} to {high:+.3f}){beside}")
            found.setdefault(label, {})[str(near_frac)] = {name: value for name, (value, *_) in read.items()}
    return {"by_reading": found, "published": PUBLISHED}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
