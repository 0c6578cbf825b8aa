"""Streams at once, beside other servers on the same weights, in turns of one run.

llama-cpp-python's server is measured where it is installed, with GGUF files as `kleiber export` writes them.

    python bench/serve/streams.py runs/gpt-novels-6m --rounds 5
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from servers import Address, kleiber, llamacpp, transformers

from kleiber.infer.measure.ratio import ratio_estimate

CLIENTS, NEW, PROMPT_WORDS = (1, 4, 16), 64, 40
TEXT = "It was a dark evening in the town and the rain had not ceased for three days when the old man came to the door of the house "


@dataclass(frozen=True)
class Turn:
    """What the clients of one turn saw."""

    tokens_per_s: float
    first_s: float
    """Median over clients."""
    token_s: float


async def stream(http: httpx.AsyncClient, model: str, number: int) -> tuple[float, float, int]:
    """Return the time to the first piece, that to the last, and the tokens."""
    words = (TEXT * 4).split()[number : number + PROMPT_WORDS]
    body = {
        "model": model,
        "prompt": " ".join(words),
        "max_tokens": NEW,
        "temperature": 0.8,
        "seed": number,
        "stream": True,
    }
    start, first, num = time.perf_counter(), 0.0, 0
    async with http.stream("POST", "/v1/completions", json=body) as answer:
        if answer.status_code != httpx.codes.OK:
            raise SystemExit(f"{answer.status_code}: {(await answer.aread()).decode()[:300]}")
        async for line in answer.aiter_lines():
            if line.startswith("data: ") and line != "data: [DONE]" and json.loads(line[6:])["choices"]:
                num += 1
                first = first or time.perf_counter() - start
    return first, time.perf_counter() - start, num


async def turn(address: Address, num_clients: int) -> Turn:
    limits = httpx.Limits(max_connections=num_clients)
    async with httpx.AsyncClient(base_url=address.url, timeout=120, limits=limits) as http:
        start = time.perf_counter()
        told = await asyncio.gather(*(stream(http, address.model, number) for number in range(num_clients)))
        seconds = time.perf_counter() - start
    # Pieces may hold several tokens, or none: a text is as long as was asked, for these models end none by themselves.
    tokens = num_clients * NEW
    token_s = float(np.median([(last - first) / (NEW - 1) for first, last, _ in told]))
    return Turn(tokens / seconds, float(np.median([first for first, _, _ in told])), token_s)


def exported(run: Path, place: Path, kind: str, precision: str) -> Path:
    folder = place / f"{kind}-{precision}"
    command = [
        sys.executable,
        "-m",
        "kleiber",
        "export",
        str(run),
        "--format",
        kind,
        "--precision",
        precision,
        "-o",
        str(folder),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--context", type=int, default=256)
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        enter = stack.enter_context
        servers = {
            "kleiber fp32": enter(kleiber(given.run, "--precision", "fp32")),
            "kleiber int8": enter(kleiber(given.run, "--precision", "int8")),
        }
        if importlib.util.find_spec("llama_cpp") is not None:
            for precision in ("fp32", "int8"):
                file = next(exported(given.run, place, "gguf", precision).glob("*.gguf"))
                servers[f"llama.cpp {precision}"] = enter(llamacpp(file, given.context))
        plain = exported(given.run, place, "hf", "fp32")
        servers["transformers"] = enter(transformers(plain, is_batched=False))
        servers["transformers, batched"] = enter(transformers(plain, is_batched=True))
        seen: dict[tuple[str, int], list[Turn]] = {}
        for number in range(given.rounds + 1):
            for name, address in servers.items():
                for num in CLIENTS:
                    if num > 1 and name.startswith(("llama.cpp", "transformers")) and number > 3:
                        continue  # slow, and the same each time
                    found = asyncio.run(turn(address, num))
                    if number:  # the first warms
                        seen.setdefault((name, num), []).append(found)
    print("| server | clients | tokens/s | first token, ms | a token, ms | over one client |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (name, num), turns in seen.items():
        rates = np.array([one.tokens_per_s for one in turns])
        alone = np.array([one.tokens_per_s for one in seen[name, 1]])[: len(rates)]
        gain = ratio_estimate(rates, alone)
        first, token = (
            np.median([getattr(one, which) for one in turns]) * 1e3 for which in ("first_s", "token_s")
        )
        print(
            f"| {name} | {num} | {np.median(rates):.0f} | {first:.1f} | {token:.2f} |"
            f" {gain.value:.2f} ({gain.low:.2f} to {gain.high:.2f}) |"
        )


if __name__ == "__main__":
    main()
