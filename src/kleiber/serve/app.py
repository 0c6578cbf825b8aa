"""The application: routes, limits and errors around models that are open."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI

from kleiber import __version__
from kleiber.serve.errors import add_handlers
from kleiber.serve.opened import Opened
from kleiber.serve.routes import routers
from kleiber.serve.served import Served
from kleiber.serve.settings import ServeSettings

__all__ = ["create_app"]


def create_app(models: Mapping[str, Opened], settings: ServeSettings) -> FastAPI:
    """Return an application that answers for models.

    Args:
        models: By the name that requests ask for; the first answers those that name none where that is allowed.
        settings: Limits and keys.
    """
    app = FastAPI(title="Kleiber", version=__version__, docs_url=None, redoc_url=None)
    app.state.served = Served(models, settings)
    add_handlers(app)
    for router in routers():
        app.include_router(router)
    return app
