"""The whole loop on real text: plan, ladder, fit, forecast, train, verify, compress, bench, generate."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from kleiber.compress import compress, forget, parse_step
from kleiber.compress.asked import Asked
from kleiber.compress.gate import Gate
from kleiber.compress.speed import Measuring
from kleiber.data import open_data
from kleiber.errors import ConventionError, RecipeError
from kleiber.fleet import Job, JobEvent, LocalExecutor
from kleiber.infer import Request, Sampling, TextGenerator, open_text_model
from kleiber.infer.bench import add_to_ledgers, bench
from kleiber.infer.compiled.compiler import has_compiler
from kleiber.models import resolve_spec
from kleiber.runs import DataMeta, LedgerEntry, Predicted, Record, Row, RunFolder, write_ledger
from kleiber.runs.bench_result import BenchResult, BenchSettings
from kleiber.runs.files import write_text
from kleiber.runs.machine import num_cores
from kleiber.runs.receipt import Receipt
from kleiber.scaling import Forecast, Law, fit, forecast, verify
from kleiber.study.demo_design import BUDGET_S, demo_designs, fit_to_machine
from kleiber.study.design import LadderDesign, target_recipe
from kleiber.study.ladder import DESIGN_FILE, forget_ladder, measure_machine, open_ladder, run_ladder
from kleiber.study.ladder_plan import LadderPlan
from kleiber.study.ledger import plan_entries
from kleiber.study.target_run import train_target
from kleiber.units import format_seconds

__all__ = ["DemoEvent", "Prepared", "Sample", "Verified", "run_demo"]

PROMPTS = ("def __init__(self, ", "import os\n", "class ")
"""What the target goes on from."""
STEPS = ("quantize:bits=4,group_size=16,method=gptq",)
"""What makes the target smaller: rows of its matrices are short, and groups are shorter."""
GATE = Gate(max_quality_loss="2%", max_bytes="25%")
"""What it must keep to."""
MEASURING = Measuring(engines=("torch", "onnxruntime"), num_rounds=7, max_batch=32)
"""How both are timed: half a minute, not three."""
COMPRESSED = "target-small"
"""Folder of the compressed target."""
BENCH_FILE = "bench.json"
BENCH_ROUNDS, BENCH_SAMPLES = 5, 64
"""Turns of each model and engine, and sequences that quality is measured on."""


@dataclass(frozen=True)
class Prepared:
    """The text is ready."""

    meta: DataMeta


@dataclass(frozen=True)
class Verified:
    """The target is trained and the forecast scored."""

    entries: tuple[LedgerEntry, ...]


@dataclass(frozen=True)
class Sample:
    """What the target wrote."""

    prompt: str
    text: str


DemoEvent: TypeAlias = (
    str | Prepared | LadderPlan | JobEvent | Law | Forecast | Verified | Receipt | BenchResult | Sample
)
"""What happens, in order; a `str` says what begins."""


def run_demo(
    folder: Path, *, seed: int = 0, fresh: bool = False, on_event: Callable[[DemoEvent], None] | None = None
) -> tuple[LedgerEntry, ...]:
    """Run the loop in `folder` and return the ledger.

    What is finished is skipped and what was killed goes on, so the same command can be given again at any time.

    Args:
        folder: The study.
        seed: Of the ladder's runs and the target.
        fresh: Forget what stands in the folder.
        on_event: Called with everything that a person would see.

    Raises:
        KleiberError: What a step raised.
        Interrupted: SIGINT or SIGTERM, after checkpoints.
    """
    tell = on_event or (lambda _: None)
    if fresh:
        _forget(folder)
    tell("Preparing the text of this Python's standard library")
    recipe = demo_designs(seed)[0].base
    tell(Prepared(open_data(recipe.data, seed=seed, on_progress=tell).meta))
    design, planned = _plan(folder, seed, tell)
    tell(planned)
    tell("Training the ladder")
    rows = run_ladder(design, folder, on_event=tell)
    tell("Fitting the law")
    law = _fit(folder, design, rows)
    tell(law)
    foretold = _forecast(folder, design, law)
    tell(foretold)
    tell("Training the target")
    record = _train_target(folder, design, foretold, planned, tell)
    entries = _verify(folder, foretold, record)
    tell(Verified(entries))
    tell("Compressing the target")
    tell(_compress(folder, seed))
    tell("Benchmarking both beside this machine's limits")
    tell(_bench(folder, seed))
    for sample in _generate(folder / "target"):
        tell(sample)
    return entries


def _forget(folder: Path) -> None:
    """Remove what an earlier demo left in `folder`, and nothing else."""
    forget_ladder(folder)
    if (folder / "target").exists():
        shutil.rmtree(folder / "target")
    if (folder / COMPRESSED).exists():
        forget(folder / COMPRESSED)
        shutil.rmtree(folder / COMPRESSED)
    for name in ("plan.json", "law.json", "forecast.json", BENCH_FILE, "report.html"):
        (folder / name).unlink(missing_ok=True)


def _plan(folder: Path, seed: int, tell: Callable[[DemoEvent], None]) -> tuple[LadderDesign, LadderPlan]:
    """Return design and plan: those in `folder`, or new ones for this machine."""
    path = folder / "plan.json"
    if path.is_file() and (folder / DESIGN_FILE).is_file():
        design = open_ladder(folder)
        if design.target.seed != demo_designs(seed)[0].target.seed:
            raise RecipeError(
                f"{folder} holds the demo with another seed than {seed}.",
                hint=f"kleiber demo --seed {seed} -o {folder.parent / f'demo-{seed}'}   (or --fresh to start again)",
            )
        return design, LadderPlan.read(path)
    tell("Measuring this machine")
    design, planned = fit_to_machine(seed, measure_machine(demo_designs(seed)[0]))
    if planned.total_time_s > BUDGET_S:
        tell(
            f"This machine is slow: even the smallest ladder is planned at {format_seconds(planned.total_time_s)}"
        )
    planned.write(path)
    return open_ladder(folder, design), planned


def _fit(folder: Path, design: LadderDesign, rows: Sequence[Row]) -> Law:
    """Return the law in `folder` when it is of these rows, or a new one."""
    path = folder / "law.json"
    if path.is_file() and (known := Law.read(path)).rows == tuple(rows):
        return known
    law = fit(rows, convention=design.count)
    law.write(path)
    return law


def _forecast(folder: Path, design: LadderDesign, law: Law) -> Forecast:
    """Return the forecast in `folder` when it is of this law, or write a new one: before the target starts.

    Raises:
        ConventionError: The target has started from another forecast, which is left as it is.
    """
    path, target = folder / "forecast.json", RunFolder(folder / "target")
    if path.is_file() and (known := Forecast.read(path)).law_hash == law.hash:
        return known
    if target.exists():
        raise ConventionError(
            f"{target.path} has started, and the law has changed since its forecast was written.",
            hint="restore law.json and forecast.json from a copy, or give --fresh to start again",
        )
    recipe = target_recipe(design)
    foretold = forecast(law, resolve_spec(recipe).count(), recipe.num_tokens)
    foretold.write(path)
    return foretold


def _train_target(
    folder: Path,
    design: LadderDesign,
    foretold: Forecast,
    planned: LadderPlan,
    tell: Callable[[DemoEvent], None],
) -> Record:
    target = planned.target
    predicted = Predicted(
        forecast_hash=foretold.hash,
        total_time_s=target.total_time_s,
        step_time_s=target.step_time_s,
        peak_memory_bytes=target.memory_bytes.peak,
        at=planned.created_at,
    )
    job = Job("target", functools.partial(train_target, target_recipe(design), folder / "target", predicted))
    for event in LocalExecutor(1).run([job]):
        tell(event)
    return RunFolder(folder / "target").read_record()


def _verify(folder: Path, foretold: Forecast, record: Record) -> tuple[LedgerEntry, ...]:
    entries = (*verify(foretold, record), *plan_entries(record))
    write_ledger(folder / "target" / "ledger.jsonl", list(entries))
    return entries


def _compress(folder: Path, seed: int) -> Receipt:
    """Return the receipt of the target in few bits, on every engine that is installed."""
    asked = Asked(gate=GATE, measuring=MEASURING, seed=seed)
    steps = [parse_step(step) for step in STEPS]
    return compress(folder / "target", steps, folder / COMPRESSED, asked=asked)


def _bench(folder: Path, seed: int) -> BenchResult:
    """Return the benchmark in `folder`, or measure both models on every engine that is here and needs no export."""
    path = folder / BENCH_FILE
    result = BenchResult.read(path) if path.is_file() else _measured(folder, seed)
    result.write(path)
    add_to_ledgers(result)
    return result


def _measured(folder: Path, seed: int) -> BenchResult:
    settings = BenchSettings(
        engines=("torch", "compiled") if has_compiler() else ("torch",),
        num_rounds=BENCH_ROUNDS,
        num_threads=num_cores(),
        quality_samples=BENCH_SAMPLES,
        has_memory=False,
        seed=seed,
    )
    return bench([folder / "target", folder / COMPRESSED], settings)


def _generate(folder: Path) -> list[Sample]:
    """Return what the target writes, after storing it."""
    generator = TextGenerator(open_text_model(folder, engine="torch"))
    request = Request(max_tokens=80, sampling=Sampling(temperature=0.7))
    samples = [
        Sample(prompt, "".join(piece.text for piece in generator.generate([prompt], request)))
        for prompt in PROMPTS
    ]
    lines = (json.dumps({"prompt": sample.prompt, "text": sample.text}) + "\n" for sample in samples)
    write_text(RunFolder(folder).samples_path, "".join(lines))
    return samples
