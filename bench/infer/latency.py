"""Latency foretold: calibrate, measure four sizes, then foretell two others and measure them, of language models and of ResNets.

Weights are random: speed alone is measured. Nothing that is known of this machine is used or changed: the calibration and the times of
engines stand in a folder of this run's own.

    python bench/infer/latency.py --seconds 60 --engines torch,compiled,onnxruntime,openvino
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from kleiber.data.stdlib import stdlib_files
from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.infer.bench import bench
from kleiber.models import build, save
from kleiber.models.gpt import GPTSpec
from kleiber.models.resnet import ResNetSpec
from kleiber.runs import DataShape
from kleiber.runs.bench_result import BenchSettings
from kleiber.study.calibrate import calibrate

PROMPT, NEW, CONTEXT, VOCAB = 256, 64, 512, 4096
KNOWN = {"gpt": ((3, 192), (4, 320), (8, 448), (12, 768)), "resnet": ((8, 16), (14, 24), (20, 32), (26, 16))}
"""Depth and width of what is measured first."""
HELD_OUT = {"gpt": ((6, 512), (10, 640)), "resnet": ((20, 16), (14, 32))}
BATCHES = {"gpt": (1,), "resnet": (1, 32)}


def write_models(place: Path) -> dict[tuple[str, int, int], Path]:
    """Write every model, and the tokenizer of those that write text."""
    files = stdlib_files()
    texts = [(files.root / one).read_text(encoding="utf-8", errors="replace") for one in files.names[:200]]
    tokenizer = TextTokenizer(train_tokenizer(texts, VOCAB, source="the standard library"))
    images = DataShape(inputs="images", channels=3, height=32, width=32, num_outputs=10)
    folders = {}
    for family, known in KNOWN.items():
        for depth, width in (*known, *HELD_OUT[family]):
            size = {"depth": depth, "width": width}
            spec = (
                GPTSpec.from_dial(size, vocab_size=VOCAB, context=CONTEXT)
                if family == "gpt"
                else ResNetSpec.of_size(size, images)
            )
            folder = place / f"{family}-{depth}x{width}"
            save(build(spec), spec, folder)
            if family == "gpt":
                tokenizer.write(folder, context=CONTEXT)
            folders[family, depth, width] = folder
    return folders


def rows(result, names: set[str]) -> list[tuple[str, str, str, float, float, str]]:
    found = []
    for row in result.rows:
        for call in row.calls:
            if row.model in names and call.predicted_s is not None:
                kind = f"{call.kind} {call.batch}"
                found.append(
                    (row.model, row.engine, kind, call.predicted_s, call.p50_s.value, call.predicted_by)
                )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="of the calibration")
    parser.add_argument("--engines", default="torch,compiled,onnxruntime,openvino")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ["KLEIBER_CACHE"] = str(place / "cache")
        tell("writing models")
        folders = write_models(place / "models")
        tell(f"calibrating for {given.seconds} s")
        calibrate(given.seconds)
        found = []
        for family, batches in BATCHES.items():
            settings = BenchSettings(
                engines=tuple(given.engines.split(",")),
                precisions=("fp32",),
                batches=batches,
                num_rounds=given.rounds,
                num_threads=given.threads,
                prompt_tokens=PROMPT,
                new_tokens=NEW,
                has_quality=False,
                has_memory=False,
            )
            for part in (KNOWN, HELD_OUT):
                sources = [folders[family, depth, width] for depth, width in part[family]]
                tell(f"measuring {', '.join(one.name for one in sources)}")
                result = bench(sources, settings)
                found += rows(result, {one.name for one in sources})
    print_table(found)
    return 0


def print_table(found: list[tuple[str, str, str, float, float, str]]) -> None:
    held_out = {f"{family}-{depth}x{width}" for family in HELD_OUT for depth, width in HELD_OUT[family]}
    print("| model | engine | call | foretold | measured | error | by |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for model, engine, kind, predicted_s, measured_s, method in found:
        mark = "**" if model in held_out else ""
        error = predicted_s / measured_s - 1
        print(
            f"| {mark}{model}{mark} | {engine} | {kind} | {predicted_s * 1e3:.3f} ms | {measured_s * 1e3:.3f} ms | "
            f"{mark}{error:+.1%}{mark} | {method} |"
        )
    errors = [abs(one[3] / one[4] - 1) for one in found if one[0] in held_out]
    within = sum(error <= 0.15 for error in errors)
    print(f"held out: {within} of {len(errors)} within 15%, median {statistics.median(errors):.1%}")


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
