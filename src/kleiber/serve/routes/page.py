"""`/`: a page to try the models in a browser. It loads nothing from elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request, Response

from kleiber.serve.errors import RefusedError

__all__ = ["router"]

_FOLDER = Path(__file__).parents[1] / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    # Only the page's own files run, and they speak to this server alone; blob: is a file that was dropped.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Asked for anew each time, and sent only where it has changed: a new release is seen at once.
    "Cache-Control": "no-cache",
}
_METHODS = ["GET", "HEAD"]
_NOT_MODIFIED = 304


def router() -> APIRouter:
    """Return the routes."""
    routes = APIRouter(include_in_schema=False)
    # Read once: what a request names is looked up, and never a path.
    files = {path.name: _File(path) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}

    @routes.api_route("/", methods=_METHODS)
    async def page(request: Request) -> Response:
        return files["index.html"].answer(request)

    @routes.api_route("/page/{name}", methods=_METHODS)
    async def file(request: Request, name: str) -> Response:
        if name not in files:
            raise RefusedError("the page has no such file.", status=404, got=name[:100])
        return files[name].answer(request)

    return routes


class _File:
    """A file of the page, and what tells whether a browser's copy is still the same."""

    def __init__(self, path: Path) -> None:
        self._content, self._type = path.read_bytes(), _TYPES[path.suffix]
        self._etag = f'"{hashlib.sha256(self._content).hexdigest()[:16]}"'

    def answer(self, request: Request) -> Response:
        headers = {**_HEADERS, "ETag": self._etag}
        if request.headers.get("if-none-match") == self._etag:
            return Response(status_code=_NOT_MODIFIED, headers=headers)
        return Response(self._content, media_type=self._type, headers=headers)
