"""The application: routes, limits and errors around models that are open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from kleiber import __version__
from kleiber.serve.bodies import Bodies
from kleiber.serve.door import Door
from kleiber.serve.errors import ErrorBody, add_handlers
from kleiber.serve.opened import Opened
from kleiber.serve.routes import routers
from kleiber.serve.served import Served
from kleiber.serve.settings import ServeSettings
from kleiber.serve.watch import Watch

__all__ = ["create_app"]

_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "What was asked is not done."},
    "5XX": {"model": ErrorBody, "description": "The server failed, or stops."},
}


def create_app(models: Mapping[str, Opened], settings: ServeSettings) -> FastAPI:
    """Return an application that answers for models; whoever runs it closes `app.state.served` at the end.

    Args:
        models: By the name that requests ask for; a request that names none gets the first of the kind that it needs.
        settings: Limits and keys.
    """
    app = FastAPI(
        title="Kleiber",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        responses=_ERRORS,
        redirect_slashes=False,
    )
    served = app.state.served = Served(models, settings)
    add_handlers(app)
    for router in routers():
        app.include_router(router)
    # The last is the outermost.
    app.add_middleware(Bodies, settings=settings)
    app.add_middleware(Door, settings=settings)
    app.add_middleware(Watch, settings=settings, metrics=served.metrics)
    return app
