"""`/v1/models`: what is served."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from kleiber.serve.opened import Opened
from kleiber.serve.served import served_of

__all__ = ["router"]


def router() -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/v1/models", tags=["models"])

    @routes.get("")
    async def list_models(request: Request) -> dict[str, Any]:
        """List the models."""
        return {"object": "list", "data": [_document(one) for one in served_of(request).models.values()]}

    @routes.get("/{name}")
    async def get_model(request: Request, name: str) -> dict[str, Any]:
        """Describe one model."""
        return _document(served_of(request).model(name, "text", "classifier", "encoder"))

    return routes


def _document(model: Opened) -> dict[str, Any]:
    """Return what OpenAI's API says of a model, and beside it what ours is."""
    reader = model.text or model.embedder
    return {
        "id": model.name,
        "object": "model",
        "created": model.opened_at,
        "owned_by": "kleiber",
        "kind": model.kind,
        "engine": model.engine,
        "precision": model.precision,
        "context_tokens": reader.context if reader else None,
    }
