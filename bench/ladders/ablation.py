"""The preset `fast`, one change left out or added at a time: what each is worth in loss, speed and memory, over seeds.

    python bench/ladders/ablation.py --text data/text/novels.train.txt.xz --folder build/ablation --size 0.5e6 --seeds 3

Every variant has as many parameters as `fast` (narrower where a change adds some) and reads the same tokens
in the same order. A variant -NAME is `fast` without a change, +NAME is `fast` with one more, plain is the preset `plain`.
Finished runs are rows of FOLDER/rows.jsonl and are not trained again; a run that was cut off goes on. Differences are paired by
seed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from kleiber.models import resolve_spec
from kleiber.runs import Recipe, hash_of
from kleiber.train import train

VOCAB_SIZE, CONTEXT = 2048, 256
SHAPES = {0.5e6: (3, 96), 2e6: (4, 192), 5e6: (6, 256)}
"""Depth and width of each size."""
TOKENS = {0.5e6: 4e6, 2e6: 10e6, 5e6: 16e6}
_ADAMW = "{name: adamw, lr: 0.02, matrix_lr: 0.004, weight_decay: 0.1, beta2: 0.95}"
VARIANTS: dict[str, tuple[str, ...]] = {
    "fast": (),
    "-muon": (f"train.optimizer={_ADAMW}",),
    "-zero_out": ("model.init=small_out",),
    "-qk_norm": ("model.has_qk_norm=false",),
    "-rope": ("model.positions=learned",),
    "-value_residual": ("model.has_value_residual=false",),
    "-x0_skip": ("model.has_x0_skip=false",),
    "-embedding_norm": ("model.has_embedding_norm=false",),
    "-relu2": ("model.mlp=swiglu",),
    "-weight_decay": ("train.optimizer.weight_decay=0",),
    "-momentum_warmup": ("train.optimizer.momentum_warmup_steps=0",),
    "-sequence_warmup": ("train.sequence_warmup=null",),
    "-schedule": ("train.schedule={name: cosine, warmup_steps: 100, final_frac: 0.1}",),
    "+value_embeddings": ("model.value_embeddings=1",),
    "+value_embeddings_2": ("model.value_embeddings=2",),
    "+untied_head": ("model.is_tied=false",),
    "+softcap": ("model.softcap=15",),
    "+cautious_decay": ("train.optimizer.is_cautious_decay=true",),
    "+gelu": ("model.mlp=gelu",),
    "+cooldown_1-sqrt": ("train.schedule.cooldown_shape=1-sqrt",),
    "+cooldown_all": ("train.schedule={name: linear, warmup_steps: 20}",),
    "+no_clipping": ("train.clip_norm=null",),
    "+half_matrix_lr": ("train.optimizer.matrix_lr=0.0015",),
    "+twice_matrix_lr": ("train.optimizer.matrix_lr=0.006",),
    "+half_lr": ("train.optimizer.lr=0.01",),
    "+twice_lr": ("train.optimizer.lr=0.04",),
    "plain": (),
}
"""By name: what is set on top of the preset."""


@dataclass(frozen=True)
class Asked:
    """What all runs have in common."""

    text: str
    size: float
    num_tokens: float
    batch_size: int
    num_threads: int
    sets: tuple[str, ...]
    """Assignments on top of the preset `fast` and of all variants of it."""

    @property
    def key(self) -> str:
        """Tells runs that may be compared from others."""
        return hash_of(
            {"text": self.text, "tokens": self.num_tokens, "batch": self.batch_size, "sets": self.sets}
        )

    def base(self, preset: str) -> list[str]:
        """Return the assignments of a preset at the size."""
        depth, width = SHAPES[self.size]
        num_steps = max(1, round(self.num_tokens / (self.batch_size * CONTEXT)))
        return [
            f"preset={preset}", f"model.depth={depth}", f"model.width={width}", f"data.source=text:{self.text}",
            f"data.vocab_size={VOCAB_SIZE}", f"data.context={CONTEXT}", f"train.batch_size={self.batch_size}",
            f"train.num_steps={num_steps}", "train.val_every=1000000", "train.checkpoint_every=500",
            "train.keep_checkpoints=1", f"parallel.num_threads={self.num_threads}", *(self.sets if preset == "fast" else ()),
        ]  # fmt: skip


def at_equal_size(values: Sequence[str], num_params: int) -> Recipe:
    """Return a recipe with as many parameters as the numbers of the MLPs' features, in eights, allow.

    The width stays what it is unless the MLPs would be squeezed: then it is smaller by sixteens, and the MLPs about as many
    times as wide as they were.
    """
    recipe = Recipe().with_values(values)
    width, usual = int(recipe.model.size["width"]), resolve_spec(recipe).mlp_width
    found = {}
    for narrower in range(width, 15, -16):
        one = recipe.with_values([f"model.width={narrower}"])
        spec = resolve_spec(one)
        per_feature = (count(one, spec.mlp_width + 8) - spec.count().total) / 8
        mlp_width = 8 * round((spec.mlp_width + (num_params - spec.count().total) / per_feature) / 8)
        if mlp_width > 0:
            squeezed = abs(math.log(mlp_width / narrower / (usual / width)))
            found[squeezed] = one.with_values([f"model.mlp_width={mlp_width}"])
    return found[min(found)]


def count(recipe: Recipe, mlp_width: int) -> int:
    """Return the parameters with MLPs of a width."""
    return resolve_spec(recipe.with_values([f"model.mlp_width={mlp_width}"])).count().total


def recipe_of(variant: str, asked: Asked) -> Recipe:
    """Return the recipe of a variant, without its seed."""
    target = resolve_spec(Recipe().with_values(asked.base("fast"))).count().total
    preset = "plain" if variant.startswith("plain") else "fast"
    return at_equal_size([*asked.base(preset), *VARIANTS[variant]], target)


def trained(recipe: Recipe, folder: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """Train a run and return its row."""
    record = train(recipe, folder)
    result = record.result
    assert result is not None
    return {
        **row,
        "recipe_hash": hash_of(recipe),
        "num_params": record.num_params.total,
        "num_tokens": result.num_tokens,
        "val_loss": result.val_loss,
        "tokens_per_s": result.tokens_per_s,
        "mfu_frac": result.mfu_frac,
        "total_time_s": result.total_time_s,
        "peak_memory_bytes": result.peak_memory_bytes,
    }


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return all finished runs."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def paired(ours: Sequence[float], base_: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean difference, the half width of its 95% interval and the p-value of a paired t-test."""
    differences = [a - b for a, b in zip(ours, base_, strict=True)]
    mean, num = statistics.fmean(differences), len(differences)
    error = statistics.stdev(differences) / math.sqrt(num) if num > 1 else math.nan
    if not error > 0:  # of one seed, or of the base beside itself
        return mean, error, math.nan
    return mean, float(stats.t.ppf(0.975, num - 1)) * error, float(2 * stats.t.sf(abs(mean) / error, num - 1))


def table(rows: Sequence[Mapping[str, Any]], asked: Asked) -> list[dict[str, Any]]:
    """Print and return what each variant is worth beside `fast`, over the seeds that both have."""
    by_variant: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        if row["size"] == asked.size and row["key"] == asked.key:
            by_variant.setdefault(row["variant"], {})[row["seed"]] = row
    fast, lines = by_variant.get("fast", {}), []
    print(
        f"{asked.size:.3g} parameters, {asked.num_tokens:.3g} tokens, {asked.batch_size * CONTEXT} a step {' '.join(asked.sets)}"
    )
    print(f"{'variant':20s} seeds   loss    - fast (95%)           p  tokens/s   MFU  memory  parameters")
    for variant in VARIANTS:
        seeds = sorted(by_variant.get(variant, {}).keys() & fast.keys())
        if not seeds:
            continue
        ours = [by_variant[variant][seed] for seed in seeds]
        mean, reach, p = paired([row["val_loss"] for row in ours], [fast[seed]["val_loss"] for seed in seeds])
        line = {
            "variant": variant,
            "seeds": len(seeds),
            "val_loss": statistics.fmean(row["val_loss"] for row in ours),
            "difference": mean,
            "half_width": reach,
            "p": p,
            **{
                key: statistics.median(row[key] for row in ours)
                for key in ("tokens_per_s", "mfu_frac", "peak_memory_bytes", "num_params")
            },
        }
        lines.append(line)
        print(
            f"{variant:20s} {len(seeds):5d} {line['val_loss']:7.4f} {mean:+8.4f} +- {reach:.4f} {p:11.2g} "
            f"{line['tokens_per_s']:9.0f} {line['mfu_frac']:6.1%} {line['peak_memory_bytes'] / 1e6:5.0f} MB {line['num_params']:10.0f}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", default="data/text/novels.train.txt.xz")
    parser.add_argument("--folder", type=Path, default=Path("build/ablation"))
    parser.add_argument("--size", type=float, default=0.5e6, choices=list(SHAPES), metavar="0.5e6|2e6|5e6")
    parser.add_argument("--tokens", type=float, help="of a run; by size where it is not given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="sequences of 256 tokens a step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--set", action="append", default=[], help="KEY=VALUE on top of fast and all its variants"
    )
    parser.add_argument("--only", help="names of variants, with commas; fast is always one", default="")
    parser.add_argument("--table", action="store_true", help="print what there is and train nothing")
    given = parser.parse_args()
    num_tokens = given.tokens or TOKENS[given.size]
    asked = Asked(given.text, given.size, num_tokens, given.batch, given.threads, tuple(given.set))
    wanted = ["fast", *given.only.split(",")] if given.only else list(VARIANTS)
    if unknown := set(wanted) - VARIANTS.keys():
        parser.error(f"no variants {sorted(unknown)}; there are {', '.join(VARIANTS)}")
    given.folder.mkdir(parents=True, exist_ok=True)
    path = given.folder / "rows.jsonl"
    for seed in range(given.seeds) if not given.table else ():
        for variant in dict.fromkeys(wanted):
            run(variant, seed, asked, path)
    print(json.dumps(table(read_rows(path), asked)))


def run(variant: str, seed: int, asked: Asked, path: Path) -> None:
    """Train a variant and add its row, if there is none."""
    recipe = recipe_of(variant, asked).with_values([f"train.seed={seed}"])
    if any(row["recipe_hash"] == hash_of(recipe) for row in read_rows(path)):
        return
    row = {"variant": variant, "size": asked.size, "key": asked.key, "seed": seed}
    done = trained(recipe, path.parent / f"{asked.size:.0e}" / f"{variant}-{seed}-{hash_of(recipe)[:6]}", row)
    with path.open("a") as file:
        file.write(json.dumps(done) + "\n")
    print(f"{variant} seed {seed}: loss {done['val_loss']:.4f}, {done['total_time_s']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
