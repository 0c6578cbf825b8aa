"""What a running server is made of: models, settings and figures."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Request

from kleiber.errors import nearest
from kleiber.serve.errors import RefusedError
from kleiber.serve.metrics import Metrics
from kleiber.serve.opened import Kind, Opened
from kleiber.serve.settings import ServeSettings
from kleiber.serve.workers import Workers

__all__ = ["Served", "served_of"]

_WORK: dict[Kind, str] = {"text": "writes text", "classifier": "classifies", "encoder": "embeds"}


class Served:
    """State of an application, which every route reaches through `served_of`.

    Args:
        models: By the name that requests ask for.
        settings: Limits.

    Attributes:
        models: As given.
        settings: As given.
        metrics: What it counts.
        workers: What classifies and embeds, beside the event loop.
    """

    def __init__(self, models: Mapping[str, Opened], settings: ServeSettings) -> None:
        self.models, self.settings = dict(models), settings
        self.metrics = Metrics()
        self.workers = Workers(max_waiting=settings.max_waiting, timeout_s=settings.request_timeout_s)
        for name, model in self.models.items():
            if model.text is not None:
                self.metrics.watch(name, model.text.stats)

    def model(self, name: str | None, *kinds: Kind) -> Opened:
        """Return the model that a request names; without a name the only one, or the first, of the kinds.

        Raises:
            RefusedError: There is none of that name (404), or it is of another kind (400).
        """
        if name is None:
            for one in self.models.values():
                if one.kind in kinds:
                    return one
            raise RefusedError(f"no model here {' or '.join(_WORK[kind] for kind in kinds)}.", param="model")
        if name not in self.models:
            raise RefusedError(
                f"the model '{name[:100]}' is not served here. {nearest(name[:100], self.models)}",
                status=404,
                param="model",
                code="model_not_found",
            )
        found = self.models[name]
        if found.kind not in kinds:
            raise RefusedError(
                f"the model '{name}' {_WORK[found.kind]}; this asks for one that {' or '.join(_WORK[kind] for kind in kinds)}.",
                param="model",
            )
        return found


def served_of(request: Request) -> Served:
    """Return the state of the application that a request came to."""
    served: Served = request.app.state.served
    return served
