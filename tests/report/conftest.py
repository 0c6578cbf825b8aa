"""A study on disk as the demo leaves it: four sizes, two seeds, three horizons, a target five times as large."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kleiber.runs import (
    DataMeta,
    Environment,
    LedgerEntry,
    Lineage,
    ModelRecipe,
    ParamCount,
    Predicted,
    Recipe,
    Record,
    Result,
    RunFolder,
    ScheduleRecipe,
    TrainRecipe,
    hash_of,
    now,
    row_of,
    write_ledger,
)
from kleiber.scaling import Law, fit, forecast, verify

SIZES = {"d2-w32": 39_200, "d3-w48": 84_600, "d4-w64": 182_000, "d5-w96": 407_000}
HORIZONS = (1000, 1800, 3200)
TARGET_PARAMS, TARGET_STEPS = 1_270_000, 5600
TOKENS_PER_STEP = 512
STARTED = "2026-01-05T10:00:00.000+00:00"
HOSTILE = "</script><script>window.stolen=1</script><img src=x onerror=stolen=1>"


def law_loss(num_params: float, num_tokens: float) -> float:
    return 1.9 + 76 / num_params**0.37 + 300 / num_tokens**0.44


def write_run(
    folder: Path,
    *,
    num_params: int,
    num_steps: int,
    seed: int = 0,
    branch_of: str | None = None,
    status: str = "finished",
    forecast_hash: str | None = None,
    steps_done: int | None = None,
    started_at: str = STARTED,
    cooldown_frac: float = 0.25,
) -> Record:
    """Write a run folder with its metrics and return its record."""
    noise = random.Random(folder.name)  # noqa: S311 - noise of a made-up run
    done = steps_done or num_steps
    branch_step = int(0.75 * num_steps) if branch_of else 0
    head = num_params // 8
    count = ParamCount(embedding=head, body=num_params - head, head=0, is_tied=True)
    loss = law_loss(num_params, done * TOKENS_PER_STEP) * math.exp(noise.gauss(0, 0.003))
    flops = 6.6 * num_params * num_steps * TOKENS_PER_STEP
    record = Record(
        run=folder.name,
        status=status,  # type: ignore[arg-type]
        started_at=started_at,
        ended_at=None if status == "running" else started_at,
        recipe=(recipe := _recipe(folder.name, num_steps, seed, cooldown=cooldown_frac)),
        recipe_hash=hash_of(recipe),
        seed=seed,
        environment=Environment(
            kleiber="0.1.0", python="3.13.1", torch="2.9.0", platform="linux-x86_64", num_cores=2, num_threads=1
        ),
        data=DataMeta(
            source="stdlib", corpus_hash="c0ffee0123456789", python_version="3.13.1",
            tokenizer_hash="70ce0123456789ab", eval_hash="e5a10123456789ab", shape={"inputs": "tokens", "vocab_size": 1024, "context": 128},
            num_documents=812, num_train_tokens=6_400_000, num_val_tokens=65_536, val_bytes_per_token=2.61,
        ),
        num_params=count,
        train_flops=flops,
        flops_convention="6 a matmul weight and token, causal attention halved",
        lineage=(Lineage(run=branch_of, operation="branch", step=branch_step),) if branch_of else (),
        predicted=Predicted(forecast_hash=forecast_hash),
        result=None if status != "finished" else Result(
            num_steps=num_steps, num_tokens=num_steps * TOKENS_PER_STEP, loss=loss + 0.02, val_loss=loss,
            val_loss_half_width=0.021, val_metrics={"bits_per_byte": {"value": loss / math.log(2) / 2.61, "low": loss / math.log(2) / 2.61, "high": loss / math.log(2) / 2.61}}, tokens_per_s=3.2e9 / num_params,
            step_time_s=num_params * 1.6e-7, mfu_frac=0.24, peak_flops_per_s=8e10,
            total_time_s=(num_steps - branch_step) * num_params * 1.6e-7, peak_memory_bytes=num_params * 60,
        ),
    )  # fmt: skip
    record.write(RunFolder(folder).record_path)
    record.recipe.write(RunFolder(folder).recipe_path)
    _write_metrics(folder, record, branch_step, done, noise)
    return record


def _recipe(name: str, num_steps: int, seed: int, *, cooldown: float) -> Recipe:
    schedule = ScheduleRecipe(cooldown_frac=cooldown)
    model = ModelRecipe.model_validate({"family": "gpt", "depth": 4, "note": name})
    return Recipe(model=model, train=TrainRecipe(num_steps=num_steps, seed=seed, schedule=schedule))


def _write_metrics(folder: Path, record: Record, first: int, last: int, noise: random.Random) -> None:
    num_steps, cooldown_frac = record.recipe.train.num_steps, record.recipe.train.schedule.cooldown_frac
    lines = []
    for step in range(first + 25, last + 1, 25):
        tokens = step * TOKENS_PER_STEP
        loss = (
            law_loss(record.num_params.total, tokens) + 0.12 + noise.gauss(0, 0.03) + 3 * math.exp(-step / 60)
        )
        fall = max(0.0, 1 - (1 - step / num_steps) / cooldown_frac) if cooldown_frac else 0.0
        is_val = step % 500 == 0 or step == last
        lines.append({
            "step": step, "tokens": tokens, "loss": loss, "val_loss": loss - 0.08 if is_val else None,
            "grad_norm": 0.4, "lr": 0.01 * min(1, step / 50, 1 - math.sqrt(fall)),
            "tokens_per_s": 4e4, "mfu_frac": 0.2, "peak_memory_bytes": 1e7, "time_s": step * 0.01,
        })  # fmt: skip
    RunFolder(folder).metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_ladder(ladder: Path) -> list[Record]:
    """Write trunks and branches; return the branches' records, the rows of a law."""
    branches = []
    for name, num_params in SIZES.items():
        for seed in (0, 1):
            trunk = f"{name}-s{seed}"
            write_run(ladder / trunk, num_params=num_params, num_steps=2400, seed=seed, cooldown_frac=0.0)
            branches += [
                write_run(
                    ladder / f"{trunk}-h{steps}",
                    num_params=num_params,
                    num_steps=steps,
                    seed=seed,
                    branch_of=trunk,
                )
                for steps in HORIZONS
            ]
    return branches


def write_plan(path: Path) -> None:
    def entry(name: str, num_params: int, num_steps: int) -> dict[str, Any]:
        groups = {"total": num_params, "embedding": num_params // 8, "body": num_params * 7 // 8, "head": 0}
        return {
            "name": name, "num_params": groups, "num_tokens": num_steps * TOKENS_PER_STEP,
            "train_flops": 6.6 * num_params * num_steps * TOKENS_PER_STEP,
            "memory_bytes": {"peak": num_params * 58}, "step_time_s": num_params * 1.5e-7,
            "total_time_s": num_params * 1.5e-7 * num_steps,
        }  # fmt: skip

    rungs = [entry(name, num_params, 3200) for name, num_params in SIZES.items()]
    plan = {"rungs": rungs, "target": entry("target", TARGET_PARAMS, TARGET_STEPS), "total_time_s": 402.0}
    path.write_text(json.dumps(plan))


def cost_entry(quantity: Any, unit: str, predicted: float, measured: float) -> LedgerEntry:
    return LedgerEntry(
        quantity=quantity, unit=unit, predicted=predicted, measured=measured, predicted_at=STARTED,
        measured_at=STARTED, method="plan",
    )  # fmt: skip


def write_samples(path: Path) -> None:
    samples = [
        {
            "prompt": "def read(self, ",
            "text": 'size=-1):\n    """Read up to size bytes & return <bytes>."""\n',
        },
        {"prompt": "import ", "text": "import os\n" + HOSTILE},
        {"prompt": None, "text": "class Error(Exception):\n    pass\n"},
    ]
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))


@pytest.fixture(scope="session")
def law(tmp_path_factory: pytest.TempPathFactory) -> Law:
    """A law fitted to the ladder's branches."""
    branches = write_ladder(tmp_path_factory.mktemp("ladder"))
    return fit([row for row in map(row_of, branches) if row], num_bootstrap=100)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory, law: Law) -> Path:
    """A finished study; tests read it and write elsewhere."""
    root = tmp_path_factory.mktemp("studies") / "demo"
    write_ladder(root / "ladder")
    law.write(root / "law.json")
    said = forecast(law, TARGET_PARAMS, TARGET_STEPS * TOKENS_PER_STEP)
    said.write(root / "forecast.json")
    write_plan(root / "plan.json")
    record = write_run(
        root / "target",
        num_params=TARGET_PARAMS,
        num_steps=TARGET_STEPS,
        forecast_hash=said.hash,
        started_at=now(),
    )
    costs = [
        cost_entry("total_time_s", "s", 1080.0, 1137.92),
        cost_entry("step_time_s", "s", 0.19, 0.2032),
        cost_entry("peak_memory_bytes", "B", 7.3e7, 7.62e7),
    ]
    write_ledger(root / "target" / "ledger.jsonl", [*verify(said, record), *costs])
    write_samples(root / "target" / "samples.jsonl")
    return root


@pytest.fixture
def make_run() -> Callable[..., Record]:
    """The writer of one run folder."""
    return write_run
