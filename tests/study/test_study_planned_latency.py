"""Latencies of decoders that are not built, from those of other sizes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from kleiber.cost import Calibration, find_device, save_calibration
from kleiber.cost.engine_times import EngineCall, EngineTimes, save_engine_times
from kleiber.cost.measured_call import Limits, WorkingSet
from kleiber.cost.rates import ProcessorRates, Rates
from kleiber.models.counting import Counted
from kleiber.models.gpt import GPTSpec
from kleiber.runs import Recipe
from kleiber.study.place import Place
from kleiber.study.planned_latency import planned_latencies

LIMITS = Limits(
    peak_flops_per_s={"fp32": 1e11}, bandwidth=(WorkingSet(num_bytes=1, bytes_per_s=1e10),), call_s=1e-6
)
RATES = Rates(
    measured_at="2026-01-02T03:04:05.678+00:00",
    torch_version="2",
    cpu={1: ProcessorRates(title="", limits=LIMITS)},
)
CALIBRATION = Calibration(measured_at="then", peak_flops_per_s={1: 1e11}, rates=RATES)
HERE = Place(RATES.device(1), calibration=CALIBRATION)


def gpt(depth: int, width: int) -> GPTSpec:
    return GPTSpec.from_dial({"depth": depth, "width": width}, vocab_size=512, context=1024)


def measured(engine: str, factor: float, kinds=("prefill", "decode")) -> list[EngineCall]:
    """Return calls that take `factor` times what reading does, of three sizes."""
    calls = []
    for size in ((2, 64), (4, 128), (6, 256)):
        counted = Counted.of_size(gpt(*size))
        for kind in kinds:
            cost = counted.prefill(1, 512) if kind == "prefill" else counted.decode(1, 575.5)
            calls.append(
                EngineCall(
                    engine=engine,
                    precision="fp32",
                    kind=kind,
                    family="gpt",
                    num_threads=1,
                    depth=size[0],
                    flops=cost.flops,
                    read_bytes=cost.read_bytes,
                    time_s=factor * cost.read_bytes / 1e10,
                )
            )
    return calls


TIMES = EngineTimes(calls=(*measured("slow", 3.0), *measured("quick", 1.5, kinds=("decode",))))


def test_latencies_follow_by_what_other_sizes_took():
    spec = gpt(5, 192)
    quick, slow = planned_latencies(spec, HERE, TIMES)
    read_bytes = Counted.of_size(spec).decode(1, 575.5).read_bytes
    assert (quick.engine, quick.prefill_s) == ("quick", None)
    assert quick.decode_s == pytest.approx(1.5 * read_bytes / 1e10)
    assert slow.decode_s == pytest.approx(3.0 * read_bytes / 1e10)
    assert slow.prefill_s == pytest.approx(3.0 * Counted.of_size(spec).prefill(1, 512).read_bytes / 1e10)
    assert (slow.num_prompt, slow.num_new) == (512, 128)


def test_nothing_is_said_without_measurements_of_its_like():
    elsewhere = Place(find_device("h100-sxm"))
    mixture = GPTSpec.from_dial(
        {"depth": 2, "width": 64, "num_experts": 4, "experts_per_token": 2}, vocab_size=512, context=1024
    )
    for spec, place, times in (
        (gpt(5, 192), HERE, EngineTimes()),
        (gpt(5, 192), HERE, EngineTimes(calls=TIMES.calls[:4])),
        (gpt(5, 192), replace(HERE, calibration=None), TIMES),
        (gpt(5, 192), elsewhere, TIMES),
        (mixture, HERE, TIMES),
        (None, HERE, TIMES),
    ):
        assert planned_latencies(spec, place, times) == ()


def test_a_plan_shows_them_and_a_run_is_planned_without_torch(monkeypatch, tmp_path):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    save_calibration(CALIBRATION)
    save_engine_times(
        EngineTimes(
            calls=tuple(
                one.model_copy(update={"num_threads": threads})
                for one in TIMES.calls
                for threads in range(1, 129)
            )
        )
    )
    recipe = Recipe().with_values(
        ["model.depth=5", "model.width=192", "data.context=1024", "data.vocab_size=512"]
    )
    (tmp_path / "run").mkdir()
    recipe.write(tmp_path / "run" / "recipe.yaml")
    program = (
        "import sys; from kleiber.cli.main import main; code = main(['plan', 'run', '--mode', 'infer']);"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "a prompt of 512   a token of the 128 after it" in ran.stdout
    lines = [line.split()[0] for line in ran.stdout.splitlines() if line.startswith((" quick ", " slow "))]
    assert lines == ["quick", "slow"]
