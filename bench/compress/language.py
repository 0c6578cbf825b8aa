"""Language models through every method, side by side: quality with paired intervals and bytes; originals are trained where they are missing.

cd build/compress && python bench/compress/language.py      # where data/ is, two hours on two quiet cores
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HALF = "shrink:heads=2,mlp_width=232,importance"
NARROWER = "shrink:heads=3,mlp_width=488,importance=activation"
LEARN = "recover:frac=0.2,lr=0.003"
FEW_BITS = "quantize:bits=3,group_size=256,method=gptq,embedding_bits=4,head_bits=4"
LINES = (
    f"{HALF}=activation",
    f"{HALF}=contribution",
    f"{HALF}=activation recover:frac=0.2,lr=0.0009",
    f"{HALF}=activation {LEARN}",
    f"{HALF}=activation {LEARN},batch_size=8",
    f"{HALF}=contribution {LEARN},batch_size=8",
    f"{NARROWER} {LEARN}",
    f"{NARROWER} {LEARN} {FEW_BITS}",
    f"{NARROWER} {LEARN} {FEW_BITS} recover:frac=0.05,lr=0.001,keeps_zeros=false",
    "prune:ratio=0.5,method=wanda recover:frac=0.05 quantize:bits=4,group_size=128,method=gptq",
    "prune:ratio=0.5,method=sparsegpt recover:frac=0.05,lr=0.003",
)
SETS = ("int8", "int4", "int3", "int3-recovered", "half", "half-recovered", "2:4", "2:4-recovered")


def run(*arguments: object) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], check=True)


def main() -> None:
    for name in ("gpt-novels-6m", "gpt-novels-3m", "gpt-novels-1m"):
        run("-m", "kleiber", "train", HERE / f"{name}.yaml", "-o", f"runs/{name}")
    stories = Path("originals/stories260k")
    if not (stories / "own_samples.txt").exists():
        run(HERE / "stories260k.py", "data/models/stories260K", stories, "--stories", 10_000)
    points = HERE / "points.py"
    run(points, "runs/gpt-novels-6m", "points/gpt-novels-6m", "--sets", *SETS, "--lines", *LINES)
    run(points, "runs/gpt-novels-1m", "points/gpt-novels-1m", "--sets", *SETS)
    of_stories = ("--recipe", HERE / "stories260k.yaml", "--recover", "recover:steps=500,lr=0.003")
    run(points, stories, "points/stories260k", *of_stories, "--sets", *SETS)


if __name__ == "__main__":
    main()
