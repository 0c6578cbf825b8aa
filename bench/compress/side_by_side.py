"""One model through this tool's steps and through the defaults of torchao, NNCF and ONNX Runtime: quality, bytes and speed in one table.

    python bench/compress/side_by_side.py runs/resnet20 build/side --steps "quantize:bits=8,inputs=static"

All are timed in turns in one process, on the same inputs; quality is answered by the engine that is timed. Nothing else may run.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from peers import PEERS, with_linears

from kleiber.compress.asked import Asked
from kleiber.compress.attempt import Bench
from kleiber.compress.speed import first_batch
from kleiber.compress.steps import parse_step
from kleiber.compress.uses import inputs_of
from kleiber.infer.engines import PredictorModule, open_predictor
from kleiber.infer.measure import ForwardWork, measure
from kleiber.infer.predictor import Predictor
from kleiber.models.stored import stored_bytes
from kleiber.runs import read_recipe
from kleiber.tasks.quality import quality_changes

ENGINES = ("torch", "compiled", "onnxruntime", "openvino")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--steps", nargs="*", default=["quantize:bits=8", "quantize:bits=4,group_size=32,method=gptq"]
    )
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--max-batch", type=int, default=64)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    asked = Asked(recipe=None if given.recipe is None else read_recipe(given.recipe))
    bench = Bench.open(given.source, given.folder, asked, lambda _: None)
    original, calibration = bench.original, bench.calibration
    subject, split = original.subject, original.split
    inputs = inputs_of(first_batch(subject, split, 64))
    arrays = [one.numpy() for one in inputs]
    known = [
        np.concatenate(parts)
        for parts in zip(*([x.numpy() for x in inputs_of(b)] for b in calibration.batches), strict=True)
    ]
    predictors: dict[str, tuple[Predictor, int]] = {}
    for engine in ENGINES:
        predictors[f"original, {engine}"] = (
            open_predictor(engine, subject.module, inputs, num_threads=given.threads),
            original.stored_bytes,
        )
    for line in given.steps:
        attempt = bench.done([parse_step(step) for step in line.split()])
        after = attempt.subject
        for engine in ENGINES[1:]:
            found = open_predictor(
                engine,
                after.module,
                inputs,
                forms=after.forms,
                activations=after.activations,
                num_threads=given.threads,
            )
            predictors[f"ours {line}, {engine}"] = (found, stored_bytes(attempt.model))
    with tempfile.TemporaryDirectory() as place:
        plain = with_linears(subject.module, subject.spec, Path(place))
        for name in given.peers:
            try:
                peer = PEERS[name](plain, known, given.threads)
            except Exception as error:  # noqa: BLE001 - another tool's own: the table says that it cannot
                print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
                continue
            predictors[name] = (peer.predictor, peer.num_bytes)
    report(
        predictors, original, arrays, threads=given.threads, rounds=given.rounds, max_batch=given.max_batch
    )


def report(predictors, original, arrays, *, threads: int, rounds: int, max_batch: int) -> None:
    """Print the table."""
    subject, split = original.subject, original.split
    before = original.scores("torch")
    works = {name: ForwardWork(predictor, arrays) for name, (predictor, _) in predictors.items()}
    figures = {
        one.name: one
        for one in measure(
            works, "original, torch", num_threads=threads, num_rounds=rounds, max_batch=max_batch
        )
    }
    print(
        "| model | engine, precision | quality | bytes | latency at 1 | gain over torch fp32 | at saturation | gain |"
    )
    for name, (predictor, num_bytes) in predictors.items():
        try:
            scores = subject.task.scores(PredictorModule(predictor), subject.data, split)
            quality = quality_changes(subject.recipe.task.name, before, scores, engine=name)[0]
            shown = f"{quality.name} {quality.after.value:.4f} ({quality.difference.value:+.4f}, x{quality.ratio.value:.4f})"
        except Exception as error:  # noqa: BLE001 - another tool's own
            shown = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
        one = figures[name]
        print(
            f"| {name} | {one.precision} | {shown} | {num_bytes / original.stored_bytes:.3f} | {1e3 * one.latency_s.value:.3f} ms | "
            f"{_shown(one.latency_gain)} | {one.throughput_per_s.value:.0f}/s | {_shown(one.throughput_gain)} |",
            flush=True,
        )


def _shown(estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


if __name__ == "__main__":
    main()
