"""A server in a thread, on a port of its own."""

from __future__ import annotations

import contextlib
import threading
import time

import uvicorn

from kleiber.serve import ServeSettings, create_app

DEADLINE_S = 30


@contextlib.contextmanager
def running(models, settings=None):
    """Yield the address of a server over models, and close both at the end."""
    app = create_app(models, settings or ServeSettings())
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        app.state.served.close()
