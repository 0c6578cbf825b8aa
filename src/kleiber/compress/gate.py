"""The gate: what a compressed model must keep to before anyone gets it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Self

from pydantic import Field, field_validator

from kleiber.errors import GateError, UsageError
from kleiber.runs import Document, Estimate, TaskName
from kleiber.runs.receipt import BoundReport, EngineRatio, EngineSide, Receipt, Tried
from kleiber.tasks.quality import quality_loss
from kleiber.units import format_bytes

__all__ = [
    "Gate",
    "allowed_frac",
    "excess",
    "judge",
    "main_engine_side",
    "main_ratio",
    "main_side",
    "refusal",
    "require_judgeable",
    "tried_excess",
]

_SYNTAX = {
    "max_quality_loss": (r"(?P<number>\d+(\.\d*)?|\.\d+)\s*(?P<unit>%|pt)", "1%   or, of accuracy, 1pt"),
    "max_bytes": (
        r"(?P<number>\d+(\.\d*)?|\.\d+)\s*(?P<unit>%|B|kB|KB|MB|GB)?",
        "25%   of the original's, or 10MB",
    ),
    "max_latency_ms": (r"(?P<number>\d+(\.\d*)?|\.\d+)\s*(?P<unit>%|ms)?", "20   or 80%   of the original's"),
}
_BYTES = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, None: 1.0}
_POINTS = 100.0
_LEAST_LIMIT = 0.01
"""What a limit of 0 counts as where its excess is a part of it."""


class Gate(Document):
    """Bounds; None bounds nothing.

    Example:
        >>> Gate(max_bytes="25%", min_speedup=1.5).bounds
        ('max_bytes', 'min_speedup')
    """

    help_line = "--max-quality-loss 1%   --max-bytes 25%   --max-latency-ms 20"

    max_quality_loss: str | None = None
    """`1%` of the main measure (perplexity, accuracy, recall, the loss of values), or `1pt` of a measure that is a share."""
    max_bytes: str | None = None
    """On disk: `25%` of the original's, or `10MB`."""
    max_latency_ms: str | None = None
    """At batch 1 on the engine that is chosen: `20` ms, or `80%` of the original's there."""
    min_speedup: float | None = Field(default=None, gt=0)
    """How many times sooner at batch 1 than the original on the same engine."""

    @field_validator("max_quality_loss", "max_bytes", "max_latency_ms", mode="before")
    @classmethod
    def _typed(cls, value: object) -> object:
        # YAML and scripts give plain numbers where a person types them without a unit.
        return f"{value:.15g}" if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("max_quality_loss", "max_bytes", "max_latency_ms")
    @classmethod
    def _parses(cls, value: str | None, info: object) -> str | None:
        name = str(getattr(info, "field_name", ""))
        if value is None:
            return value
        found = re.fullmatch(_SYNTAX[name][0], value.strip())
        if found is None or (float(found["number"]) == 0 and name != "max_quality_loss"):
            raise ValueError(f"is written {_SYNTAX[name][1]}; got '{value}'")
        return value

    @classmethod
    def typed(cls, **bounds: str | float | None) -> Self:
        """Return the gate that a person typed.

        Raises:
            UsageError: A bound is not written as it must be.
        """
        return cls.of(bounds, "gate", UsageError)

    @property
    def bounds(self) -> tuple[str, ...]:
        """Names of the bounds that are asked for."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def needs_speed(self) -> bool:
        """Whether an engine must be timed."""
        return self.max_latency_ms is not None or self.min_speedup is not None


def require_judgeable(gate: Gate, task: TaskName) -> None:
    """Refuse a gate that a model of this task can never be judged by, before anything is done.

    Raises:
        UsageError: It asks for points of a measure that is no share.
    """
    points = (
        gate.max_quality_loss is not None and _parsed("max_quality_loss", gate.max_quality_loss)[1] == "pt"
    )
    if points and task not in ("classification", "contrastive"):
        raise UsageError(
            f"max_quality_loss in points is of accuracy and its like, and a model of {task} is judged by its loss.",
            got=gate.max_quality_loss,
            hint="--max-quality-loss 1%",
        )


def judge(gate: Gate, receipt: Receipt) -> tuple[BoundReport, ...]:
    """Return each bound with what was got; quality and speed are met by their point estimates.

    Raises:
        UsageError: The gate asks for speed where no engine was timed.
    """
    return tuple(_reports(gate, receipt))


def excess(reports: tuple[BoundReport, ...]) -> float:
    """Return by how much bounds are missed, each as a part of its limit, added up: 0 where all are met."""
    pairs = (
        (one.limit, one.got) if one.name == "min_speedup" else (one.got, one.limit)
        for one in reports
        if not one.is_met
    )
    return sum(_over(got, limit) for got, limit in pairs)


def refusal(closest: Receipt, num_tried: int = 1) -> GateError:
    """Return the error that names the closest result and the bounds that it misses."""
    missed = "; ".join(
        f"{one.name} {one.asked} was asked, and {_shown(one)} is reached"
        for one in closest.gate
        if not one.is_met
    )
    steps = " ".join(one.step for one in closest.steps)
    which = "the result" if num_tried == 1 else f"each of {num_tried} results; the closest"
    return GateError(
        f"the gate refuses {which} ({steps}): {missed}.",
        hint="a wider bound, more recovery (recover:frac=0.1), or fewer bits and numbers",
    )


def main_side(receipt: Receipt, *, is_after: bool = True) -> EngineSide | None:
    """Return how a side ran on the engine that the gate goes by."""
    return main_engine_side((receipt.after if is_after else receipt.before).engines, receipt.engine)


def main_engine_side(sides: Sequence[EngineSide], engine: str) -> EngineSide | None:
    """Return what was timed on an engine: decoding where that was, else whole inputs; None of neither."""
    own = {one.workload: one for one in sides if one.engine == engine}
    return own.get("decode", own.get("forward"))


def main_ratio(receipt: Receipt) -> EngineRatio | None:
    """Return after over before of the same."""
    own = {one.workload: one for one in receipt.engines if one.engine == receipt.engine}
    return own.get("decode", own.get("forward"))


def allowed_frac(gate: Gate, original_bytes: int) -> float | None:
    """Return the part of the original's bytes that a gate allows; None where it does not say.

    Example:
        >>> allowed_frac(Gate(max_bytes="25%"), 400), allowed_frac(Gate(max_bytes="1kB"), 4000), allowed_frac(Gate(), 1)
        (0.25, 0.25, None)
    """
    return None if gate.max_bytes is None else _bytes_limit(gate.max_bytes, original_bytes) / original_bytes


def tried_excess(
    gate: Gate,
    tried: Tried,
    *,
    original_bytes: int,
    original_latency_s: float | None,
    original_share: float,
    slack: float = 1.0,
) -> float:
    """Return by how much what a search tried misses bounds, each as a part of its limit, added up.

    Args:
        gate: The bounds.
        tried: What came out.
        original_bytes: On disk.
        original_latency_s: Timed in turns with it; None where speed was not asked for.
        original_share: The main measure of the original, of which points are lost.
        slack: Times the bound of quality that counts as met.
    """
    total = 0.0
    if gate.max_quality_loss is not None:
        number, unit = _parsed("max_quality_loss", gate.max_quality_loss)
        lost = _POINTS * tried.quality_loss * (1.0 if unit == "%" else original_share)
        total += _over(lost, slack * number)
    if gate.max_bytes is not None:
        total += _over(tried.stored_bytes, _bytes_limit(gate.max_bytes, original_bytes))
    if tried.latency_s is not None and original_latency_s is not None:
        if gate.max_latency_ms is not None:
            limit = _latency_limit(gate.max_latency_ms, original_latency_s)
            total += _over(1e3 * tried.latency_s, limit)
        if gate.min_speedup is not None:
            total += _over(gate.min_speedup, original_latency_s / tried.latency_s)
    return total


def _reports(gate: Gate, receipt: Receipt) -> Iterator[BoundReport]:
    if gate.max_quality_loss is not None:
        yield _quality(gate.max_quality_loss, receipt)
    if gate.max_bytes is not None:
        yield _bytes(gate.max_bytes, receipt)
    if not gate.needs_speed:
        return
    before, after, ratio = main_side(receipt, is_after=False), main_side(receipt), main_ratio(receipt)
    if before is None or after is None or ratio is None:
        reasons = "; ".join(f"{one.engine}: {one.reason}" for one in receipt.left_out) or "none was asked for"
        raise UsageError(
            f"the gate asks for speed, and no engine was timed. {reasons.removesuffix('.')}.",
            hint="--engine torch",
        )
    if gate.max_latency_ms is not None:
        limit = _latency_limit(gate.max_latency_ms, before.latency_s.value)
        yield _report(
            "max_latency_ms", gate.max_latency_ms, limit, _scaled(after.latency_s, 1e3), "ms", is_most=True
        )
    if gate.min_speedup is not None:
        speedup = Estimate(
            value=1 / ratio.latency.value, low=1 / ratio.latency.high, high=1 / ratio.latency.low
        )
        yield _report(
            "min_speedup", f"{gate.min_speedup:g}", gate.min_speedup, speedup, "times", is_most=False
        )


def _quality(asked: str, receipt: Receipt) -> BoundReport:
    change, (number, unit) = receipt.main_quality, _parsed("max_quality_loss", asked)
    if unit == "%":
        got, limit = _scaled(quality_loss(change), _POINTS), number
        return _report("max_quality_loss", asked, limit, got, "%", is_most=True)
    lost = change.difference
    points = Estimate(value=-_POINTS * lost.value, low=-_POINTS * lost.high, high=-_POINTS * lost.low)
    return _report("max_quality_loss", asked, number, points, "points", is_most=True)


def _bytes(asked: str, receipt: Receipt) -> BoundReport:
    limit = _bytes_limit(asked, receipt.before.stored_bytes)
    got = float(receipt.after.stored_bytes)
    return _report("max_bytes", asked, limit, Estimate(value=got, low=got, high=got), "B", is_most=True)


def _bytes_limit(asked: str, original_bytes: int) -> float:
    number, unit = _parsed("max_bytes", asked)
    return number / 100 * original_bytes if unit == "%" else number * _BYTES[unit]


def _latency_limit(asked: str, original_s: float) -> float:
    """Return the bound in milliseconds."""
    number, unit = _parsed("max_latency_ms", asked)
    return number / 100 * original_s * 1e3 if unit == "%" else number


def _over(got: float, limit: float) -> float:
    """Return by how much `got` is above a limit, as a part of it; 0 where it is not."""
    return max(0.0, got - limit) / (abs(limit) or _LEAST_LIMIT)


def _report(name: str, asked: str, limit: float, got: Estimate, unit: str, *, is_most: bool) -> BoundReport:
    return BoundReport(
        name=name,
        asked=asked,
        limit=limit,
        got=got.value,
        unit=unit,
        is_met=got.value <= limit if is_most else got.value >= limit,
        is_within_noise=got.low <= limit <= got.high and got.low < got.high,
    )


def _parsed(name: str, typed: str) -> tuple[float, str | None]:
    found = re.fullmatch(_SYNTAX[name][0], typed.strip())
    if found is None:
        raise AssertionError("a gate's bounds were parsed when it was made")
    return float(found["number"]), found["unit"]


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(value=factor * estimate.value, low=factor * estimate.low, high=factor * estimate.high)


def _shown(report: BoundReport) -> str:
    if report.unit == "B":
        return f"{format_bytes(report.got)} of at most {format_bytes(report.limit)}"
    return f"{report.got:.3g}{'' if report.unit == '%' else ' '}{report.unit}"
