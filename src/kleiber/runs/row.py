"""One row of a scaling law: a size, a number of tokens and the loss that came out."""

from __future__ import annotations

from kleiber.runs.counts import ParamCount
from kleiber.runs.document import Document
from kleiber.runs.record import Record

__all__ = ["Excluded", "Row", "row_of"]


class Row(Document):
    """What a law is fitted to."""

    run: str
    num_params: ParamCount
    num_tokens: float
    """Tokens trained on, repeats included."""
    unique_tokens: float | None = None
    loss: float
    """[nats/token] on the evaluation set."""
    trunk: str
    """Runs of one trunk share steps: they are resampled together."""
    eval_hash: str | None = None
    seed: int | None = None
    train_flops: float | None = None
    active_params: float | None = None
    """Parameters that work on a token, in a mixture of experts; None where all do or nobody said."""


class Excluded(Document):
    """A run that a law was not fitted to, though it was trained for it."""

    run: str
    reason: str
    """In a sentence."""


def row_of(record: Record) -> Row | None:
    """Return the row of a finished run, None for one that has no result or diverged."""
    if record.status != "finished" or record.result is None or record.divergence is not None:
        return None
    return Row(
        run=record.run,
        num_params=record.num_params,
        num_tokens=record.result.num_tokens,
        unique_tokens=min(record.result.num_tokens, record.data.num_train_tokens),
        loss=record.result.val_loss,
        trunk=record.trunk,
        eval_hash=record.data.eval_hash,
        seed=record.seed,
        train_flops=record.train_flops,
    )
