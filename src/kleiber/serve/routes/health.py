"""`/health`: whether the server takes requests."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from kleiber.serve.served import served_of

__all__ = ["router"]


def router() -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["server"])

    @routes.get("/health")
    async def health(request: Request) -> dict[str, Any]:
        """Say that it runs, and what it serves."""
        return {"status": "ok", "models": {name: one.kind for name, one in served_of(request).models.items()}}

    return routes
