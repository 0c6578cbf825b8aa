"""Ladders whose law is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from kleiber.runs import (
    DataMeta,
    Environment,
    Lineage,
    ParamCount,
    Recipe,
    Record,
    Result,
    Row,
    RunFolder,
    ScheduleRecipe,
    TrainRecipe,
)
from kleiber.scaling import Law, fit

SIZES = (40_000, 86_000, 186_000, 400_000)
HORIZONS = (512_000.0, 921_600.0, 1_638_400.0)


def loss_of(coefficients: Sequence[float], num_params: float, num_tokens: float) -> float:
    E, A, B, alpha, beta = coefficients
    return float(E + A * num_params**-alpha + B * num_tokens**-beta)


def make_ladder(
    coefficients: Sequence[float] = (1.5, 43.3, 408.5, 0.3, 0.45),
    *,
    sizes: Sequence[int] = SIZES,
    horizons: Sequence[float] = HORIZONS,
    num_seeds: int = 2,
    trunk_frac: float = 0.0,
    run_frac: float = 0.0,
    seed: int = 0,
) -> list[Row]:
    """Return a ladder as the demo's, with noise shared by a trunk's branches and noise of each run."""
    random = np.random.default_rng(seed)
    rows = []
    for size in sizes:
        for index in range(num_seeds):
            shared = random.normal(0, trunk_frac)
            for horizon in horizons:
                error = float(np.exp(shared + random.normal(0, run_frac)))
                rows.append(
                    Row(
                        run=f"n{size}-s{index}-h{horizon:.0f}",
                        num_params=ParamCount(
                            embedding=size // 4, body=size - size // 4, head=0, is_tied=True
                        ),
                        num_tokens=horizon,
                        loss=loss_of(coefficients, size, horizon) * error,
                        trunk=f"n{size}-s{index}",
                        eval_hash="e1",
                        seed=index,
                    )
                )
    return rows


@pytest.fixture
def ladder() -> Callable[..., list[Row]]:
    return make_ladder


@pytest.fixture
def noisy_rows() -> list[Row]:
    return make_ladder(trunk_frac=0.004, run_frac=0.0015, seed=3)


@pytest.fixture(scope="session")
def law() -> Law:
    return fit(make_ladder(trunk_frac=0.004, run_frac=0.0015, seed=3), num_bootstrap=100)


TARGET = ParamCount(embedding=200_000, body=600_000, head=0, is_tied=True)


def make_record(
    name: str = "target",
    *,
    num_params: ParamCount = TARGET,
    num_tokens: int = 3_276_800,
    val_loss: float = 2.75,
    cooldown_frac: float = 0.25,
    trunk: str | None = None,
    **changes: object,
) -> Record:
    """Return the record of a finished run that started long after any forecast of a test."""
    schedule = ScheduleRecipe(cooldown_frac=cooldown_frac)
    record = Record(
        run=name, status="finished", started_at="2999-01-01T00:00:00.000+00:00", ended_at="2999-01-01T01:00:00.000+00:00",
        recipe=Recipe(train=TrainRecipe(schedule=schedule)), recipe_hash="r", seed=0, num_params=num_params,
        train_flops=1e12, flops_convention="x",
        environment=Environment(
            kleiber="0", python="3", torch="2", platform="linux", num_cores=2, num_threads=1
        ),
        data=DataMeta(
            source="stdlib", corpus_hash="c", python_version="3", tokenizer_hash="t", eval_hash="e1", shape={"inputs": "tokens", "vocab_size": 1024, "context": 128}, num_documents=1, num_train_tokens=2_000_000, num_val_tokens=1000, val_bytes_per_token=2.5,
        ),
        lineage=(Lineage(run=trunk, operation="branch", step=1),) if trunk else (),
        result=Result(
            num_steps=1, num_tokens=num_tokens, loss=2.7, val_loss=val_loss, val_loss_half_width=0.02,
            val_metrics={"bits_per_byte": {"value": 1.5, "low": 1.5, "high": 1.5}}, tokens_per_s=1e4, step_time_s=0.01, mfu_frac=0.2, peak_flops_per_s=1e11,
            total_time_s=10, peak_memory_bytes=10**8,
        ),
    )  # fmt: skip
    return record.model_copy(update=changes)


@pytest.fixture
def record_of() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def write_run() -> Callable[..., None]:
    def write(folder: Path, **options: object) -> None:
        make_record(folder.name, **options).write(RunFolder(folder).record_path)

    return write
