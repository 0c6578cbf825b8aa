"""Who cannot wait for pieces has them called out."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest

from kleiber.errors import KleiberError
from kleiber.infer.batching import TextHandle
from kleiber.infer.generation.request import Piece

A, B, LAST = Piece(0, 1, "a"), Piece(0, 2, "b"), Piece(0, 3, "c", finish="length")


def test_a_listener_hears_what_is_there_and_what_comes_in_order():
    handle, heard = TextHandle(), []
    handle.put(A)
    handle.on_piece(heard.append)
    assert heard == [A]
    handle.put(B)
    handle.put(LAST)
    assert heard == [A, B, LAST]


def test_a_listener_hears_of_an_error_and_of_its_end_once():
    handle, heard = TextHandle(), []
    handle.on_piece(heard.append)
    error = KleiberError("no more.")
    handle.put(error)
    handle.cancel()
    handle.cancel()
    handle.put(A)
    assert heard == [error, None]


def test_a_listener_may_cancel_while_it_is_called():
    handle, heard = TextHandle(), []

    def once(piece):
        heard.append(piece)
        handle.cancel()

    handle.on_piece(once)
    handle.put(A)
    handle.put(B)
    assert heard == [A, None]


def test_a_text_whose_listener_fails_is_cancelled_and_the_failure_is_logged(caplog):
    handle = TextHandle()
    handle.on_piece(lambda _: {}["nothing"])
    handle.put(A)
    assert handle.is_cancelled
    assert "whoever listened to a text failed; it is cancelled" in caplog.text
    handle.put(B)
    assert len(caplog.records) == 1


def test_a_loop_hears_another_thread():
    async def heard_of(handle):
        pieces: asyncio.Queue = asyncio.Queue()
        loop = asyncio.get_running_loop()
        handle.on_piece(functools.partial(loop.call_soon_threadsafe, pieces.put_nowait))
        writing = threading.Thread(target=lambda: [handle.put(one) for one in (A, B, LAST)])
        writing.start()
        heard = [await asyncio.wait_for(pieces.get(), 5) for _ in range(3)]
        writing.join()
        return heard

    assert asyncio.run(heard_of(TextHandle())) == [A, B, LAST]


def test_who_iterates_hears_what_came_before_an_error():
    handle = TextHandle()
    handle.put(A)
    handle.put(KleiberError("no more."))
    pieces = iter(handle)
    assert next(pieces) == A
    with pytest.raises(KleiberError, match="no more"):
        next(pieces)
