"""How long a search may take."""

from __future__ import annotations

from pydantic import Field

from kleiber.runs import Document

__all__ = ["SearchSettings"]


class SearchSettings(Document):
    """The budget of a search."""

    help_line = "--tries 16   --budget 0.1"

    budget_frac: float = Field(default=0.1, gt=0, le=10)
    """Tokens that all tries together train on, as a part of what the original was trained on."""
    max_tries: int = Field(default=16, strict=True, ge=1)
    """Pipelines that are tried."""
    num_finalists: int = Field(default=2, strict=True, ge=1)
    """Pipelines that have the full recovery and are measured on every engine."""
