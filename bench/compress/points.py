"""What many pipelines make of one model: quality with paired intervals, bytes, training tokens; one line each, kept in a file.

    python bench/compress/points.py runs/lm5 build/lm5 --lines "quantize:bits=8" "prune:ratio=0.5,method=wanda recover:frac=0.05"

Speed is left to receipts (`kleiber compress`), for nothing else may run beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from kleiber.compress.asked import Asked
from kleiber.compress.attempt import Bench
from kleiber.compress.steps import parse_step
from kleiber.errors import Interrupted, KleiberError
from kleiber.models.stored import stored_bytes
from kleiber.runs import read_recipe

METHODS = ("rtn", "gptq", "awq", "hqq")
PRUNERS = ("magnitude", "wanda", "sparsegpt")
RECOVER = "recover:frac=0.05"


def sets(recover: str) -> dict[str, tuple[str, ...]]:
    """Return the pipelines of each table, those that are recovered by a step of `recover`."""
    quantized = {
        f"int{bits}": [f"quantize:bits={bits},group_size=128,method={one}" for one in METHODS]
        for bits in (4, 3)
    }
    pruned = {
        name: [f"prune:{cut},method={one}" for one in PRUNERS]
        for name, cut in {"half": "ratio=0.5", "2:4": "pattern=2:4"}.items()
    }
    codes = f"{recover},keeps_zeros=false"  # of a model that was only quantized zeros are codes like others
    return {
        "int8": ("quantize:bits=8",),
        **{name: tuple(lines) for name, lines in {**quantized, **pruned}.items()},
        **{
            f"{name}-recovered": tuple(f"{line} {codes}" for line in lines)
            for name, lines in quantized.items()
        },
        **{
            f"{name}-recovered": tuple(f"{line} {recover}" for line in lines)
            for name, lines in pruned.items()
        },
    }


def measure(source: Path, folder: Path, lines: list[str], recipe: Path | None) -> None:
    """Print a row for each pipeline; those that stand in `folder` are not done again."""
    asked = Asked(recipe=None if recipe is None else read_recipe(recipe))
    bench = Bench.open(source, folder, asked, print)
    original = bench.original
    folder.mkdir(parents=True, exist_ok=True)
    for line in lines:
        began = time.perf_counter()
        try:
            attempt = bench.done([parse_step(step) for step in line.split()])
        except Interrupted:
            raise
        except KleiberError as error:
            print(f"{line}: {error.message}", flush=True)
            continue
        quality = original.quality(attempt.subject)[0]
        ratio = quality.ratio
        row = {
            "steps": line,
            "measure": quality.name,
            "before": quality.before.value,
            "after": quality.after.value,
            "ratio": [ratio.value, ratio.low, ratio.high],
            "difference": [quality.difference.value, quality.difference.low, quality.difference.high],
            "bytes_ratio": stored_bytes(attempt.model) / original.stored_bytes,
            "training_tokens": attempt.training_tokens,
            "seconds": time.perf_counter() - began,
        }
        with (folder / "points.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"| {line} | {quality.after.value:.4g} | {ratio.value:.4f} ({ratio.low:.4f} to {ratio.high:.4f}) | "
            f"{row['bytes_ratio']:.3f} | {attempt.training_tokens:,} | {row['seconds']:.0f} s |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="*", choices=sets(RECOVER), default=())
    parser.add_argument("--recover", default=RECOVER, help="the step of the sets that are recovered")
    parser.add_argument("--lines", nargs="*", default=())
    parser.add_argument("--recipe", type=Path)
    given = parser.parse_args()
    measure(
        given.source,
        given.folder,
        [line for name in given.sets for line in sets(given.recover)[name]] + list(given.lines),
        given.recipe,
    )
