"""Where the best rate of a gpt stands over an eightfold width: the standard parametrization beside CompleteP, AdamW and Muon.

    python bench/ladders/transfer.py [data/text/novels.train.txt.xz] [--folder runs/transfer] [--seeds 1] [--steps 384]

One factor on both rates, `lr` and `matrix_lr`, goes over a grid of powers of two; at each width the grid is extended until its best is
inside. Where the best stands between grid points says a parabola through the best and its neighbours. Depth 2, base width 64.
Asked of CompleteP: the best moves by at most one grid step over all widths; the standard parametrization's moves more.
Every training is a line of rows.jsonl in the folder: the same command goes on where it stopped. About 15 minutes of one core; --only
adamw or muon halves that. --axis depth asks the same of depths 2 to 16 at width 64, for about twice the time.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from kleiber.data import open_data
from kleiber.models import resolve_spec
from kleiber.runs import Recipe
from kleiber.study.tuning.search import Searched, search_powers
from kleiber.tasks import task_of
from kleiber.train.schedule import rate
from kleiber.train.state import TrainState

WIDTHS = (32, 64, 128, 256)
DEPTHS = (2, 4, 8, 16)
BASE_WIDTH, BASE_DEPTH = 64, 2
OPTIMIZERS = {"adamw": (0.02, 0.004), "muon": (0.02, 0.004)}
"""`lr` and `matrix_lr` at the middle of the grid."""
RULES = ("standard", "completep")
MOST_TRIALS = 11
ASKED_STEPS = 1


@dataclass(frozen=True)
class Case:
    """One training; `power` is of two, the factor on both rates."""

    optimizer: str
    rule: str
    width: int
    power: int
    seed: int
    steps: int
    depth: int = 2


def recipe_of(case: Case, source: str) -> Recipe:
    lr, matrix_lr = OPTIMIZERS[case.optimizer]
    values = [
        f"data.source={source}", "data.vocab_size=512", "data.context=128", "data.val_tokens=32768",
        f"model.depth={case.depth}", f"model.width={case.width}", "model.head_dim=16",
        f"train.num_steps={case.steps}", "train.batch_size=4", f"train.seed={case.seed}",
        f"train.schedule.warmup_steps={case.steps // 10}",
        f"train.optimizer.name={case.optimizer}",
        f"train.optimizer.lr={lr * 2.0**case.power}", f"train.optimizer.matrix_lr={matrix_lr * 2.0**case.power}",
    ]  # fmt: skip
    if case.rule != "standard":
        values += [
            f"train.parametrization.base_depth={BASE_DEPTH}",
            f"train.parametrization.name={case.rule}",
            f"train.parametrization.base_width={BASE_WIDTH}",
        ]
    return Recipe().with_values(values)


def final_loss(recipe: Recipe) -> float | None:
    """Train without a run folder; return the validation loss, None where it is not finite."""
    train = recipe.train
    data = open_data(recipe.data, seed=train.seed, task=recipe.task)
    task, state = task_of(recipe.task, data.meta), TrainState.start(recipe, resolve_spec(recipe))
    batches = data.batches("train", 0, train.batch_size)
    for step in range(train.num_steps):
        loss = task.loss(state.module, next(batches))
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        if not math.isfinite(float(loss.detach())):
            return None
        state.optimizer.clip_(train.clip_norm)
        state.optimizer.step(rate(step, train.num_steps, train.schedule))
        state.optimizer.zero_grad()
    found = task.evaluate(state.module, data).loss
    return found if math.isfinite(found) else None


class Rows:
    """Losses of trainings, kept in a file."""

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source = path, source
        self.known: dict[Case, float | None] = {}
        if path.is_file():
            for line in path.read_text().splitlines():
                raw = json.loads(line)
                self.known[Case(**raw["case"])] = raw["loss"]

    def loss(self, case: Case) -> float:
        """Return the loss, infinite where the training diverged; train where it is not known."""
        if case not in self.known:
            start = time.perf_counter()
            self.known[case] = final_loss(recipe_of(case, self.source))
            row = {"case": asdict(case), "loss": self.known[case], "time_s": time.perf_counter() - start}
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        known = self.known[case]
        return math.inf if known is None else known


def curve(rows: Rows, first: Case, num_seeds: int) -> Searched:
    """Return the mean loss by power, over a grid that holds its best inside; all else is as in `first`."""

    def loss_at(power: int) -> float:
        return statistics.fmean(
            rows.loss(replace(first, power=power, seed=seed)) for seed in range(num_seeds)
        )

    return search_powers(loss_at, max_trials=MOST_TRIALS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", default="data/text/novels.train.txt.xz")
    parser.add_argument("--folder", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=384, help="of 512 tokens")
    parser.add_argument("--axis", choices=("width", "depth"), default="width")
    parser.add_argument("--only", choices=sorted(OPTIMIZERS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.folder.mkdir(parents=True, exist_ok=True)
    rows = Rows(asked.folder / "rows.jsonl", f"text:{asked.text}")
    sizes = WIDTHS if asked.axis == "width" else DEPTHS
    moved: dict[str, dict[str, tuple[int, float]]] = {}
    for optimizer in [asked.only] if asked.only else sorted(OPTIMIZERS):
        for rule in RULES:
            bests = []
            for size in sizes:
                at = {"width": BASE_WIDTH, "depth": BASE_DEPTH, asked.axis: size}
                first = Case(optimizer, rule, at["width"], 0, 0, asked.steps, depth=at["depth"])
                found = curve(rows, first, asked.seeds)
                bests.append((found.best_power, found.best))
                shown = "  ".join(f"{power:+d}:{loss:.3f}" for power, loss in sorted(found.losses.items()))
                print(
                    f"{optimizer:5} {rule:9} {asked.axis} {size:3}  best 2^{found.best:+.2f}  {shown}",
                    flush=True,
                )
            grid, between = zip(*bests, strict=True)
            moved.setdefault(optimizer, {})[rule] = (max(grid) - min(grid), max(between) - min(between))
    for optimizer, by_rule in moved.items():
        (plain, plain_between), (own, own_between) = by_rule["standard"], by_rule["completep"]
        is_met = own <= ASKED_STEPS and own_between < plain_between
        print(
            f"{optimizer:5} over {sizes[-1] // sizes[0]}x in {asked.axis} the best rate moves {own} grid steps ({own_between:.2f} between "
            f"points) with CompleteP, {plain} ({plain_between:.2f}) with the standard one; asked at most {ASKED_STEPS} and less "
            f"than the standard's: {'met' if is_met else 'NOT MET'}"
        )
    result = {"axis": asked.axis, "sizes": sizes, "seeds": asked.seeds, "steps": asked.steps, "moved": moved}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
