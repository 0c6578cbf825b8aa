"""Who may come in: a key, and a name of this machine."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from kleiber.serve.errors import RefusedError, error_response
from kleiber.serve.settings import ServeSettings

__all__ = ["Door", "is_loopback"]

_OPEN_PATHS = ("/", "/health")
_OPEN_FOLDER = "/page/"
"""Of the page: whoever looks at it types the key there."""


class Door:
    """Refuses requests before their body is read.

    Args:
        app: Behind it.
        settings: Keys, the address that is listened on, and names that requests may ask for.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app = app
        self._digests = [_digest(key) for key in settings.api_keys]
        self._names = {"localhost", *settings.allowed_hosts} if is_loopback(settings.host) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            refusal = self._refuse_name(headers.get("host", "")) or self._refuse_key(scope["path"], headers)
            if refusal is not None:
                await error_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refuse_name(self, host: str) -> RefusedError | None:
        """Refuse requests that a web page elsewhere makes by giving its own name this machine's address (DNS rebinding)."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self._names is None or not name or name in self._names or is_loopback(name.strip("[]")):
            return None
        return RefusedError(
            f"the server listens on this machine alone and does not answer for '{name[:100]}'.",
            status=403,
            code="host_not_allowed",
            hint=f"kleiber serve RUN --allowed-host {name[:100]}",
        )

    def _refuse_key(self, path: str, headers: Headers) -> RefusedError | None:
        if not self._digests or path in _OPEN_PATHS or path.startswith(_OPEN_FOLDER):
            return None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            return RefusedError(
                "an API key is needed.", status=401, code="missing_api_key", hint="Authorization: Bearer KEY"
            )
        given = _digest(key.strip())
        # Each is compared, and all of each: how long it takes says nothing about the keys.
        if not sum(hmac.compare_digest(given, digest) for digest in self._digests):
            return RefusedError("the API key is wrong.", status=401, code="invalid_api_key")
        return None


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine alone.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
