"""What `kleiber advise` answers, as `advice.json`: written before anything is trained, so that it can be scored."""

from __future__ import annotations

from typing import Literal

from kleiber.models.gpt import GPTSpec
from kleiber.runs import Convention, Document, hash_of
from kleiber.study.advice.meter import Unit
from kleiber.study.advice.ways import RouteName

__all__ = [
    "Advice",
    "Amount",
    "BreakEven",
    "Cost",
    "DonorUsed",
    "Elsewhere",
    "LeftRoute",
    "Prediction",
    "Question",
    "Route",
    "ServedMemory",
    "Within",
]

Within = tuple[float | None, float | None]
"""Ends of an interval; None stands for infinity."""


class Amount(Document):
    """A number with its intervals."""

    value: float
    interval_80: Within | None = None
    """None where nothing of it is uncertain, or nobody knows how much."""
    interval_95: Within | None = None


class Cost(Document):
    """Of training, of serving, or of both."""

    flops: Amount
    time_s: Amount
    """Of all devices side by side."""
    usd: Amount | None
    """None without a price."""


class ServedMemory(Document):
    """What one copy of the served model holds."""

    weight_bytes: float
    cache_bytes: float
    """Keys and values of a whole batch of requests."""
    limit_bytes: float | None
    """Of one device; None where it is not known."""
    fits: bool | None
    """On one device."""
    num_devices: int | None
    """That hold it together."""


class Prediction(Document):
    """One quantity that will be measured, as a ledger's entry names it."""

    quantity: Literal["val_loss", "total_time_s", "stored_bytes", "latency_s"]
    unit: str
    stage: Literal["trained", "served"]
    """The model before or after compression; the same without."""
    predicted: float
    interval_80: Within | None
    method: str


class DonorUsed(Document):
    """What a larger model is grown from."""

    run: str
    num_params: float
    loss: float
    train_flops: float
    """Spent already, and not part of the route's cost."""
    saving_frac: Amount
    """Part of the training from scratch that the start is taken to save."""


class Route(Document):
    """One way to the quality, and what it costs."""

    name: RouteName
    title: str
    model: str
    """Size of the model to train, as commands take it."""
    spec: GPTSpec
    num_params: float
    """N, by the law's convention."""
    num_tokens: float
    """To train on."""
    tokens_per_param: float
    trained_loss: float
    """By the law, before compression [nats/token]."""
    served_loss: float
    train: Cost
    serve: Cost
    """Of all served tokens."""
    token_amount: float
    """Of one served token, in the unit of the ranking."""
    total: Cost
    cheapest_frac: float
    """Part of the draws in which no other route costs less."""
    unreached_frac: float
    """Part of the draws in which this size never reaches the loss: their cost counts as infinite."""
    loss_within_budget: float | None = None
    """The lowest that the route reaches for the budget; None without one."""
    memory: ServedMemory
    donor: DonorUsed | None = None
    predictions: tuple[Prediction, ...]
    rests_on: str
    """What its numbers come from, a sentence."""
    warnings: tuple[str, ...] = ()


class LeftRoute(Document):
    """A route that was not compared."""

    name: RouteName
    title: str
    reason: str


class BreakEven(Document):
    """How many served tokens make two routes cost the same, their models as they are."""

    first: str
    """Titles."""
    other: str
    first_wins: Literal["above", "below", "always"]
    """`always`: the first costs less however many are served."""
    served_tokens: Amount | None
    """None where the first always wins."""
    none_frac: float
    """Part of the draws in which the two never cost the same."""


class Elsewhere(Document):
    """The cheapest route for another number of served tokens, its size sought anew."""

    served_tokens: float
    title: str
    num_params: float
    total: float
    """In the unit of the ranking."""


class Question(Document):
    """What was asked."""

    law: str
    """Its hash, or the name of a published one."""
    form: str
    convention: Convention
    loss: float | None
    """Asked for [nats/token]; None where a budget was given."""
    budget: float | None
    """Of training and serving together, in the unit of the ranking."""
    served_tokens: float
    prompt_tokens: int
    new_tokens: int
    serve_batch: int
    device: str
    num_devices: int
    usd_per_hour: float | None
    precision: str
    weight_bytes: float
    """Of one weight of a model that is served uncompressed."""
    vocab_size: int
    context: int
    unique_tokens: float | None = None


class Advice(Document):
    """Routes to one quality, the cheapest first."""

    version: Literal[1] = 1
    question: Question
    loss: float
    """That every route reaches when served [nats/token]."""
    unit: Unit
    """That routes are ranked in."""
    num_draws: int
    """Of the law, of devices' speed and of what compression and growth do."""
    routes: tuple[Route, ...]
    left_out: tuple[LeftRoute, ...]
    break_evens: tuple[BreakEven, ...]
    """Of the first route with each of the others."""
    elsewhere: tuple[Elsewhere, ...]
    why: tuple[str, ...]
    """Why the first is first, a sentence each."""
    warnings: tuple[str, ...]
    assumptions: tuple[str, ...]
    """What the figures rest on, a sentence each."""
    created_at: str
    hash: str
    """Of everything above: it shows an altered advice."""

    def expected_hash(self) -> str:
        """Return the hash that the other keys give; it equals `hash` unless one was altered."""
        return hash_of(self.model_dump(mode="json", exclude={"hash"}))
