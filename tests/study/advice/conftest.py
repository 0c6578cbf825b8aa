"""A law that is written down, a device whose costs are sums by hand, and receipts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

# The tests find advice_examples here.
sys.path.insert(0, str(Path(__file__).parent))

from advice_examples import ALPHA, BETA, NOISE, A, B, E, loss_of

from kleiber.runs import Estimate, ParamCount, Row, environment
from kleiber.runs.receipt import (
    CalibrationUsed,
    CompressionCost,
    EngineRatio,
    QualityChange,
    Receipt,
    ReceiptSide,
    StepReport,
)
from kleiber.scaling import Law
from kleiber.scaling.forms import FORMS
from kleiber.scaling.noise import Noise
from kleiber.study.advice.token_cost import Sized, TokenCost


@pytest.fixture(scope="session")
def make_law():
    """Return a function that writes a law down, of a form with coefficients, with refits a little around them."""

    def make(form: str = "chinchilla", values: tuple[float, ...] = (E, A, B, ALPHA, BETA), **changes) -> Law:
        names = FORMS[form].names
        off = np.random.default_rng(1).normal(scale=0.01, size=(200, len(names)))
        samples = tuple(map(tuple, (np.array(values) * (1 + off)).tolist()))
        rows = tuple(
            Row(
                run=f"{size:g}-{tokens:g}",
                num_params=ParamCount(embedding=0, body=int(size), head=0),
                num_tokens=tokens,
                loss=loss_of(size, tokens),
                trunk=f"{size:g}-{tokens:g}",
            )
            for size in (1e7, 1e8, 1e9)
            for tokens in (1e9, 1e10, 1e11)
        )
        content = {
            "form": form, "convention": "total", "coefficients": dict(zip(names, values, strict=True)),
            "intervals": {name: {"80": (0.9 * value, 1.1 * value), "95": (0.8 * value, 1.2 * value)}
                          for name, value in zip(names, values, strict=True)},
            "objective": 0.0, "num_rows": len(rows), "eval_hash": None, "e_determined": True, "notes": (),
            "noise": Noise(trunk_frac=NOISE, run_frac=0.0, misfit_frac=0.0, num_repeats=4), "rows": rows, "samples": samples,
        }  # fmt: skip
        return Law.model_validate(content | changes)

    return make


class Sums:
    """6 N and 2 N operations a token, at 1e14 of them a second, twice as slow when serving."""

    low, high = 1e6, 1e13

    def training(self, num_params):
        return TokenCost(6 * num_params, 6 * num_params / 1e14)

    def serving(self, num_params, served):
        flops = 2 * served.flops_ratio * num_params
        return TokenCost(flops, flops / 5e13)

    def chosen(self, num_params):
        return Sized(
            num_params, None, self.training(num_params), lambda served: self.serving(num_params, served)
        )


@pytest.fixture
def sums():
    return Sums()


def exact(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def change(name: str, value: float, ratio: Estimate, *, is_main: bool) -> QualityChange:
    difference = Estimate(value=value, low=value - 0.01, high=value + 0.01)
    return QualityChange(
        name=name, engine="openvino", is_main=is_main, before=exact(3.0), after=exact(3.0 + value), difference=difference, ratio=ratio
    )  # fmt: skip


@pytest.fixture
def receipt():
    """1,000 weights of 4 bytes became 800 of 1 byte; loss +0.05; reading 0.5 and writing 0.4 of the time alone, or 2.5 the throughput."""

    def of(num_params, stored_bytes, macs):
        return ReceiptSide(
            num_params=num_params, num_nonzero=num_params, raw_bytes=4 * num_params, stored_bytes=stored_bytes, macs=macs
        )  # fmt: skip

    ratios = tuple(
        EngineRatio(
            engine="openvino", workload=workload, num_threads=1, num_rounds=5,
            latency=Estimate(value=latency, low=0.9 * latency, high=1.1 * latency),
            throughput=Estimate(value=through, low=0.8 * through, high=1.25 * through),
        )
        for workload, latency, through in (("forward", 0.5, 2.0), ("decode", 0.4, 2.5))
    )  # fmt: skip
    quality = (
        change("perplexity", 1.0, Estimate(value=1.05, low=1.04, high=1.06), is_main=True),
        change("loss", 0.05, exact(1.01), is_main=False),
    )
    return Receipt(
        source="runs/big", asked_hash="a", steps=(StepReport(step="quantize:bits=8", seconds=1.0),), lineage=(), split="test",
        before=of(1000, 4000, 500), after=of(800, 800, 400), engines=ratios, engine="openvino", quality=quality,
        calibration=CalibrationUsed(source="stdlib", num_samples=8, seed=0, hash="h"), seed=0, predicted_bytes=800,
        cost=CompressionCost(seconds=1.0, training_tokens=10, training_frac=0.2), environment=environment(1), created_at="now",
    )  # fmt: skip
