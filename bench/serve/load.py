"""Many clients at once for minutes: what they are answered with, how long it takes, and whether the server grows.

Clients stream texts of 8 to 48 tokens after prompts of 5 to 60 words, and come again as soon as a text is over; one that is
turned away waits as long as it was told. One in twenty leaves in the middle of its text.

    python bench/serve/load.py runs/gpt-novels-6m --clients 200 --seconds 120
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from servers import Address, kleiber, resident_bytes

WORDS = [
    "the",
    "old",
    "house",
    "by",
    "the",
    "river",
    "was",
    "silent",
    "when",
    "we",
    "came",
    "back",
    "from",
    "town",
    "and",
    "nobody",
    "had",
    "lit",
    "a",
    "fire",
]
LEAVES, MOST_WAIT_S, WARM_FRAC = 0.05, 5.0, 0.25


@dataclass
class Seen:
    """What all clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    whole_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    num_tokens: int = 0
    bytes_by_s: list[tuple[float, int]] = field(default_factory=list)


async def client(address: Address, seen: Seen, end: float, number: int) -> None:
    rng = random.Random(number)  # noqa: S311 - no secret
    async with httpx.AsyncClient(base_url=address.url, timeout=60) as http:
        while time.monotonic() < end:
            await one_text(http, address.model, seen, rng)


async def one_text(http: httpx.AsyncClient, model: str, seen: Seen, rng: random.Random) -> None:
    body = {
        "model": model,
        "prompt": " ".join(rng.choices(WORDS, k=rng.randint(5, 60))),
        "max_tokens": rng.randint(8, 48),
        "temperature": 0.8,
        "stream": True,
    }
    leaves, start, first, num = rng.random() < LEAVES, time.monotonic(), None, 0
    try:
        async with http.stream("POST", "/v1/completions", json=body) as answer:
            if answer.status_code != httpx.codes.OK:
                await answer.aread()
                seen.statuses[str(answer.status_code)] += 1
                told = float(answer.headers.get("retry-after", "nan"))
                if answer.status_code == httpx.codes.TOO_MANY_REQUESTS and not told > 0:
                    seen.statuses["429 without Retry-After"] += 1
                await asyncio.sleep(min(told, MOST_WAIT_S) * rng.uniform(0.5, 1.0) if told > 0 else 1)
                return
            async for line in answer.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                if "error" in (said := json.loads(line[6:])):
                    seen.statuses[f"error in a stream: {said['error']['message'][:60]}"] += 1
                    return
                first = first or time.monotonic() - start
                num += 1
                if leaves and num == 4:
                    seen.statuses["left"] += 1
                    return
    except httpx.HTTPError as error:
        seen.statuses[type(error).__name__] += 1
        return
    seen.statuses["200"] += 1
    seen.whole_s.append(time.monotonic() - start)
    seen.first_s.append(first or 0)
    seen.num_tokens += num


async def watch(address: Address, seen: Seen, start: float, end: float) -> None:
    while time.monotonic() < end:
        seen.bytes_by_s.append((time.monotonic() - start, resident_bytes(address.pid)))
        await asyncio.sleep(0.5)


async def run(address: Address, num_clients: int, seconds: float) -> Seen:
    seen, start = Seen(), time.monotonic()
    end = start + seconds
    clients = (client(address, seen, end, number) for number in range(num_clients))
    await asyncio.gather(watch(address, seen, start, end), *clients)
    return seen


def cancelled(http: httpx.Client) -> float:
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("kleiber_cancelled_total{"))


def freed_s(address: Address) -> float:
    """Return how long after its client is gone a request of sixteen texts has left its places."""
    body = {"model": address.model, "prompt": "the old house", "n": 16, "max_tokens": 200, "stream": True}
    with (
        httpx.Client(base_url=address.url, timeout=60) as http,
        httpx.Client(base_url=address.url) as leaving,
    ):
        before = cancelled(http)
        with leaving.stream("POST", "/v1/completions", json=body) as answer:
            next(answer.iter_lines())
        start = time.monotonic()  # the connection is closed in the middle of the answer
        while cancelled(http) < before + 16:
            if time.monotonic() > start + 10:
                raise SystemExit("NOT MET: a client that left still has its places")
            time.sleep(0.005)
        return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120)
    given, options = parser.parse_known_args()  # the rest is the server's
    with kleiber(given.run, "--max-waiting", "32", *options) as address:
        seen = asyncio.run(run(address, given.clients, given.seconds))
        left = httpx.get(address.url + "/metrics").text
        freed = freed_s(address)
        after = resident_bytes(address.pid)
    print(f"sixteen texts of a client that left are given up after {freed * 1e3:.0f} ms")
    warm = [num for at, num in seen.bytes_by_s if at > WARM_FRAC * given.seconds]
    print("answers:", dict(seen.statuses))
    print(f"texts: {len(seen.whole_s)}, {seen.num_tokens / given.seconds:.0f} tokens/s")
    for name, times in (("first token", seen.first_s), ("whole text", seen.whole_s)):
        p50, p95, p99 = np.percentile(times, [50, 95, 99])
        print(f"{name}: p50 {p50:.3f} s, p95 {p95:.3f} s, p99 {p99:.3f} s")
    middle = float(np.median(warm))
    print(
        f"memory after the first quarter: median {middle / 1e6:.0f} MB,"
        f" {min(warm) / middle - 1:+.2%} to {max(warm) / middle - 1:+.2%}; at the end {after / middle - 1:+.2%}"
    )
    print(
        "\n".join(
            line for line in left.splitlines() if "running" in line or ("waiting" in line and "#" not in line)
        )
    )
    allowed = {"200", "429", "left"}
    if set(seen.statuses) - allowed or max(abs(num / middle - 1) for num in warm) > 0.02:
        raise SystemExit("NOT MET: other answers than 200 and 429, or memory that moves by more than 2%")


if __name__ == "__main__":
    main()
