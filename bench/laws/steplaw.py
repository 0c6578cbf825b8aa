"""Step Law (arXiv:2503.04715): the best learning rate and batch over size and tokens, from 17 sweeps.

python bench/laws/steplaw.py ../shared/data/scaling_laws
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kleiber.scaling.hyperparameters import fit_hyperparameters, read_sweeps

PUBLISHED = {"rate_by_size": -0.713, "rate_by_tokens": 0.307, "batch_by_tokens": 0.571}


def main(folder: Path) -> dict[str, object]:
    sweeps = read_sweeps([folder / "steplaw_dense.csv"], "lr", "bs_seq", where="loss < 4")
    found: dict[str, dict[str, object]] = {}
    for near_frac in (0.005, 0.01, 0.02):
        law = fit_hyperparameters(sweeps, near_frac=near_frac, num_bootstrap=200)
        found[str(near_frac)] = {name: law.coefficients[name] for name in PUBLISHED}
        for name, published in PUBLISHED.items():
            low, high = law.intervals[name]["95"]
            print(
                f"runs within {near_frac:.1%} of the best of a sweep: {name:16s} {law.coefficients[name]:+.3f} "
                f"(95% {low:+.3f} to {high:+.3f}), published {published:+.3f} {'inside' if low <= published <= high else 'OUTSIDE'}"
            )
        print(f"  {law.num_surfaces} of {law.num_sweeps} sweeps show a bowl")
    return {"by_near_frac": found, "published": PUBLISHED}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
