"""The time of training steps on this machine, predicted from its rates beside measured: shapes that calibration never ran.

    python bench/local_time.py                        all cells, about four minutes
    python bench/local_time.py --cells gpt-4x96,bert  some of them
    python bench/local_time.py --threads 1 --rounds 12

Parts of calibration and steps of the cells alternate in one process, since a shared machine drifts; each figure is the
lower quartile of its measurements. Steps of a `gpt` are those of `kleiber train`, predicted in closed form; those of others are traced.
The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from kleiber.cost.operations import Operation
from kleiber.cost.rates import ProcessorRates
from kleiber.cost.trace.training_step import build_optimizer, prepare_, run_step
from kleiber.cost.usage import OptimizerName, Usage
from kleiber.models.gpt.operations import step_operations
from kleiber.models.gpt.spec import GPTSpec
from kleiber.runs import num_cores
from kleiber.study.calibration.processor import ProcessorMeter
from kleiber.study.calibration.specimen import Step
from kleiber.study.calibration.timing import Clock, StepTimer
from kleiber.study.calibration.training_steps import trained_gpt
from kleiber.study.measured_step import SubjectArguments
from kleiber.study.traced import trace
from kleiber.train.allocator import keep_freed_memory

ROOT = Path(__file__).parents[1]
SPECIMENS_A_CELL = 2
"""After so many parts of a calibration comes a step of the next cell: what disturbs the machine disturbs both."""


@dataclass(frozen=True)
class Cell:
    operations: Callable[[], tuple[Operation, ...]]
    step: Callable[[], Step]


def gpt(
    depth: int, width: int, batch: int, context: int, vocab: int, *, optimizer: OptimizerName = "adamw"
) -> Cell:
    spec = GPTSpec.from_dial({"depth": depth, "width": width}, vocab_size=vocab, context=context)
    usage = Usage(batch_size=batch, optimizer=optimizer)
    return Cell(lambda: step_operations(spec, usage, context), trained_gpt(spec, batch, optimizer))


def subject(arguments: SubjectArguments, optimizer: OptimizerName) -> Cell:
    opened = arguments.open()
    usage = Usage(batch_size=opened.batch_size, optimizer=optimizer)

    def step() -> Step:
        module, inputs = opened.build(), opened.inputs(usage.batch_size)
        prepare_(module, usage)
        updates = build_optimizer(optimizer, module)
        return lambda entering: run_step(module, inputs, opened.loss, updates, usage, entering=entering)

    return Cell(lambda: trace(opened, usage).operations, step)


def module(target: str, shape: str, optimizer: OptimizerName = "adamw", **init: object) -> Cell:
    path = str(ROOT / "examples" / target)
    return subject(
        SubjectArguments(path, inputs=(shape,), init=json.dumps(init) if init else None), optimizer
    )


def config(name: str, batch: int, context: int | None = None, optimizer: OptimizerName = "adamw") -> Cell:
    path = str(ROOT / "bench" / "configs" / f"{name}.json")
    return subject(SubjectArguments(path, batch_size=batch, context=context), optimizer)


CELLS: dict[str, Callable[[], Cell]] = {
    "gpt-4x96": lambda: gpt(4, 96, 6, 96, 3000),
    "gpt-3x192": lambda: gpt(3, 192, 12, 160, 2048),
    "gpt-6x320": lambda: gpt(6, 320, 4, 128, 4096),
    "gpt-8x128": lambda: gpt(8, 128, 4, 256, 1024),
    "gpt-2x640": lambda: gpt(2, 640, 2, 256, 8192),
    "gpt-4x448": lambda: gpt(4, 448, 1, 384, 6000),
    "gpt-5x224-muon": lambda: gpt(5, 224, 4, 128, 2048, optimizer="muon"),
    "perceptron-3": lambda: module("perceptron.py:Perceptron", "100x784", widths=[784, 1000, 600, 10]),
    "perceptron-4": lambda: module(
        "perceptron.py:Perceptron", "256x300", "adam", widths=[300, 1500, 1500, 50]
    ),
    "perceptron-small": lambda: module("perceptron.py:Perceptron", "32x64", widths=[64, 128, 128, 10]),
    "convnet": lambda: module("convnet.py:ConvNet", "12x3x32x32", "momentum", widths=[24, 56, 112]),
    "resnet18": lambda: module("resnet.py:ResNet18", "6x3x64x64", "momentum", width=24),
    "unet": lambda: module("unet.py:UNet", "1x3x96x96", width=16),
    "lstm": lambda: module("lstm.py:LSTMLanguageModel", "12x40:int64", "adam", width=200, vocab_size=3000),
    "gru": lambda: module("gru.py:GRUClassifier", "8x40x40", width=128),
    "bert": lambda: config("bert-11m", 2, 96),
    "vit": lambda: config("vit-6m", 1, None, "momentum"),
    "llama": lambda: config("llama-10m", 1, 192),
    "t5": lambda: config("t5-17m", 1, 64),
    "whisper": lambda: config("whisper-10m", 1, 48, "adam"),
}


def main() -> int:
    arguments = parse_arguments()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    clock = Clock(torch.device("cpu"))
    cells, timers = {}, {}
    for name in arguments.cells:
        tell(f"opening {name}")
        cells[name] = CELLS[name]()
        torch.manual_seed(0)
        timers[name] = StepTimer(cells[name].step(), clock)
        timers[name].warm_up()
    meter = ProcessorMeter(torch.device("cpu"), arguments.threads)
    for name in meter.warm_up():
        tell(f"building {name}")
    in_turn = itertools.cycle(timers.values())
    for number in range(1, arguments.rounds + 1):
        tell(f"round {number} of {arguments.rounds}")
        for index, _ in enumerate(meter.measure()):
            if index % SPECIMENS_A_CELL == 0:
                next(in_turn).measure_step()
    rates = meter.rates()
    rows = [row(name, cell, timers[name].step_time_s, rates) for name, cell in cells.items()]
    print_table(rows)
    errors = [abs(float(found["error_frac"])) for found in rows]
    summary = {
        "mean_abs_error_frac": statistics.fmean(errors),
        "worst_abs_error_frac": max(errors),
        "num_threads": arguments.threads,
        "rounds": arguments.rounds,
        "check_errors": rates.check_errors,
    }
    print(
        f"{len(rows)} cells, {arguments.threads} threads: mean absolute error {summary['mean_abs_error_frac']:.1%}, "
        f"worst {summary['worst_abs_error_frac']:.1%}"
    )
    print(json.dumps(summary | {"cells": rows}))
    return 0


def row(name: str, cell: Cell, measured_s: float, rates: ProcessorRates) -> dict[str, str | float]:
    found = rates.step_time(cell.operations())
    return {
        "cell": name,
        "predicted_s": found.step_time_s,
        "measured_s": measured_s,
        "error_frac": found.step_time_s / measured_s - 1,
        "most": found.by_kind[0].kind,
    }


def print_table(rows: list[dict[str, str | float]]) -> None:
    print(f"{'cell':18s} {'predicted':>12s} {'measured':>12s} {'error':>8s}  most of it")
    for found in rows:
        print(
            f"{found['cell']:18s} {float(found['predicted_s']) * 1e3:9.2f} ms {float(found['measured_s']) * 1e3:9.2f} ms "
            f"{float(found['error_frac']):+8.1%}  {found['most']}"
        )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cells", type=lambda text: text.split(","), default=list(CELLS), help="names joined by commas"
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=num_cores())
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.cells) - set(CELLS)):
        parser.error(f"unknown cells {unknown}; known: {', '.join(CELLS)}")
    if arguments.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {arguments.rounds}")
    return arguments


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
