"""The roofline of a benchmark that is written by hand: points where operations over time put them, under the limits."""

import html
from pathlib import Path

import pytest

from kleiber.errors import UsageError
from kleiber.report.bench_chart import roofline, write_bench_chart
from kleiber.runs import Estimate, environment
from kleiber.runs.bench_result import (
    BenchCall,
    BenchMachine,
    BenchModel,
    BenchResult,
    BenchRow,
    BenchSettings,
    ComputePeak,
    MemoryRate,
)

HOSTILE = "</script><img src=x onerror=stolen=1>"


def exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def call(kind: str, flops: float, read_bytes: float, time_s: float, *, is_fastest: bool = False) -> BenchCall:
    return BenchCall(
        kind=kind, batch=1, num_tokens=8, num_timed=10, p50_s=exactly(time_s), p95_s=exactly(time_s), p99_s=exactly(time_s),
        throughput_per_s=exactly(1 / time_s), gain=exactly(1.0), flops=flops, read_bytes=read_bytes, bound="bandwidth",
        limit_s=time_s / 2, limit_frac=exactly(0.5), is_fastest=is_fastest,
    )  # fmt: skip


def row(engine: str, precision: str, *calls: BenchCall) -> BenchRow:
    return BenchRow(
        model=HOSTILE,
        engine=engine,
        asked_engine=engine,
        precision=precision,
        computes_in=precision,
        calls=calls,
    )


@pytest.fixture
def result() -> BenchResult:
    return BenchResult(
        started_at="2026-01-01T00:00:00Z",
        created_at="2026-01-01T00:00:00Z",
        settings=BenchSettings(num_threads=2),
        machine=BenchMachine(
            processor="A processor", memory_bytes=1, environment=environment(2),
            memory_rates=(
                MemoryRate(working_set_bytes=1 << 20, bytes_per_s=exactly(8e10)),
                MemoryRate(working_set_bytes=1 << 28, bytes_per_s=exactly(2e10)),
            ),
            compute_peaks=(
                ComputePeak(precision="fp32", engine="torch", flops_per_s=exactly(1e11)),
                ComputePeak(precision="fp32", engine="openvino", flops_per_s=exactly(2e11)),
                ComputePeak(precision="int8", engine="openvino", flops_per_s=exactly(8e11)),
            ),
        ),
        models=(BenchModel(name=HOSTILE, path="x", family="gpt", num_params=1, stored_bytes=1, unit="token"),),
        reference="x",
        rows=(
            row("torch", "fp32", call("prefill", 1e10, 1e8, 0.1), call("decode", 2e8, 4e8, 0.02)),
            row("openvino", "int8", call("decode", 2e8, 1e8, 0.01, is_fastest=True)),
        ),
    )  # fmt: skip


def test_points_stand_where_operations_over_bytes_and_time_put_them(result: BenchResult) -> None:
    points = roofline(result)["datasets"]["points"]
    assert [(one["intensity"], one["rate"]) for one in points] == [(100, 1e11), (0.5, 1e10), (2, 2e10)]
    assert [one["series"] for one in points] == ["prompt, fp32", "tokens, fp32", "tokens, int8"]


def test_roofs_are_the_best_peak_of_a_precision_and_memory_by_working_set(result: BenchResult) -> None:
    roofs = roofline(result)["datasets"]["roofs"]
    flat = {one["roof"]: one["rate"] for one in roofs if "FLOP" in one["roof"]}
    assert flat == {"200 GFLOP/s in fp32": 2e11, "800 GFLOP/s in int8": 8e11}
    for one in roofs:
        if "FLOP" not in one["roof"]:
            rate = 8e10 if one["roof"].startswith("80.0 GB/s") else 2e10
            assert one["rate"] == pytest.approx(rate * one["intensity"])
    # No line stops before the rightmost point.
    assert max(one["intensity"] for one in roofs) >= 100


def test_it_is_written_as_picture_and_as_a_page_without_a_network(
    result: BenchResult, tmp_path: Path
) -> None:
    svg = write_bench_chart(result, tmp_path / "roof.svg").read_text(encoding="utf-8")
    assert "800 GFLOP/s in int8" in svg
    assert write_bench_chart(result, tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")
    page = write_bench_chart(result, tmp_path / "roof.html").read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "default-src 'none'" in html.unescape(page)
    assert "A processor · 2 threads · 2026-01-01" in page


def test_another_ending_is_refused(result: BenchResult, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"a roofline is written as \.svg, \.png or \.html\. Got 'roof\.pdf'"
    ):
        write_bench_chart(result, tmp_path / "roof.pdf")
