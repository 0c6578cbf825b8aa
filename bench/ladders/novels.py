"""What the benches of ladders share: the text, the recipe of every run, and how runs are trained side by side.

Rates were looked for at width 96, depth 3 (300 steps of 4,096 tokens, a grid of nine), scaled by the root of the batch; other
widths and horizons follow CompleteP and the rule of the horizon.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kleiber.fleet import Done, Job, JobEvent, LocalExecutor
from kleiber.models import resolve_spec
from kleiber.runs import Predicted, Recipe, RunFolder, find_runs, read_recipe
from kleiber.scaling import Law, fit
from kleiber.study.design import LadderDesign, target_recipe
from kleiber.train import Progress, train

TEXT = "data/text/novels.train.txt.xz"
DEPTH, HEAD_DIM = 3, 16
FLOOR_BITS_PER_BYTE = 0.58
"""Of English text: about Chinchilla's 1.69 nats of a token of 4.2 bytes (Hoffmann et al. 2022, equation 10)."""


def parser(description: str | None, folder: str) -> argparse.ArgumentParser:
    """Return the options that every bench here has."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument(
        "--folder", type=Path, default=Path(folder), help="what is finished there is not done again"
    )
    found.add_argument("--text", default=TEXT, help="a text file, packed or not")
    found.add_argument(
        "--recipe", type=Path, help="a recipe in YAML that all runs share, instead of the one here"
    )
    found.add_argument("--workers", type=int, default=2, help="runs side by side, one thread each")
    return found


def base(arguments: argparse.Namespace) -> Recipe:
    """Return what all runs share: gpt on novels, 2,048 tokens a step, AdamW, warm-up, stable, cool-down."""
    if arguments.recipe:
        return read_recipe(arguments.recipe)
    return Recipe().with_values(
        [
            f"data.source=text:{arguments.text}",
            "data.vocab_size=2048",
            "data.context=256",
            "data.val_frac=0.01",
            "data.val_tokens=131072",
            "train.batch_size=8",
            "train.optimizer.lr=0.014",
            "train.optimizer.matrix_lr=0.0057",
            "train.optimizer.weight_decay=0.1",
            "train.parametrization.name=completep",
            "train.parametrization.base_width=96",
            f"train.parametrization.base_depth={DEPTH}",
            "train.parametrization.base_tokens=1.2e6",
            "train.schedule.warmup_steps=100",
            "train.schedule.cooldown_frac=0.2",
            "train.val_every=1000000",
            "train.log_every=50",
            "train.checkpoint_every=500",
        ]
    )


def ladder(
    arguments: argparse.Namespace,
    *,
    widths: Sequence[int],
    horizons: Sequence[int],
    seeds: Sequence[int],
    target_width: int,
    target_steps: int,
    target_seed: int = 1000,
    base_recipe: Recipe | None = None,
    head_dim: int = HEAD_DIM,
) -> LadderDesign:
    """Return a ladder of `DEPTH` blocks; a target of all cores."""
    return LadderDesign.model_validate(
        {
            "base": base_recipe or base(arguments),
            "sizes": [size(width, head_dim) for width in widths],
            "seeds": seeds,
            "horizons": horizons,
            "target": {"model": size(target_width, head_dim), "num_steps": target_steps, "seed": target_seed},
            "num_workers": arguments.workers,
        }
    )


def numbers(text: str) -> tuple[int, ...]:
    """Return whole numbers with commas between them."""
    return tuple(int(part) for part in text.split(","))


def size(width: int, head_dim: int = HEAD_DIM) -> dict[str, Any]:
    """Return the dial of a width."""
    return {"family": "gpt", "depth": DEPTH, "width": width, "head_dim": head_dim}


def train_side_by_side(
    runs: Mapping[str, tuple[Recipe, Predicted | None]], folder: Path, num_workers: int
) -> dict[str, RunFolder]:
    """Train what has not finished, dearest first; return the folders by name."""
    folders = {name: RunFolder(folder / name) for name in runs}
    asked = [
        name for name, run in folders.items() if not (run.exists() and run.read_record().status == "finished")
    ]
    asked.sort(key=lambda name: _work(runs[name][0]), reverse=True)
    jobs = [Job(name, functools.partial(_train, *runs[name], folder / name)) for name in asked]
    for event in LocalExecutor(num_workers).run(jobs) if jobs else ():
        tell(event)
    return folders


def _work(recipe: Recipe) -> float:
    return float(recipe.num_tokens * resolve_spec(recipe).count().total)


def _train(recipe: Recipe, predicted: Predicted | None, folder: Path, report: Any) -> None:
    train(recipe, folder, predicted=predicted, on_progress=report)


def tell(event: JobEvent) -> None:
    """Print a line for each job that is done, and of those under way one every thousand steps."""
    if isinstance(event, Done):
        print(f"  {event.job} done", flush=True)
    elif isinstance(event.value, Progress) and event.value.step % 1000 == 0:
        one = event.value
        print(
            f"  {one.run}: step {one.step} of {one.num_steps}, loss {one.loss:.4f}, {one.tokens_per_s:,.0f} tokens/s",
            flush=True,
        )


def train_target(design: LadderDesign, folder: Path, predicted: Predicted) -> RunFolder:
    """Train the target with what was said of it beforehand; return its folder."""
    return train_side_by_side({folder.name: (target_recipe(design), predicted)}, folder.parent, 1)[
        folder.name
    ]


def floor_of(folder: Path, bits_per_byte: float = FLOOR_BITS_PER_BYTE) -> float:
    """Return what remains of the loss [nats/token]; a run in the folder tells how many bytes a token of the evaluation set holds."""
    for run in find_runs([folder]):
        result = run.read_record().result
        if result and "bits_per_byte" in result.val_metrics:
            return bits_per_byte * result.val_loss / result.val_metrics["bits_per_byte"].value
    raise SystemExit(f"{folder} holds no run that measured bits a byte.")


def law_in(path: Path, rows: Sequence[Any], **options: Any) -> Law:
    """Return the law at `path` when it is of these rows and options, or fit it and write it there."""
    known = Law.read(path) if path.is_file() else None
    same = {"rows": tuple(rows), **options}
    if known is not None and all(getattr(known, name) == value for name, value in same.items()):
        return known
    law = fit(list(rows), **options)
    law.write(path)
    return law


def judged(name: str, asked: str, found: str, *, holds: bool) -> dict[str, Any]:
    """Print what was asked beside what was found; return both."""
    print(f"{name}: asked {asked}, found {found}: {'holds' if holds else 'MISSED'}")
    return {"name": name, "asked": asked, "found": found, "holds": holds}


def end(path: Path, document: dict[str, Any]) -> None:
    """Write the figures, and print them as the last line."""
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document))
