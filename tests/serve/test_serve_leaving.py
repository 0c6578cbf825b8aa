"""Who leaves is waited for no longer, and who stops the server lets others finish."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from types import SimpleNamespace

import httpx
import openai
import pytest
from scripted_texts import ALPHABET, alphabet_model, serving, until

from kleiber.serve import ServeSettings
from kleiber.serve.idle import IdleConnections
from kleiber.serve.listening import address_of, listen
from kleiber.serve.run import Server
from kleiber.serve.streamed import EventStream

SLOW_S, SOON_S = 0.05, 10
"""A token's time, and within which a slot must be free: the texts that are left would take twice as long."""


def ask(server, *, stream, n=1, max_tokens=400 - 2):
    """Return a socket on which a request was sent, and nothing read."""
    body = json.dumps({"prompt": "hi", "max_tokens": max_tokens, "stream": stream, "n": n}).encode()
    host, port = server.address.removeprefix("http://").split(":")
    sent = socket.create_connection((host, int(port)), timeout=20)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    sent.sendall(head.encode() + body)
    return sent


def num_cancelled(server):
    """Return what the metrics say of texts that were given up because their client left."""
    lines = server.raw.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("kleiber_cancelled_total") and "client_left" in line]
    return sum(float(line.split()[-1]) for line in found)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_is_killed_frees_its_slots_long_before_its_texts_end(tmp_path, stream):
    settings = ServeSettings(max_running=2, max_waiting=1)
    with serving(tmp_path, settings, step_s=SLOW_S, max_running=2) as server:
        sent = ask(server, stream=stream, n=3)
        if stream:
            assert b"200 OK" in sent.recv(100)
        stats = server.model.text.stats
        assert until(lambda: (stats().num_running, stats().num_waiting) == (2, 1), SOON_S)
        sent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # as when a process dies
        sent.close()
        assert until(lambda: stats().num_running + stats().num_waiting == 0, SOON_S)
        assert server.backend.num_released == 2
        assert until(lambda: num_cancelled(server) == 3, SOON_S)
        # Its places are free, all of them.
        found = server.openai.completions.create(model="alphabet", prompt="hi", n=3, max_tokens=2)
        assert [choice.text for choice in found.choices] == ["ab"] * 3


def test_a_client_that_leaves_while_its_prompt_is_read_leaves_nothing_behind(tmp_path, monkeypatch):
    reading, may_read = threading.Event(), threading.Event()
    with serving(tmp_path) as server:
        submit = server.model.text.submit

        def slowly(*given, **named):
            reading.set()
            may_read.wait(20)
            return submit(*given, **named)

        monkeypatch.setattr(server.model.text, "submit", slowly)
        sent = ask(server, stream=True, n=12)
        assert reading.wait(20)
        sent.close()
        assert until(lambda: 'status="499"' in server.raw.get("/metrics").text, SOON_S)
        may_read.set()
        stats = server.model.text.stats
        assert until(lambda: stats().num_cancelled == 12, SOON_S)
        assert stats().num_running + stats().num_waiting == 0


def test_a_task_that_is_cancelled_frees_its_slot(tmp_path):
    with serving(tmp_path, step_s=SLOW_S) as server:

        async def begin_and_cancel():
            async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key="none") as client:
                asked = client.completions.create(model="alphabet", prompt="hi", max_tokens=398)
                task = asyncio.create_task(asked)
                while server.model.text.stats().num_running == 0:
                    await asyncio.sleep(0.005)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(begin_and_cancel())
        assert until(lambda: server.model.text.stats().num_running == 0, SOON_S)


def test_a_stream_that_is_closed_frees_its_slot(tmp_path):
    with serving(tmp_path, step_s=SLOW_S) as server:
        with server.openai.completions.create(
            model="alphabet", prompt="hi", max_tokens=398, stream=True
        ) as chunks:
            for _, _ in zip(range(3), chunks, strict=False):
                pass
        assert until(lambda: server.model.text.stats().num_running == 0, SOON_S)


def test_a_client_that_reads_late_loses_nothing(tmp_path):
    with serving(tmp_path) as server, ask(server, stream=True) as sent:
        assert until(lambda: server.model.text.stats().num_finished == 1, SOON_S)
        answer = b""
        while not answer.endswith(b"0\r\n\r\n"):
            answer += sent.recv(10_000)
    events = [line for line in answer.split(b"\r\n") if line.startswith(b"data: {")]
    texts = [json.loads(line.removeprefix(b"data: "))["choices"][0]["text"] for line in events]
    assert "".join(texts) == (ALPHABET * 16)[:398]


class Stopping:
    """A server of the alphabet in a thread that can be asked to stop."""

    def __init__(self, folder, settings, **options):
        self.model, self.backend = alphabet_model(folder, **options)
        self.listener, ready = listen(settings), threading.Event()
        self.address = address_of(self.listener)
        self.server = Server({"alphabet": self.model}, settings, on_ready=ready.set)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self.thread.start()
        assert ready.wait(20)

    def stop(self):
        self.server.should_exit = True

    def ended(self):
        self.thread.join(20)
        return not self.thread.is_alive()


def streamed(address, max_tokens, found):
    """Note the events of a stream."""
    body = {"prompt": "hi", "max_tokens": max_tokens, "stream": True}
    with httpx.stream("POST", f"{address}/v1/completions", json=body, timeout=20) as answer:
        found += [line.removeprefix("data: ") for line in answer.iter_lines() if line]


def test_a_server_that_stops_finishes_what_runs_and_takes_nothing_more(tmp_path):
    stopping = Stopping(tmp_path, ServeSettings(port=0, drain_s=20, max_running=4), step_s=SLOW_S)
    found = []
    client = threading.Thread(target=streamed, args=(stopping.address, 30, found))
    client.start()
    assert until(lambda: stopping.model.text.stats().num_tokens > 3, SOON_S)
    stopping.stop()
    assert until(lambda: not stopping.server.servers[0].is_serving(), SOON_S)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{stopping.address}/health")
    assert stopping.ended()
    client.join(20)
    assert "".join(json.loads(one)["choices"][0]["text"] for one in found[:-1]) == (ALPHABET * 2)[:30]
    assert found[-1] == "[DONE]"


def test_what_does_not_end_while_a_server_drains_is_told_so(tmp_path):
    stopping = Stopping(tmp_path, ServeSettings(port=0, drain_s=0.3, max_running=4), step_s=SLOW_S)
    found = []
    client = threading.Thread(target=streamed, args=(stopping.address, 398, found))
    client.start()
    assert until(lambda: stopping.model.text.stats().num_tokens > 3, SOON_S)
    stopping.stop()
    assert stopping.ended()
    client.join(20)
    error = json.loads(found[-2])["error"]
    assert (error["code"], error["type"]) == ("stopping", "service_unavailable")
    assert found[-1] == "[DONE]"


def test_a_stream_that_never_began_is_closed_too():
    async def leave():
        closed, begun = [], []

        async def documents():
            begun.append(1)
            yield {}

        async def send(message):
            await asyncio.sleep(60)  # nothing goes out any more

        async def receive():
            return {"type": "http.disconnect"}

        stream = EventStream(documents(), lambda: closed.append(1))
        await stream({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
        return begun, closed

    assert asyncio.run(asyncio.wait_for(leave(), 20)) == ([], [1])


class Connection(SimpleNamespace):
    """A connection as uvicorn has it."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


def test_connections_that_ask_nothing_are_closed_and_those_that_do_are_not():
    clock, closed = [0.0], []
    idle = IdleConnections(10, lambda: clock[0])

    def opened(name, cycle):
        return Connection(cycle=cycle, transport=SimpleNamespace(close=lambda: closed.append(name)))

    silent, writing = opened("silent", None), opened("writing", SimpleNamespace(response_complete=False))
    lively = opened("lively", SimpleNamespace(response_complete=True))
    for second in range(0, 31, 5):
        clock[0] = second
        lively.cycle = SimpleNamespace(response_complete=True)  # another answer since
        idle.close([one for one in (silent, writing, lively) if one is not silent or not closed])
        assert closed == (["silent"] if second > 10 else [])
    writing.cycle.response_complete = True
    for second in (35, 40, 45, 50):
        clock[0] = second
        idle.close([writing])
    assert closed == ["silent", "writing"]


def test_headers_that_do_not_end_are_not_waited_for(tmp_path):
    stopping = Stopping(tmp_path, ServeSettings(port=0, drain_s=0, idle_connection_s=0.3))
    try:
        host, port = stopping.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as sent:
            sent.sendall(b"GET /health HTTP/1.1\r\nHost: local")
            assert sent.recv(100) == b""
        assert httpx.get(f"{stopping.address}/health").status_code == 200
    finally:
        stopping.stop()
        assert stopping.ended()


def test_a_server_that_has_stopped_leaves_no_thread(tmp_path):
    before = set(threading.enumerate())
    with serving(tmp_path) as server:
        assert server.raw.get("/health").status_code == 200
        assert server.openai.completions.create(model="alphabet", prompt="hi", max_tokens=1).choices
    assert not [one for one in set(threading.enumerate()) - before if one.name.startswith("kleiber")]
