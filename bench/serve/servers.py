"""Servers in processes of their own, ours and others', and what a client sees of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

START_S = 300


@dataclass(frozen=True)
class Address:
    """Where a server answers."""

    url: str
    model: str
    pid: int


@contextlib.contextmanager
def kleiber(run: Path, *options: str) -> Iterator[Address]:
    command = [sys.executable, "-m", "kleiber", "serve", str(run), "--port", "0", "--json", *options]
    with tempfile.TemporaryFile() as said, process(command, stdout=subprocess.PIPE, stderr=said) as server:
        line = server.stdout.readline()  # type: ignore[union-attr] # it is a pipe
        if not line:
            said.seek(0)
            raise SystemExit(said.read().decode())
        ready = json.loads(line)
        print(
            "serving",
            *(f"{one['name']}: {one['engine']}, {one['precision']}" for one in ready["models"]),
            flush=True,
        )
        yield Address(ready["address"], ready["models"][0]["name"], ready["pid"])


@contextlib.contextmanager
def llamacpp(gguf: Path, context: int) -> Iterator[Address]:
    port, options = (
        free_port(),
        [
            "--n_ctx",
            str(context),
            "--n_threads",
            "2",
            "--n_threads_batch",
            "2",
            "--interrupt_requests",
            "false",
        ],
    )
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), "--port", str(port), *options]
    with process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        yield when_ready(f"http://127.0.0.1:{port}", server, "/v1/models", str(gguf))


@contextlib.contextmanager
def transformers(folder: Path, *, is_batched: bool) -> Iterator[Address]:
    port = free_port()
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(folder), "--port", str(port)]
    command += ["--continuous-batching"] if is_batched else []
    with process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        yield when_ready(f"http://127.0.0.1:{port}", server, "/health", str(folder))


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def when_ready(url: str, server: subprocess.Popen[bytes], path: str, model: str) -> Address:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"a server ended with {server.returncode}: {server.args}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url + path).status_code == httpx.codes.OK:
                return Address(url, model, server.pid)
        time.sleep(0.2)
    raise SystemExit(f"a server did not start: {server.args}")


@contextlib.contextmanager
def process(command: list[str], **streams: object) -> Iterator[subprocess.Popen[bytes]]:
    server = subprocess.Popen(command, start_new_session=True, **streams)  # type: ignore[call-overload]
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no VmRSS")
