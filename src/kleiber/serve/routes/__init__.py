"""Which routes there are."""

from __future__ import annotations

from fastapi import APIRouter

from kleiber.serve.routes import chat, classify, completions, embeddings, health, metrics, models, page

__all__ = ["routers"]


def routers() -> list[APIRouter]:
    """Return the routers of an application, a file each."""
    return [
        module.router() for module in (completions, chat, embeddings, classify, models, health, metrics, page)
    ]
