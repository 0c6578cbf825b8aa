"""What a study found: `study.json`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from kleiber.runs import Baseline, Document, Environment, Estimate
from kleiber.study.growing.design import Line
from kleiber.study.growing.extent import StudyPlan
from kleiber.study.growing.trend import Contrast, Trend

__all__ = ["Curve", "Floor", "Point", "Quantity", "Study", "StudyMember"]

Quantity: TypeAlias = Literal[
    "loss", "error_frac", "mean_absolute_error", "train_flops", "step_time_s", "peak_memory_bytes", "stored_bytes",
    "packed_bytes", "gradient_bytes", "packed_gradient_bytes", "decode_s", "forward_s", "gap", "onset_epoch", "highest_rate",
    "spike_frac", "noise_scale", "seed_sd",
]  # fmt: skip


class Point(Document):
    """One size."""

    member: str
    num_params: int
    lines: tuple[Line, ...]
    value: float
    low: float | None = None
    """Of its 95% interval, or of the bracket that it was found in; None where one number is all there is."""
    high: float | None = None
    predicted: float | None = None
    """Said without having measured this size."""
    standard_error: float | None = None
    """Of log10 of the value where it is positive, else of the value; None where one number is all there is."""
    has_trained: bool = True
    """False of a size whose loss is not below that of guessing by a margin: it is drawn and not fitted."""
    is_bound: bool = False
    """Whether the value is only a bound, because the search ended there: it is drawn and not fitted."""
    num_runs: int = 1


class Floor(Document):
    """The law L(N) = E + A/N^alpha of the losses of one line, at one number of tokens."""

    E: Estimate
    alpha: Estimate
    A: float
    is_determined: bool
    """Whether the sizes tell E from a slower decay."""


class Curve(Document):
    """One quantity against N."""

    quantity: Quantity
    points: tuple[Point, ...]
    trends: tuple[Trend, ...]
    """Of each line with three sizes or more."""
    contrast: Contrast | None = None
    """Depth against width."""
    predicted: Trend | None = None
    """Of what was predicted, depth and width together."""
    prediction_error_frac: float | None = None
    """Median of |predicted / measured - 1| over all sizes."""
    worst_error_frac: float | None = None
    """The largest of them."""
    num_without_value: int = 0
    """Sizes that it was sought of in vain."""
    why_without: str = ""
    """Why, as a name: `did_not_train`, `not_told_from_zero` or `not_measured`."""
    floor: Floor | None = None
    baseline: float | None = None
    """What the best classical method reaches."""
    baseline_method: str | None = None
    baseline_notes: tuple[str, ...] = ()
    """What a reader should know of it, a sentence each."""
    num_runs: int
    """Behind it."""

    def trend(self, line: Line) -> Trend | None:
        """Return the trend of a line."""
        return next((one for one in self.trends if one.line == line), None)


class StudyMember(Document):
    """A size of the study."""

    name: str
    depth: int
    width: int
    num_params: int
    lines: tuple[Line, ...]
    num_diverged: int = 0
    """Of its runs."""


class Study(Document):
    """What growing a family does."""

    version: Literal[1] = 1
    family: str
    source: str
    task: str
    unit: Literal["token", "sample"]
    design_hash: str
    plan: StudyPlan
    num_units: int
    """Tokens or samples of each run."""
    num_epochs: float
    """Passes over the training split in each run."""
    rate_factor: float
    """Of the recipe's rates, found at the reference size."""
    is_rate_at_edge: bool
    members: tuple[StudyMember, ...]
    curves: tuple[Curve, ...]
    baseline: Baseline | None = None
    environment: Environment
    """Of the runs."""
    num_workers: int | None = None
    """Runs side by side."""
    eval_hash: str
    created_at: str
    notes: tuple[str, ...] = ()

    def curve(self, quantity: Quantity) -> Curve | None:
        """Return the curve of a quantity; None where nothing was measured of it."""
        return next((one for one in self.curves if one.quantity == quantity), None)
