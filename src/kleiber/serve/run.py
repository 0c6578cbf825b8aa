"""A server that runs until it is asked to stop, and then ends what it has begun."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping

import uvicorn

from kleiber.serve.app import create_app
from kleiber.serve.idle import IdleConnections
from kleiber.serve.listening import address_of, listen
from kleiber.serve.opened import Opened
from kleiber.serve.served import Served
from kleiber.serve.settings import ServeSettings

__all__ = ["Server", "serve"]

_TICKS_A_LOOK = 5
_GRACE_S = 5
"""For answers to say that the server stops, after the time to drain."""


class Server(uvicorn.Server):
    """Uvicorn that stops gracefully and then returns.

    Uvicorn itself raises the signal again once it has stopped, so that a process that has done its work dies of SIGTERM.

    Args:
        models: By name; they are closed at the end.
        settings: Limits.
        on_ready: Is called when requests are answered.
    """

    def __init__(
        self, models: Mapping[str, Opened], settings: ServeSettings, *, on_ready: Callable[[], None]
    ) -> None:
        app = create_app(models, settings)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=settings.max_connections,
            timeout_keep_alive=math.ceil(settings.idle_connection_s),
            timeout_graceful_shutdown=math.ceil(settings.drain_s) + _GRACE_S,
        )
        super().__init__(config)
        self._served: Served = app.state.served
        self._drain_s, self._on_ready = settings.drain_s, on_ready
        self._idle = IdleConnections(settings.idle_connection_s)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer until asked to stop; then close the models."""
        try:
            super().run(sockets)
        finally:
            self._served.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        """Do what is done ten times a second."""
        if counter % _TICKS_A_LOOK == 0:
            self._idle.close(self.server_state.connections)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and let what runs end within the time to drain; what has not is told so."""
        stopping = asyncio.get_running_loop().call_later(self._drain_s, self._served.stop)
        await super().shutdown(sockets)
        stopping.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on Ctrl-C and SIGTERM, and go on as before at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self.handle_exit) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def serve(
    models: Mapping[str, Opened],
    settings: ServeSettings,
    *,
    listener: socket.socket | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve models until Ctrl-C or SIGTERM; they are closed at the end.

    Args:
        models: By name, from `open_served`.
        settings: Limits.
        listener: From `listen`; None listens now.
        on_ready: Is told the address when requests are answered.

    Raises:
        UsageError: The address cannot be listened on.
    """
    with listener or listen(settings) as taken:
        address = address_of(taken)
        Server(models, settings, on_ready=lambda: on_ready and on_ready(address)).run([taken])
