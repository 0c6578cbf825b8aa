"""What a server counts, for Prometheus to read.

The time to the first token is told apart from the time per token, as each has a cause of its own: the queue and the prompt for the
one, the batch for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kleiber.infer.batching import BatchStats

__all__ = ["UNKNOWN_ROUTE", "CancelReason", "Metrics", "RejectReason"]

RejectReason: TypeAlias = Literal["queue_full", "closing"]
"""Why a request was turned away although nothing was wrong with it."""
CancelReason: TypeAlias = Literal["client_left", "timed_out", "failed", "closing"]
"""Why a text was given up."""

UNKNOWN_ROUTE = "unknown"
"""Stands for every path that no route has: were paths counted as they are typed, a scanner's would fill the memory."""
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_TOKEN_TIMES_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_WAITS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """Counters of one server, in a registry of their own: two servers in one process count apart.

    Every method may be called from any thread, and is cheap.

    Example:
        >>> metrics = Metrics()
        >>> metrics.text_began("lm", num_prompt_tokens=5, time_to_first_s=0.02)
        >>> metrics.tokens_written("lm", 3)
        >>> body, _ = metrics.text()
        >>> b'kleiber_generated_tokens_total{model="lm"} 3.0' in body
        True
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._models = _Models()
        self.registry.register(self._models)
        self._requests = self._counter("requests", "Answered requests.", "route", "method", "status")
        self._request_s = self._histogram(
            "request_seconds", "From a request to the end of its answer.", _WAITS_S, "route"
        )
        self._first_s = self._histogram(
            "time_to_first_token_seconds", "From a request to the first token of a text.", _WAITS_S, "model"
        )
        self._token_s = self._histogram(
            "time_per_token_seconds", "Of a text after its first token, the mean.", _TOKEN_TIMES_S, "model"
        )
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens read, of prompts and inputs.", "model")
        self._tokens = self._counter("generated_tokens", "Tokens written.", "model")
        self._inputs = self._counter("inputs", "Inputs classified or embedded.", "model")
        self._rejected = self._counter("rejected", "Requests turned away.", "model", "reason")
        self._cancelled = self._counter("cancelled", "Texts given up.", "model", "reason")

    def watch(self, model: str, stats: Callable[[], BatchStats]) -> None:
        """Show what runs and waits of a model; it is asked whenever the metrics are read."""
        self._models.stats[model] = stats

    def request_ended(self, route: str | None, method: str, status: int, time_s: float) -> None:
        """Count an answered request.

        Args:
            route: As it was declared, such as `/v1/models/{model}`; None where no route has the path.
            method: Of HTTP.
            status: Of the answer; 499 where the client left before it.
            time_s: To the end of the answer.
        """
        named = route or UNKNOWN_ROUTE
        self._requests.labels(named, method if method in _METHODS else "other", str(status)).inc()
        self._request_s.labels(named).observe(time_s)

    def text_began(self, model: str, *, num_prompt_tokens: int, time_to_first_s: float) -> None:
        """Count the first token's wait; the token itself is counted with the others."""
        self._prompt_tokens.labels(model).inc(num_prompt_tokens)
        self._first_s.labels(model).observe(time_to_first_s)

    def tokens_written(self, model: str, num: int) -> None:
        """Count tokens as they are written, of texts that are given up later too."""
        self._tokens.labels(model).inc(num)

    def text_ended(self, model: str, *, num_tokens: int, time_s: float) -> None:
        """Count the pace of a text that is over.

        Args:
            model: That wrote it.
            num_tokens: Of the text; one alone has no pace.
            time_s: From its first token to its last.
        """
        if num_tokens > 1:
            self._token_s.labels(model).observe(time_s / (num_tokens - 1))

    def inputs_answered(self, model: str, num: int, *, num_tokens: int = 0) -> None:
        """Count what was classified or embedded, and the tokens that were read for it."""
        self._inputs.labels(model).inc(num)
        self._prompt_tokens.labels(model).inc(num_tokens)

    def rejected(self, model: str, reason: RejectReason) -> None:
        """Count a request that was turned away."""
        self._rejected.labels(model, reason).inc()

    def cancelled(self, model: str, reason: CancelReason) -> None:
        """Count a text that was given up before its end."""
        self._cancelled.labels(model, reason).inc()

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """Return all of it and its content type: Prometheus' text, or OpenMetrics where `accept` asks for that."""
        encode, content_type = choose_encoder(accept)
        body: bytes = encode(self.registry)
        return body, content_type

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"kleiber_{name}", says, labels, registry=self.registry)

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"kleiber_{name}", says, labels, buckets=buckets, registry=self.registry)


_GAUGES: dict[str, tuple[str, Callable[[BatchStats], float]]] = {
    "running": ("Texts that are being written.", lambda stats: stats.num_running),
    "waiting": ("Requests that no text has begun for.", lambda stats: stats.num_waiting),
    "cache_used_ratio": ("Share of the cache of keys and values in use.", lambda stats: stats.cache_frac),
}


class _Models(Collector):
    """What runs and waits at the moment somebody reads it."""

    def __init__(self) -> None:
        self.stats: dict[str, Callable[[], BatchStats]] = {}

    def collect(self) -> Iterable[GaugeMetricFamily]:
        now = {model: stats() for model, stats in list(self.stats.items())}
        for name, (says, figure) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"kleiber_{name}", says, labels=["model"])
            for model, stats in now.items():
                gauge.add_metric([model], figure(stats))
            yield gauge
