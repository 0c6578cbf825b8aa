"""What `kleiber plan` answers, as a document."""

from __future__ import annotations

from typing import Literal

from kleiber.cost import MemoryBytes
from kleiber.cost.flops import FlopConvention
from kleiber.cost.operations import OperationKind
from kleiber.cost.roofline import Bound
from kleiber.cost.usage import Usage
from kleiber.models import Spec
from kleiber.runs import DataShape, Document, LedgerEntry
from kleiber.study.optimum import Optimum

__all__ = [
    "CostPlan",
    "PlannedDisk",
    "PlannedFlops",
    "PlannedKind",
    "PlannedLatency",
    "PlannedLayout",
    "PlannedModule",
    "PlannedMoment",
    "PlannedParams",
    "PlannedRoom",
]


class PlannedParams(Document):
    """Parameters [count]."""

    total: int
    """Shared ones once."""
    trainable: int
    active: int
    """That one token meets: fewer than all in a mixture of experts."""
    embedding: int
    body: int
    head: int
    """0 when the head is the embedding table."""
    is_tied: bool


class PlannedFlops(Document):
    """Floating-point operations of one step on the whole batch [FLOP]."""

    forward: int
    backward: int
    convention: FlopConvention
    by_kind: dict[OperationKind, int]
    """Those of the optimizer included."""


class PlannedKind(Document):
    """One kind of operation in a step of one device."""

    kind: OperationKind
    time_s: float
    bound: Bound | Literal["overhead"]
    """What most of that time is spent on."""


class PlannedModule(Document):
    """A module with all that is inside it, on one device with its share of the batch."""

    path: str
    type_name: str
    num_params: int
    forward_flops: int
    backward_flops: int
    activation_bytes: int
    """Held at the fullest moment."""


class PlannedMoment(Document):
    """What is held at a moment of a step [bytes]."""

    name: str
    held_bytes: dict[str, int]


class PlannedDisk(Document):
    """Bytes on disk, and how long they take on a wire."""

    checkpoint_bytes: int
    """To go on training from: weights and optimizer state."""
    served_bytes: dict[str, int]
    """Of a served model, by format."""
    send_time_s: dict[str, dict[str, float]]
    """By format, and by Gbit/s of the wire."""


class PlannedLayout(Document):
    """A way to spread the model over the devices."""

    layout: str
    fits: bool
    step_time_s: float | None
    memory_bytes: float | None
    why_not: str | None


class PlannedLatency(Document):
    """What a language model takes behind an engine here, by what other sizes took."""

    engine: str
    num_prompt: int
    """Tokens that are read."""
    prefill_s: float | None
    """Until the first new token is known; None where too little was measured."""
    num_new: int
    """Tokens after it."""
    decode_s: float | None
    """A token; of the one in the middle."""


class PlannedRoom(Document):
    """What is the most that fits of this very model, one thing changed at a time."""

    micro_batch: int | None
    """Samples that go through a device at once, 0 when not even one does; None without a limit on memory."""
    context: int | None
    """Tokens of a sequence; None of what is not a built-in family."""
    num_steps: int | None
    """That the budget pays; None without one."""
    num_tokens: float | None
    """Of those steps."""
    optimal_tokens: float | None
    """With which this size is compute-optimal under the law; None of what is not text."""


class CostPlan(Document):
    """What a model needs when it is used so, there."""

    model: str
    """As typed."""
    spec: Spec | None
    """Of a built-in family, its size dial resolved."""
    shape: DataShape | None = None
    """Of the data that a built-in family was planned on."""
    usage: Usage
    context: int | None
    """Tokens of a sample; None where samples are counted."""
    device: str
    dtype: str
    """Of matrix products."""
    num_devices: int
    layout: str
    num_params: PlannedParams
    flops: PlannedFlops
    memory_bytes: MemoryBytes
    """Of the fullest device."""
    fullest_moment: str
    memory_limit_bytes: float | None
    """Of one device; None where it is not known."""
    fits: bool | None
    """Peak and KV cache within that limit."""
    kv_cache_bytes: int | None
    """Keys and values of the whole batch at the full context; None where a model has none or is trained."""
    disk: PlannedDisk
    num_steps: int | None
    num_samples: int | None
    num_tokens: int | None
    """Of the whole job; None when it was not said how long that is."""
    train_flops: float | None
    """Of the whole job, the optimizer left out."""
    step_time_s: float
    time_by_kind: tuple[PlannedKind, ...]
    """On one device, longest first; empty where the time is not known by kind."""
    communication_s: float
    """Of a step; what does not hide behind computation."""
    bubble_frac: float
    """Part of a step in which pipeline stages wait."""
    total_time_s: float | None
    energy_kwh: float | None
    usd: float | None
    modules: tuple[PlannedModule, ...]
    moments: tuple[PlannedMoment, ...]
    """What is held from moment to moment; of a traced model."""
    layouts: tuple[PlannedLayout, ...] = ()
    """Every way to spread the model over these devices, best first; empty of one device, and when a layout was asked for."""
    optimum: Optimum | None = None
    """What the budget buys, when the size was left open; the plan is that of its best model that fits."""
    latencies: tuple[PlannedLatency, ...] = ()
    """Of a decoder that serves one text at a time here in fp32, by engine; empty where none of its like was benchmarked."""
    room: PlannedRoom | None = None
    """What the budget and the memory leave to a model whose size was given."""
    measured: tuple[LedgerEntry, ...] = ()
    """Predicted beside measured, where real steps were run."""
    assumptions: tuple[str, ...]
    """What the figures rest on, a sentence each."""
