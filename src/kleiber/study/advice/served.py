"""How a model is served: requests, batch, and what compression makes of its bytes and operations."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PLAIN", "Request", "Served"]


@dataclass(frozen=True)
class Request:
    """The usual one."""

    prompt_tokens: int
    """Read at once."""
    new_tokens: int
    """Written one after another."""
    batch: int
    """Requests that are written at once."""

    @property
    def num_tokens(self) -> int:
        """Read and written."""
        return self.prompt_tokens + self.new_tokens


@dataclass(frozen=True)
class Served:
    """What is served beside the model as it was trained: ratios after over before, 1 of the model itself."""

    bytes_ratio: float = 1.0
    """Of the weights."""
    flops_ratio: float = 1.0
    read_time_ratio: float | None = None
    """Of reading prompts, measured where the model will be served; None follows from bytes and operations."""
    write_time_ratio: float | None = None
    """Of writing tokens, likewise."""


PLAIN = Served()
"""A model as it was trained."""
