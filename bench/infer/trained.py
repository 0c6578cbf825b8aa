"""Trained models through every engine: quality beside speed, drafts, images and sentences; models that bench-compress trains are trained here too.

cd build/compress && python bench/infer/trained.py      # where data/ is
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
COMPRESS = HERE.parent / "compress"
GPT, SMALL_GPT, RESNET = Path("runs/gpt-novels-6m"), Path("runs/gpt-novels-1m"), Path("runs/resnet20")


def run(*arguments: object) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], check=True)


def trained(run_folder: Path, recipe: str) -> None:
    run("-m", "kleiber", "train", COMPRESS / recipe, "-o", run_folder)


def bench(name: str, *arguments: object) -> None:
    run("-m", "kleiber", "bench", *arguments, "--markdown", f"{name}.md", "-o", f"{name}.json")


def main() -> None:
    for one in (GPT, SMALL_GPT):
        trained(one, f"{one.name}.yaml")
    bench("bench-gpt", GPT, "--engine", "all", "--precision", "fp32,int8,int4", "-b", "1,8")
    prose = "data/text/tinyshakespeare.txt"
    run(HERE / "speculation.py", GPT, prose, "--draft", SMALL_GPT)
    if not Path("originals/resnet20").exists():
        run(COMPRESS / "resnets.py", "data/models/resnet_cifar10", "originals", COMPRESS / "resnet20.yaml")
    trained(RESNET, "resnet20.yaml")
    engines = "torch,compiled,onnxruntime,openvino"
    bench("bench-resnet", RESNET, "--engine", engines, "--precision", "fp32,int8", "-b", "1,32")
    if Path("runs/minilm").exists():
        bench("bench-minilm", "runs/minilm", "--engine", engines, "--precision", "fp32,int8", "-b", "1,32")


if __name__ == "__main__":
    main()
