"""Step Law (arXiv:2503.04715): the best learning rate and batch over size and tokens, from 17 sweeps.

    python bench/laws/steplaw.py ../shared/data/scaling_laws

Read twice: by the tool, which takes each sweep's lowest point for itself, and by one bowl in (log rate, log batch) of the same
curvature for all sweeps, whose lowest point moves linearly in log size and log tokens; the second lets the batch depend on size.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kleiber.scaling.forms import Array
from kleiber.scaling.hyperparameters import Sweep, fit_hyperparameters, read_sweeps

PUBLISHED = {"rate_by_size": -0.713, "rate_by_tokens": 0.307, "batch_by_tokens": 0.571}
SHARED = ("rate_by_size", "rate_by_tokens", "batch_by_size", "batch_by_tokens")
NEAR_FRACS = (0.005, 0.01, 0.02)
NUM_BOOTSTRAP = 200


def shared_bowl(sweeps: Sequence[Sweep], near_frac: float) -> Array:
    """Return the exponents `SHARED` [4] of one bowl for all sweeps, each sweep counting alike, by linear least squares."""
    log_n, log_d = (np.log([getattr(one, name) for one in sweeps]) for name in ("num_params", "num_tokens"))
    rows, losses = [], []
    for k, one in enumerate(sweeps):
        near = one.loss <= (1 + near_frac) * one.loss.min()
        x, y = np.log(one.learning_rate[near]), np.log(one.batch[near])
        own = np.zeros((len(x), len(sweeps)))
        own[:, k] = 1
        n, d = log_n[k] - log_n.mean(), log_d[k] - log_d.mean()
        bowl = np.stack([x * x, x * y, y * y, x, n * x, d * x, y, n * y, d * y], axis=1)
        weight = len(x) ** -0.5
        rows.append(weight * np.hstack([own, bowl]))
        losses.append(weight * np.log(one.loss[near]))
    xx, xy, yy, *slopes = np.linalg.lstsq(np.concatenate(rows), np.concatenate(losses), rcond=None)[0][
        len(sweeps) :
    ]
    vertex = -np.linalg.solve(np.array([[2 * xx, xy], [xy, 2 * yy]]), np.array(slopes).reshape(2, 3))
    return vertex[:, 1:].ravel()


def shared(sweeps: Sequence[Sweep], near_frac: float) -> dict[str, tuple[float, float, float]]:
    """Return each exponent with the ends of its 95% interval, from resampled sweeps."""
    random = np.random.default_rng(0)
    draws = random.integers(len(sweeps), size=(NUM_BOOTSTRAP, len(sweeps)))
    samples = np.array([shared_bowl([sweeps[k] for k in draw], near_frac) for draw in draws])
    low, high = np.quantile(samples, (0.025, 0.975), axis=0)
    found = shared_bowl(sweeps, near_frac)
    return {name: (float(found[k]), float(low[k]), float(high[k])) for k, name in enumerate(SHARED)}


def main(folder: Path) -> dict[str, object]:
    sweeps = read_sweeps([folder / "steplaw_dense.csv"], "lr", "bs_seq", where="loss < 4")
    found: dict[str, dict[str, object]] = {}
    for near_frac in NEAR_FRACS:
        law = fit_hyperparameters(sweeps, near_frac=near_frac, num_bootstrap=NUM_BOOTSTRAP)
        each = {name: (law.coefficients[name], *law.intervals[name]["95"]) for name in PUBLISHED}
        print(
            f"runs within {near_frac:.1%} of the best of a sweep; {law.num_surfaces} of {law.num_sweeps} sweeps show a bowl"
        )
        for label, read in (("each sweep", each), ("one bowl", shared(sweeps, near_frac))):
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
