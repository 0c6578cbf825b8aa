"""The preset `fast` against a plain AdamW gpt of as many parameters: tokens and seconds to the same validation loss, over seeds.

    python bench/ladders/time_to_loss.py --text data/text/novels.train.txt.xz --folder build/time_to_loss --size 2e6 --seeds 3

1. The rates and the batch of `plain` are tuned: from a start, one step up or down of one of them at a time, kept where the loss
   falls, on a part of the tokens; then the best rate and half of it on all tokens.
2. `plain` is trained on all tokens, once a seed. What it comes to is that seed's target.
3. `fast` is trained on a quarter of the tokens, its schedule as long as that; on fewer while it is below the target and on more
   while it is above. Between the last two, log tokens are interpolated at the target.

Seconds are those of the whole run (validation and checkpoints as well), interpolated with the tokens. Finished runs are rows of
FOLDER/rows.jsonl and are not trained again; a run that was cut off goes on. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ablation import SHAPES, TOKENS, Asked, at_equal_size, paired, read_rows, trained
from scipy import stats

from kleiber.models import resolve_spec
from kleiber.runs import Recipe, hash_of

ASKED = {"tokens": 2.5, "seconds": 2.0}
"""Times fewer."""
PARTS = (1.0, 1 / 1.5, 1 / 2, 1 / 2.5, 1 / 3, 1 / 4, 1 / 5, 1 / 6.5, 1 / 8, 1 / 10, 1 / 13, 1 / 16)
"""Of plain's tokens, that fast is trained on."""
FIRST_PART = PARTS.index(1 / 4)
AXES: dict[str, tuple[float, ...]] = {
    "matrix_lr": (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016),
    "lr_ratio": (1.0, 2.5, 5.0),
    "batch": (4, 8, 16, 32),
}
START = {"matrix_lr": 0.004, "lr_ratio": 1.0, "batch": 8}


@dataclass(frozen=True)
class Bench:
    """Trains, and remembers what was trained."""

    asked: Asked
    path: Path

    def loss(
        self, preset: str, seed: int, num_tokens: float, settings: dict[str, float] | None = None
    ) -> dict[str, Any]:
        """Return the row of a run, trained if there is none."""
        settings = settings or {}
        asked = replace(
            self.asked, num_tokens=num_tokens, batch_size=int(settings.get("batch", self.asked.batch_size))
        )
        target = resolve_spec(Recipe().with_values(asked.base("fast"))).count().total
        recipe = at_equal_size([*asked.base(preset), *rates(settings), f"train.seed={seed}"], target)
        for row in read_rows(self.path):
            if row["recipe_hash"] == hash_of(recipe):
                return row
        row = {"preset": preset, "size": asked.size, "seed": seed, "tokens": num_tokens, "settings": settings}
        done = trained(recipe, self.path.parent / f"{preset}-{hash_of(recipe)}", row)
        with self.path.open("a") as file:
            file.write(json.dumps(done) + "\n")
        print(
            f"{preset} {settings or ''} seed {seed}, {num_tokens:.3g} tokens: loss {done['val_loss']:.4f}, "
            f"{done['total_time_s']:.0f} s",
            flush=True,
        )
        return done


def rates(settings: dict[str, float]) -> Iterator[str]:
    """Yield the assignments of what was tuned."""
    if settings:
        yield f"train.optimizer.matrix_lr={settings['matrix_lr']:.6g}"
        yield f"train.optimizer.lr={settings['matrix_lr'] * settings['lr_ratio']:.6g}"


def tuned(bench: Bench, num_tokens: float, most: int) -> dict[str, float]:
    """Return plain's best settings, one step of one axis at a time, in at most so many runs."""
    tried: dict[tuple[float, ...], float] = {}

    def loss_of(settings: dict[str, float]) -> float:
        key = tuple(settings.values())
        if key not in tried:
            tried[key] = (
                bench.loss("plain", 0, num_tokens, settings)["val_loss"] if len(tried) < most else math.inf
            )
        return tried[key]

    best, is_better = dict(START), True
    while is_better:
        is_better = False
        for axis, values in AXES.items():
            for step in (1, -1):
                while 0 <= (place := values.index(best[axis]) + step) < len(values):
                    other = {**best, axis: values[place]}
                    if loss_of(other) >= loss_of(best):
                        break
                    best, is_better = other, True
    print(
        f"plain was tuned on {num_tokens:.3g} tokens in {sum(map(math.isfinite, tried.values()))} runs: {best}",
        flush=True,
    )
    return best


def crossing(bench: Bench, seed: int, target: dict[str, Any], num_tokens: float) -> dict[str, Any] | None:
    """Return tokens and seconds at which fast is at the target of a seed; None where no part is on the other side."""
    place = FIRST_PART
    row = bench.loss("fast", seed, num_tokens * PARTS[place])
    step = 1 if row["val_loss"] <= target["val_loss"] else -1
    while 0 <= place + step < len(PARTS):
        place += step
        other = bench.loss("fast", seed, num_tokens * PARTS[place])
        if (other["val_loss"] <= target["val_loss"]) != (row["val_loss"] <= target["val_loss"]):
            part = (target["val_loss"] - row["val_loss"]) / (other["val_loss"] - row["val_loss"])
            return {
                key: math.exp(math.log(row[key]) + part * math.log(other[key] / row[key]))
                for key in ("num_tokens", "total_time_s")
            }
        row = other
    return None


def gains(pairs: Sequence[tuple[float, float]], asked: float) -> dict[str, float]:
    """Return how many times fewer, the 95% interval over seeds, and the p-value of not even `asked` times."""
    logs = [math.log(plain / fast) for plain, fast in pairs]
    mean, num = statistics.fmean(logs), len(logs)
    if num < 2:
        return {"times_fewer": math.exp(mean), "asked": asked}
    error = statistics.stdev(logs) / math.sqrt(num)
    reach = float(stats.t.ppf(0.975, num - 1)) * error
    return {
        "times_fewer": math.exp(mean),
        "low": math.exp(mean - reach),
        "high": math.exp(mean + reach),
        "asked": asked,
        "p": float(stats.t.sf((mean - math.log(asked)) / error, num - 1)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", default="data/text/novels.train.txt.xz")
    parser.add_argument("--folder", type=Path, default=Path("build/time_to_loss"))
    parser.add_argument("--size", type=float, default=2e6, choices=list(SHAPES), metavar="0.5e6|2e6|5e6")
    parser.add_argument("--tokens", type=float, help="of plain; by size where it is not given")
    parser.add_argument("--tune-part", type=float, default=0.25, help="of the tokens, that plain is tuned on")
    parser.add_argument("--tune-runs", type=int, default=14, help="at most")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="of fast: sequences of 256 tokens a step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE on top of fast")
    given = parser.parse_args()
    num_tokens = given.tokens or TOKENS[given.size]
    given.folder.mkdir(parents=True, exist_ok=True)
    asked = Asked(given.text, given.size, num_tokens, given.batch, given.threads, tuple(given.set))
    bench = Bench(asked, given.folder / "rows.jsonl")
    best = tuned(bench, num_tokens * given.tune_part, given.tune_runs)
    lower = {**best, "matrix_lr": best["matrix_lr"] / 2}
    best = min((best, lower), key=lambda one: bench.loss("plain", 0, num_tokens, one)["val_loss"])
    targets = [bench.loss("plain", seed, num_tokens, best) for seed in range(given.seeds)]
    found = [crossing(bench, seed, target, num_tokens) for seed, target in enumerate(targets)]
    print(json.dumps(report(bench, targets, found, num_tokens) | {"plain": best}))


def report(
    bench: Bench, targets: Sequence[dict[str, Any]], found: Sequence[dict[str, Any] | None], num_tokens: float
) -> dict[str, Any]:
    """Print and return tokens and seconds of both, and the losses at a fixed part of the tokens."""
    print("seed  loss of plain      tokens    seconds | fast at that loss: tokens    seconds")
    both = [(target, one) for target, one in zip(targets, found, strict=True) if one is not None]
    for target, one in both:
        print(
            f"{target['seed']:4d} {target['val_loss']:14.4f} {target['num_tokens']:11.4g} {target['total_time_s']:10.0f} | "
            f"{one['num_tokens']:25.4g} {one['total_time_s']:10.0f}"
        )
    if len(both) < len(targets):
        print(f"{len(targets) - len(both)} seeds: no part of the tokens is on the other side of the target")
    shown: dict[str, Any] = {}
    for name, key in (("tokens", "num_tokens"), ("seconds", "total_time_s")) if both else ():
        shown[name] = gains([(target[key], one[key]) for target, one in both], ASKED[name])
        line = shown[name]
        print(
            f"{name}: {line['times_fewer']:.2f} times fewer ({line.get('low', math.nan):.2f} to {line.get('high', math.nan):.2f}); "
            f"asked {line['asked']:g}, p of less {line.get('p', math.nan):.2g}"
        )
    fixed = [
        bench.loss("fast", target["seed"], num_tokens / ASKED["tokens"])["val_loss"] for target in targets
    ]
    mean, reach, p = paired(fixed, [target["val_loss"] for target in targets])
    print(
        f"fast on 1/{ASKED['tokens']:g} of the tokens - plain on all: {mean:+.4f} +- {reach:.4f}, p {p:.2g}"
    )
    return shown | {"at_asked_tokens": {"difference": mean, "half_width": reach, "p": p}}


if __name__ == "__main__":
    main()
