import pytest

from kleiber.compress.gate import Gate, excess, judge, refusal, require_judgeable
from kleiber.errors import GateError, UsageError
from kleiber.runs import Estimate, environment
from kleiber.runs.receipt import (
    CalibrationUsed,
    CompressionCost,
    EngineRatio,
    EngineSide,
    LeftOut,
    QualityChange,
    Receipt,
    ReceiptSide,
    StepReport,
)


def exact(value):
    return Estimate(value=value, low=value, high=value)


def side(stored_bytes, latency_s):
    engines = tuple(
        EngineSide(
            engine="onnxruntime", workload=workload, precision="int8", latency_s=exact(factor * latency_s),
            throughput_per_s=exact(1.0), saturation_batch=1,
        )
        for workload, factor in (("forward", 10), ("decode", 1))
    )  # fmt: skip
    return ReceiptSide(
        num_params=9, num_nonzero=9, raw_bytes=36, stored_bytes=stored_bytes, macs=9, engines=engines
    )


@pytest.fixture
def receipt():
    """Accuracy 80% to 79.2%, 4 MB to 1 MB, 20 ms to 16 ms a token."""
    change = {
        "before": exact(0.8), "after": exact(0.792), "difference": Estimate(value=-0.008, low=-0.012, high=-0.004),
        "ratio": Estimate(value=0.99, low=0.985, high=0.995),
    }  # fmt: skip
    ratios = tuple(
        EngineRatio(
            engine="onnxruntime", workload=workload, num_threads=1, num_rounds=5,
            latency=Estimate(value=0.8, low=0.7, high=0.9), throughput=exact(1.2),
        )
        for workload in ("forward", "decode")
    )  # fmt: skip
    return Receipt(
        source="runs/big", asked_hash="a", steps=(StepReport(step="quantize:bits=8", seconds=1.0),), lineage=(), split="test",
        before=side(4_000_000, 0.02), after=side(1_000_000, 0.016), engines=ratios, engine="onnxruntime",
        quality=(QualityChange(name="accuracy", engine="onnxruntime", is_main=True, **change),),
        calibration=CalibrationUsed(source="digits", num_samples=8, seed=0, hash="h"), seed=0, predicted_bytes=990_000,
        cost=CompressionCost(seconds=1.0, training_tokens=0, training_frac=0.0), environment=environment(1), created_at="now",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("bound", "limit", "got", "is_met", "is_within_noise"),
    [
        ({"max_quality_loss": "1%"}, 1.0, 1.0, True, True),
        ({"max_quality_loss": "0.9%"}, 0.9, 1.0, False, True),
        ({"max_quality_loss": "2%"}, 2.0, 1.0, True, False),
        ({"max_quality_loss": "0.7pt"}, 0.7, 0.8, False, True),
        ({"max_quality_loss": "1.5 pt"}, 1.5, 0.8, True, False),
        ({"max_bytes": "25%"}, 1e6, 1e6, True, False),
        ({"max_bytes": "0.9MB"}, 9e5, 1e6, False, False),
        ({"max_bytes": 1_000_000}, 1e6, 1e6, True, False),
        ({"max_latency_ms": "16"}, 16, 16, True, False),
        ({"max_latency_ms": 15.5}, 15.5, 16, False, False),
        ({"max_latency_ms": "79%"}, 15.8, 16, False, False),
        ({"max_latency_ms": "80%"}, 16, 16, True, False),
        ({"min_speedup": 1.2}, 1.2, 1.25, True, True),
        ({"min_speedup": 1.5}, 1.5, 1.25, False, False),
    ],
)
def test_bounds(receipt, bound, limit, got, is_met, is_within_noise):  # noqa: PLR0917 - a row of the table above
    (report,) = judge(Gate.typed(**bound), receipt)
    assert (report.limit, report.got) == pytest.approx((limit, got))
    met = report.got <= report.limit * (1 + 1e-9) if report.name != "min_speedup" else report.is_met
    assert (met, report.is_within_noise) == (is_met, is_within_noise)


def test_no_bounds_are_met(receipt):
    assert judge(Gate(), receipt) == ()
    assert receipt.is_met


def test_excess_adds_up_what_is_missing(receipt):
    reports = judge(Gate(max_bytes="500kB", max_quality_loss="2%", min_speedup=2.5), receipt)
    assert excess(reports) == pytest.approx(1.0 + 1.0)


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ({"max_quality_loss": "1"}, r"max_quality_loss: is written 1%   or, of accuracy, 1pt; got '1'"),
        ({"max_quality_loss": "-1%"}, r"max_quality_loss: is written 1%"),
        ({"max_bytes": "small"}, r"max_bytes: is written 25%   of the original's, or 10MB; got 'small'"),
        ({"max_bytes": "0"}, r"max_bytes: is written 25%"),
        ({"max_latency_ms": "2 s"}, r"max_latency_ms: is written 20   or 80%"),
        ({"max_bits": "2"}, r"unknown key 'max_bits'"),
        ({"min_speedup": 0}, r"min_speedup: input should be greater than 0"),
    ],
)
def test_what_is_typed_wrong_is_said(bound, message):
    with pytest.raises(UsageError, match=message):
        Gate.typed(**bound)


def test_points_are_of_shares():
    require_judgeable(Gate(max_quality_loss="1pt"), "classification")
    require_judgeable(Gate(max_quality_loss="1%"), "lm")
    with pytest.raises(
        UsageError, match=r"in points is of accuracy and its like, and a model of lm .* Got '1pt'"
    ):
        require_judgeable(Gate(max_quality_loss="1pt"), "lm")


def test_speed_that_nobody_timed_cannot_be_judged(receipt):
    left = LeftOut(engine="openvino", workload="forward", reason="it is not installed.")
    untimed = receipt.model_copy(update={"engine": "torch", "left_out": (left,)})
    with pytest.raises(
        UsageError, match=r"asks for speed, and no engine was timed\. openvino: it is not installed\."
    ):
        judge(Gate(min_speedup=2.0), untimed)


def test_a_refusal_names_what_is_missed(receipt):
    judged = receipt.model_copy(
        update={"gate": judge(Gate(max_bytes="500kB", max_quality_loss="2%"), receipt)}
    )
    error = refusal(judged, num_tried=7)
    assert isinstance(error, GateError)
    assert error.message == (
        "the gate refuses each of 7 results; the closest (quantize:bits=8): max_bytes 500kB was asked, and 1.00 MB of at most "
        "500 kB is reached."
    )
