"""What a server allows."""

from __future__ import annotations

from pydantic import Field

from kleiber.runs import Document

__all__ = ["ServeSettings"]


class ServeSettings(Document):
    """Where a server listens, and its limits."""

    host: str = "127.0.0.1"
    """Address that it listens on; the default is reached from this machine alone."""
    port: int = Field(default=8000, ge=0, le=65_535)
    """0 takes one that is free."""
    api_keys: tuple[str, ...] = Field(default=(), repr=False)
    """One of them must come with each request but those for `/health` and the page; none asks for none."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which a server on loopback may be asked, beside this machine's own: those of a proxy before it."""
    engine: str = "auto"
    """Computes each model."""
    precision: str | None = None
    """Of the weights of language models; None is as stored."""
    context: int | None = Field(default=None, ge=1)
    """Tokens that a text may have with its prompt; None is all that its model reads. The cache has room for `max_running`."""
    num_threads: int | None = Field(default=None, ge=1, le=4096)
    """Of each engine; None takes torch's number."""
    max_running: int = Field(default=16, ge=1, le=1024)
    """Texts that a model writes at once."""
    max_waiting: int = Field(default=32, ge=0, le=100_000)
    """Texts of a model, or requests to classify or embed, that may wait for their turn; the next are answered with 429."""
    max_connections: int = Field(default=1024, ge=1)
    """Sockets that may be open at once."""
    max_body_bytes: int = Field(default=16_000_000, ge=1)
    """Of one request."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """Of one prompt; None is what the model's context holds."""
    max_output_tokens: int | None = Field(default=None, ge=1)
    """Of one text; None is what the model's context holds."""
    max_prompts: int = Field(default=64, ge=1)
    """Prompts, or inputs, of one request."""
    max_samples: int = Field(default=16, ge=1)
    """Texts of one prompt."""
    max_inputs: int = Field(default=2048, ge=1)
    """Of one request to classify or embed."""
    max_text_chars: int = Field(default=1_000_000, ge=1)
    """Of one text to classify or embed."""
    max_image_pixels: int = Field(default=50_000_000, ge=1)
    """Of one image, as its header says, before it is decoded."""
    max_sound_s: float = Field(default=600, gt=0)
    """Of one sound, as its header says, before it is decoded."""
    max_held_bytes: int = Field(default=256_000_000, ge=1)
    """Of the bodies of all requests that are open."""
    body_timeout_s: float = Field(default=30, gt=0)
    """For a body to arrive."""
    request_timeout_s: float = Field(default=600, gt=0)
    """For an answer to be whole."""
    idle_timeout_s: float = Field(default=120, gt=0)
    """For the next token of a text that waits or is written."""
    idle_connection_s: float = Field(default=65, gt=0)
    """For a connection to ask something, headers and all; longer than clients keep an idle one, who would ask as it closes."""
    drain_s: float = Field(default=10, ge=0)
    """For what runs to end when the server is asked to stop."""
