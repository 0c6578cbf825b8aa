"""The maths of the backtest on published runs; it reads `bench/published_runs.yaml`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kleiber.cost.kernel_efficiency import SUSTAINED_FRAC

PATH = Path(__file__).parents[2] / "bench" / "published_runs.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("published_runs", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["published_runs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("llama-7b", 6.738),
        ("llama-13b", 13.016),
        ("llama-33b", 32.529),
        ("llama-65b", 65.286),
        ("llama3-405b", 405.853),
        ("nanochat-d20", 0.561),
        ("olmo2-32b", 32.234),
        ("korthikanti-175b", 174.6),
    ],
)
def test_the_sizes_are_the_published_ones(bench: ModuleType, name: str, billions: float) -> None:
    run = next(run for run in bench.read_runs() if run.name == name)
    assert run.gpt().count().total / 1e9 == pytest.approx(billions, rel=0.004)


def test_every_run_says_where_it_is_from(bench: ModuleType) -> None:
    for run in bench.read_runs():
        assert run.source
        assert run.layout_is
        assert len(run.published) == 1
        assert (run.num_chunks > 1) == (run.chunks_are is not None)


def test_a_step_time_becomes_what_was_published(bench: ModuleType) -> None:
    """65 B at the published 380 tokens/s a GPU: 1.4 T tokens take a million GPU-hours."""
    run = next(run for run in bench.read_runs() if run.name == "llama-65b")
    step_s = 2048 * 2048 / (380 * 2048)
    found = bench.quantities(run, step_s)
    assert found["tokens_per_s"] == pytest.approx(380)
    assert found["gpu_hours"] == pytest.approx(1.4e12 / 380 / 3600) == pytest.approx(1_022_362, rel=0.002)
    assert found["flops_per_s"] == pytest.approx(380 * 6 * 65.3e9, rel=0.04)
    assert found["energy_mwh"] == pytest.approx(found["gpu_hours"] * 400 * 1.2 / 1e6)


def test_llama3_does_the_operations_that_its_table_counts(bench: ModuleType) -> None:
    """16,384 GPUs at 400 TFLOP/s are 41% of the peak."""
    run = next(run for run in bench.read_runs() if run.name == "llama3-405b-16k-gpus")
    step_s = bench.predict_time(run).step_time_s
    rate = bench.quantities(run, step_s)["flops_per_s"]
    assert rate * step_s * 16_384 == pytest.approx(6 * 405.85e9 * 2048 * 8192, rel=0.05)


def test_an_error_above_zero_is_too_much_time(bench: ModuleType) -> None:
    for run in bench.read_runs():
        one = bench.score(run)
        is_rate = one["quantity"].endswith("_per_s")
        assert (one["time_error"] > 0) == ((one["predicted"] < one["published"]) == is_rate)
        assert 0.2 < one["mfu"] < 0.8


def test_the_fitted_factor_is_the_median_of_the_references(bench: ModuleType) -> None:
    errors = sorted(bench.score(run)["time_error"] for run in bench.read_runs() if run.role == "reference")
    assert len(errors) == 8
    # Communication is not scaled, so the median lies near zero and not on it.
    assert (errors[3] + errors[4]) / 2 == pytest.approx(0, abs=0.01)
    assert SUSTAINED_FRAC < 1


def test_the_backtest_is_as_good_as_is_claimed(bench: ModuleType) -> None:
    """docs/log.md has the figures."""
    found = bench.summary([bench.score(run) for run in bench.read_runs() if run.role == "backtest"])
    assert found["num_figures"] == 9
    assert found["mean_absolute_error"] < 0.20
    assert found["worst_absolute_error"] < 0.30
