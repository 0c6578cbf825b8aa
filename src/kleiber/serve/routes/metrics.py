"""`/metrics`: what the server counts, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from kleiber.serve.served import served_of

__all__ = ["router"]


def router() -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["server"])

    @routes.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        """Show requests, tokens, times, and what runs and waits."""
        body, content_type = served_of(request).metrics.text(request.headers.get("accept", ""))
        return Response(body, media_type=content_type)

    return routes
