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

import numpy as np
from servers import Address, kleiber, llamacpp, transformers

from kleiber.infer.measure.ratio import ratio_estimate

CLIENTS, NEW, PROMPT_WORDS, MOST_HEAD = (1, 4, 16), 64, 40, 4096
TEXT = "It was a dark evening in the town and the rain had not ceased for three days when the old man came to the door of the house "


@dataclass(frozen=True)
class Turn:
    """What the clients of one turn saw."""

    tokens_per_s: float
    first_s: float
    """Median over clients."""
    token_s: float


async def stream(address: Address, number: int) -> tuple[float, float]:
    """Return the time to the first piece and to the end; bytes are looked at as little as may be: the client has the same two cores."""
    words = (TEXT * 4).split()[number : number + PROMPT_WORDS]
    asked = {
        "model": address.model,
        "prompt": " ".join(words),
        "max_tokens": NEW,
        "temperature": 0.8,
        "seed": number,
    }
    body = json.dumps(asked | {"stream": True}).encode()
    host, port = address.url.removeprefix("http://").split(":")
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    seen = b""
    while b"\ndata: {" not in seen:
        seen += await reader.readuntil(b"\n")
        if len(seen) > MOST_HEAD:
            raise SystemExit(seen.decode(errors="replace"))
    first = time.perf_counter() - start
    last = seen
    while not last.endswith(b"\r\n0\r\n\r\n"):  # the last chunk of an answer is empty
        more = await reader.read(65_536)
        if not more:
            raise SystemExit(f"{address.url} broke off: {last[-300:].decode(errors='replace')}")
        last = last[-20:] + more
    writer.close()
    return first, time.perf_counter() - start


async def turn(address: Address, num_clients: int) -> Turn:
    start = time.perf_counter()
    told = await asyncio.gather(*(stream(address, number) for number in range(num_clients)))
    seconds = time.perf_counter() - start
    # Pieces may hold several tokens, or none: a text is as long as was asked, for these models end none by themselves.
    tokens = num_clients * NEW
    token_s = float(np.median([(last - first) / (NEW - 1) for first, last in told]))
    return Turn(tokens / seconds, float(np.median([first for first, _ in told])), token_s)


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
    parser.add_argument("--alone", action="store_true", help="no other servers")
    given, options = parser.parse_known_args()  # the rest is our server's
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        enter = stack.enter_context
        servers = {
            "kleiber fp32": enter(kleiber(given.run, "--precision", "fp32", *options)),
            "kleiber int8": enter(kleiber(given.run, "--precision", "int8", *options)),
        }
        if not given.alone and importlib.util.find_spec("llama_cpp") is not None:
            for precision in ("fp32", "int8"):
                file = next(exported(given.run, place, "gguf", precision).glob("*.gguf"))
                servers[f"llama.cpp {precision}"] = enter(llamacpp(file, given.context))
        if not given.alone:
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
