"""The socket that a server listens on: taken before a model is opened, which may take long."""

from __future__ import annotations

import errno
import socket

from kleiber.errors import UsageError
from kleiber.serve.settings import ServeSettings

__all__ = ["address_of", "listen"]

_BACKLOG = 2048


def listen(settings: ServeSettings) -> socket.socket:
    """Return a socket that listens; who connects before the server runs waits for it.

    Args:
        settings: Host and port.

    Raises:
        UsageError: There is no such address here, the port is taken, or it may not be used.
    """
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no name of a machine"
        raise UsageError(
            f"--host {settings.host} is no address: {reason}.", hint="--host 127.0.0.1"
        ) from None
    # Of `localhost` the older form, which every client tries.
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _refusal(settings, error) from None
    return listener


def address_of(listener: socket.socket) -> str:
    """Return where a socket is reached, such as `http://127.0.0.1:8000`."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refusal(settings: ServeSettings, error: OSError) -> UsageError:
    host, port = settings.host, settings.port
    if error.errno == errno.EADDRINUSE:
        return UsageError(
            f"--port {port} of {host} is taken: another server listens there.",
            hint="--port 0   takes a free one",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"--host {host} is no address of this machine.", hint="--host 127.0.0.1")
    return UsageError(f"--port {port} of {host} cannot be listened on: {error.strerror}.", hint="--port 8000")
