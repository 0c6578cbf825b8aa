"""Residual networks: half the operations, eight bits, and a deeper teacher; originals are trained where they are missing.

cd build/compress && python bench/compress/vision.py      # where data/ is, an hour and a half on two quiet cores
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kleiber.models import build, save
from kleiber.models.resnet.spec import ResNetSpec

HERE = Path(__file__).parent
ONE_EPOCH, TWO_EPOCHS = "recover:frac=0.334,lr=0.02", "recover:tokens=98000,lr=0.05"
SOFT, TWELVE_EPOCHS = "temperature=4,teacher_weight=0.7", "recover:tokens=588000,lr=0.05"
LINES = (
    *(f"shrink:macs=0.5,importance={one}" for one in ("activation", "contribution")),
    f"shrink:macs=0.5,importance=activation {ONE_EPOCH}",
    f"shrink:macs=0.5 {TWO_EPOCHS}",
    f"shrink:macs=0.5 {TWO_EPOCHS},{SOFT}",
    f"shrink:macs=0.5,width=12 {TWO_EPOCHS},{SOFT}",
    f"shrink:macs=0.5 {TWELVE_EPOCHS},{SOFT}",
    "quantize:bits=8,inputs=static",
    f"shrink:macs=0.5,importance=activation {ONE_EPOCH} quantize:bits=8,inputs=static",
)


def run(*arguments: object) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], check=True)


def train(recipe: str, name: str, *settings: str) -> None:
    sets = [part for setting in settings for part in ("--set", setting)]
    run("-m", "kleiber", "train", HERE / recipe, "-o", f"runs/{name}", *sets)


def main() -> None:
    fresh = Path("originals/resnet20-fresh")
    if not fresh.exists():
        run(HERE / "resnets.py", "data/models/resnet_cifar10", "originals", HERE / "resnet20.yaml")
        spec = ResNetSpec.of_size({"depth": 20, "width": 16}, ResNetSpec.example_shape)
        save(build(spec), spec, fresh)
    train("resnet20.yaml", "resnet20")
    run(HERE / "points.py", "runs/resnet20", "points/resnet20", "--lines", *LINES)
    run(HERE / "pruned_alone.py", "runs/resnet20", "--macs", 0.5, "--epochs", 1)
    train("resnet56.yaml", "resnet56")
    train("resnet20-student.yaml", "resnet20-alone")
    train("resnet20-student.yaml", "resnet20-distilled", "recover.teacher=runs/resnet56")


if __name__ == "__main__":
    main()
