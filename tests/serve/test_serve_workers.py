"""As many requests are worked on and wait as may; the next are told when to come again."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import httpx
import pytest
from encoder_folders import write_bert
from small_models import opened_encoder

from kleiber.serve import ServeSettings, create_app
from kleiber.serve.errors import RefusedError
from kleiber.serve.metrics import Metrics
from kleiber.serve.workers import Workers

DEADLINE_S = 10


def workers(**options):
    return Workers(Metrics(), **{"max_waiting": 1, "timeout_s": 30, "num_threads": 2, **options})


async def one(pool, work):
    async with pool.admitted("m"):
        return await pool.run(work)


def test_those_beyond_the_queue_are_turned_away_and_there_is_room_again():
    pool, gate = workers(), threading.Event()

    async def tried():
        running = [asyncio.create_task(one(pool, partial(gate.wait, DEADLINE_S))) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(RefusedError, match=r"3 requests are worked on or wait already.") as caught:
            await one(pool, partial(gate.wait, DEADLINE_S))
        gate.set()
        assert await asyncio.gather(*running) == [True] * 3
        assert await one(pool, lambda: 5) == 5
        return caught.value

    error = asyncio.run(tried())
    assert (error.status, error.code) == (429, "queue_full")
    assert error.retry_after_s >= 1
    assert b'kleiber_rejected_total{model="m",reason="queue_full"} 1.0' in pool._metrics.text()[0]


def test_a_request_that_takes_too_long_is_given_up_and_its_place_is_free():
    pool, gate = workers(timeout_s=0.05, max_waiting=0, num_threads=1), threading.Event()

    async def tried():
        with pytest.raises(RefusedError, match=r"the request took longer than 0.05 s") as caught:
            await one(pool, partial(gate.wait, DEADLINE_S))
        gate.set()
        assert await one(pool, lambda: 5) == 5
        return caught.value.status

    assert asyncio.run(tried()) == 503


def test_what_nobody_waits_for_is_not_begun():
    pool, gate, begun = workers(num_threads=1), threading.Event(), []

    async def tried():
        first = asyncio.create_task(one(pool, partial(gate.wait, DEADLINE_S)))
        second = asyncio.create_task(one(pool, lambda: begun.append(1)))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        gate.set()
        await first
        await one(pool, lambda: None)

    asyncio.run(tried())
    assert begun == []


def test_an_error_leaves_its_place():
    pool = workers(max_waiting=0, num_threads=1)

    async def tried():
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await one(pool, lambda: 1 / 0)

    asyncio.run(tried())


def test_an_engine_answers_one_caller_at_a_time():
    pool = workers()
    with pool.engine("a"):
        assert not pool.engine("a").acquire(blocking=False)
        assert pool.engine("b").acquire(blocking=False)


def test_a_full_queue_is_429_and_the_loop_goes_on(tmp_path):
    encoder = opened_encoder(write_bert(tmp_path / "bert"))
    app = create_app({"bert": encoder}, ServeSettings(max_waiting=1))
    served = app.state.served

    async def tried():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", timeout=DEADLINE_S
        ) as client:

            def ask():
                return asyncio.create_task(client.post("/v1/embeddings", json={"input": "river"}))

            with served.workers.engine("bert"):
                held = [ask() for _ in range(served.workers.max_admitted)]
                while served.workers.num_admitted < len(held):
                    await asyncio.sleep(0.001)
                refused = await ask()
                assert (await client.get("/health")).status_code == 200
            return refused, [(await one).status_code for one in held]

    refused, statuses = asyncio.run(tried())
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    assert set(statuses) == {200}
