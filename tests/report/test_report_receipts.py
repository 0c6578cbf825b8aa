"""A compression beside the run it came from: its receipt, told in tables and one chart."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kleiber.report import write_report
from kleiber.report.sources import read_sources
from kleiber.runs import Estimate, Lineage, RunFolder, environment
from kleiber.runs.receipt import (
    BoundReport,
    CalibrationUsed,
    CompressionCost,
    EngineRatio,
    EngineSide,
    LeftOut,
    QualityChange,
    Receipt,
    ReceiptSide,
    StepReport,
    Tried,
)


def between(value, low, high):
    return Estimate(value=value, low=low, high=high)


def side(stored_bytes, precision, latency_s):
    engine = EngineSide(
        engine="onnxruntime", workload="decode", precision=precision, latency_s=between(latency_s, latency_s, latency_s),
        throughput_per_s=between(500.0, 400.0, 600.0), saturation_batch=8, peak_memory_bytes=10_000_000,
    )  # fmt: skip
    return ReceiptSide(
        num_params=1000,
        num_nonzero=900,
        raw_bytes=4000,
        stored_bytes=stored_bytes,
        macs=7000,
        engines=(engine,),
    )


def made_receipt(**changes):
    ratio = EngineRatio(
        engine="onnxruntime", workload="decode", num_threads=1, num_rounds=5, latency=between(1.04, 1.02, 1.06),
        throughput=between(1.5, 1.4, 1.6),
    )  # fmt: skip
    perplexity = QualityChange(
        name="perplexity", engine="onnxruntime", is_main=True, before=between(20.0, 19.0, 21.0), after=between(20.2, 19.2, 21.2),
        difference=between(0.2, 0.1, 0.3), ratio=between(1.01, 1.005, 1.015),
    )  # fmt: skip
    accuracy = perplexity.model_copy(
        update={"name": "accuracy", "before": between(0.9, 0.8, 1.0), "after": between(0.89, 0.79, 0.99),
                "difference": between(-0.01, -0.02, 0.0)}
    )  # fmt: skip
    tried = tuple(
        Tried(
            steps=(step,), rung=0, quality_loss=loss, stored_bytes=size, training_tokens=640,
            is_on_front=step != "prune:ratio=0.5", is_chosen=step == "quantize:bits=4",
        )
        for step, loss, size in (
            ("quantize:bits=8", 0.001, 1100), ("quantize:bits=4", 0.01, 600), ("prune:ratio=0.5", 0.7, 2400),
        )
    )  # fmt: skip
    return Receipt(
        source="runs/big", asked_hash="a", lineage=(Lineage(run="big", operation="compress", step=10),), split="val",
        steps=(StepReport(step="quantize:bits=4", seconds=2.0, notes=("The head was kept.",)),),
        before=side(4096, "fp32", 0.010), after=side(1024, "int4 weights", 0.0104), engines=(ratio,),
        left_out=(LeftOut(engine="openvino", workload="decode", reason="it is not installed."),), engine="onnxruntime",
        quality=(perplexity, accuracy), calibration=CalibrationUsed(source="stdlib", num_samples=128, seed=3, hash="h"), seed=3,
        cost=CompressionCost(seconds=75.0, training_tokens=640, training_frac=0.05), predicted_bytes=1000,
        gate=(
            BoundReport(name="max_bytes", asked="25%", limit=1024, got=1024, unit="B", is_met=True),
            BoundReport(name="min_speedup", asked="2", limit=2, got=0.96, unit="times", is_met=False),
        ),
        says=("No gain on this device: <b>onnxruntime</b>.",), tried=tried, environment=environment(1), created_at="now",
    ).model_copy(update=changes)  # fmt: skip


@pytest.fixture
def compression(tmp_path, make_record):
    record = make_record("small", kind="compress", result=None)
    record = record.model_copy(update={"result": None, "lineage": made_receipt().lineage})
    record.write(tmp_path / "small" / "record.json")
    made_receipt().write(tmp_path / "small" / "receipt.json")
    return tmp_path / "small"


def page_of(folder: Path, lang="en") -> str:
    return write_report([folder], folder / "report.html", lang=lang).read_text(encoding="utf-8")


def text_of(page: str) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_before_and_after_stand_side_by_side(compression):
    text = text_of(page_of(compression))
    assert "The receipt of small" in text
    assert (
        "runs/big: 4.10 KB on disk became 1.02 KB, 25.0% of it" in text
        or "4.10 kB on disk became 1.02 kB, 25.0% of it" in text
    )
    assert "took 1 min 15 s and trained on 5.00% of the tokens" in text
    for said in (
        "fp32 → int4 weights", "10 ms → 10.4 ms", "1.04 [1.02, 1.06]", "1.50 [1.40, 1.60]", "perplexity", "× 1.01 [1.005, 1.015]",
        "90.00%", "−1 [−2, 0] points", "a token", "bytes on disk at most",
        "The head was kept.", "openvino (a token): it is not installed.",
    ):  # fmt: skip
        assert said in text, said


def test_slower_is_bad_and_faster_is_good(compression):
    page = page_of(compression)
    assert re.search(r'class="bad[^"]*"[^>]*>1\.04 \[1\.02, 1\.06\]', page)
    assert re.search(r'class="good[^"]*"[^>]*>1\.50 \[1\.40, 1\.60\]', page)
    assert re.search(r'class="good[^"]*"[^>]*>met<', page)
    assert re.search(r'class="bad[^"]*"[^>]*>missed<', page)


def test_sentences_are_text_and_not_markup(compression):
    assert "&lt;b&gt;onnxruntime&lt;/b&gt;" in page_of(compression)


def test_every_point_that_was_tried_is_drawn_and_listed(compression):
    page = page_of(compression)
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, re.DOTALL)[1])["specs"]
    data = charts["tried_0"]["datasets"]
    assert [one["steps"] for one in data["tried"]] == [
        "quantize:bits=8",
        "quantize:bits=4",
        "prune:ratio=0.5",
    ]
    assert [one["bytes"] for one in data["front"]] == [1100, 600]
    assert [one["bytes"] for one in data["steps"]] == [1100, 600]
    assert [one["steps"] for one in data["chosen"]] == ["quantize:bits=4"]
    assert 'id="chart-tried_0"' in page
    text = text_of(page)
    assert all(one in text for one in ("+70.0%", "chosen", "on the front", "What was tried"))


def test_steps_that_were_given_have_no_chart(compression):
    made_receipt(tried=()).write(compression / "receipt.json")
    page = page_of(compression)
    assert "What was tried" not in text_of(page)
    assert "tried_0" not in page


def test_it_is_told_in_chinese(compression):
    text = text_of(page_of(compression, "zh"))
    assert all(one in text for one in ("small 的收据", "个百分点", "磁盘字节数至多", "选中", "一个词元"))


def test_runs_without_a_receipt_have_none(study, compression):
    sources = read_sources([study])
    assert all(run.receipt is None for run in sources.runs)
    assert "The receipt of" not in text_of(write_report([study], compression / "other.html").read_text())
    assert RunFolder(compression).read_receipt() == made_receipt(
        environment=RunFolder(compression).read_receipt().environment
    )
