"""What a running server is made of: models, settings and figures."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Request

from kleiber.errors import nearest
from kleiber.runs import RunFolder
from kleiber.serve.errors import RefusedError
from kleiber.serve.metrics import Metrics
from kleiber.serve.opened import Kind, Opened
from kleiber.serve.settings import ServeSettings
from kleiber.serve.workers import Workers
from kleiber.serve.writing.desk import Desk

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
        self.workers = Workers(
            self.metrics, max_waiting=settings.max_waiting, timeout_s=settings.request_timeout_s
        )
        self.desks: dict[str, Desk] = {}
        for name, model in self.models.items():
            if model.text is not None:
                self.metrics.watch(name, model.text.stats)
                folder = RunFolder(model.folder).find_model()
                self.desks[name] = Desk(name, model.text, folder, settings, self.metrics)

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

    def writer(self, name: str | None) -> tuple[Opened, Desk]:
        """Return a language model, and where its texts are asked for.

        Raises:
            RefusedError: There is none of that name (404), or it writes no text (400).
        """
        model = self.model(name, "text")
        return model, self.desks[model.name]

    def refuse_many(self, *, num_prompts: int, num_samples: int) -> None:
        """Refuse a request for more than one may ask for.

        Raises:
            RefusedError: Too many prompts, or samples of each.
        """
        settings = self.settings
        if num_prompts > settings.max_prompts:
            raise RefusedError(
                f"a request has at most {settings.max_prompts} prompts.", param="prompt", got=num_prompts
            )
        if num_samples > settings.max_samples:
            raise RefusedError(
                f"a request has at most {settings.max_samples} texts of a prompt.", param="n", got=num_samples
            )

    def stop(self) -> None:
        """Take no more requests for texts, and end those that are open."""
        for desk in self.desks.values():
            desk.stop()

    def close(self) -> None:
        """Give up what the models run."""
        for desk in self.desks.values():
            desk.close()
        self.workers.close()
        for model in self.models.values():
            model.close()


def served_of(request: Request) -> Served:
    """Return the state of the application that a request came to."""
    served: Served = request.app.state.served
    return served
