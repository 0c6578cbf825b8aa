"""Thousands of malformed requests: by the server's own description, and bodies broken at random.

python bench/serve/malformed.py runs/gpt-novels-6m runs/resnet20 --requests 10000
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
from servers import kleiber

DEADLINE_S = 20
BODIES = {
    "/v1/completions": {
        "prompt": "It was",
        "max_tokens": 2,
        "temperature": 0.5,
        "stop": ["."],
        "n": 1,
        "logprobs": 1,
    },
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Who is there?"}], "max_tokens": 2},
    "/v1/embeddings": {"input": ["one", "two"], "encoding_format": "float"},
    "/v1/classify": {"input": "a fine film", "top_k": 2},
}
ODD = [
    None, True, -1, 0, 2**63, 1e308, float("nan"), "", "\x00", "\ud800", "x" * 100_000, [], {}, [[]], [None], {"a": {}},
    [1, 2, 3], [2**40], ["a"] * 5000, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}},
]  # fmt: skip


def broken(rng: random.Random) -> tuple[str, bytes, dict[str, str]]:
    """Return a path, a body and headers that no client of good sense sends."""
    path = rng.choice(list(BODIES))
    body = json.loads(json.dumps(BODIES[path]))
    for _ in range(rng.randint(1, 3)):
        body[rng.choice([*body, "stream", "seed", "response_format", "top_p", "model", "echo", "\x00"])] = (
            rng.choice(ODD)
        )
    raw = bytearray(json.dumps(body).encode("utf-8", "surrogatepass"))
    kind = rng.random()
    if kind < 0.25:
        for _ in range(rng.randint(1, 8)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
    elif kind < 0.35:
        raw = raw[: rng.randrange(len(raw))]
    elif kind < 0.4:
        raw = bytearray(b"[" * rng.choice([10, 100_000]))
    types = ["application/json"] * 8 + [
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "",
        "\x7f",
    ]
    return path, bytes(raw), {"content-type": rng.choice(types)}


def by_description(url: str, num: int) -> Counter[str]:
    """Send what schemathesis makes of the server's OpenAPI description; return the answers by status."""
    with tempfile.TemporaryDirectory() as place:
        cassette = Path(place) / "sent.ndjson"
        command = [
            "run", f"{url}/openapi.json", "--max-examples", str(num), "--phases", "fuzzing", "--mode", "all", "--checks",
            "not_a_server_error", "--request-timeout", str(DEADLINE_S), "--report", "ndjson", "--report-ndjson-path",
            str(cassette), "--continue-on-failure", "--suppress-health-check", "all", "--seed", "0",
        ]  # fmt: skip
        done = subprocess.run(
            [str(Path(sys.executable).parent / "schemathesis"), *command],
            capture_output=True,
            text=True,
            check=False,
        )
        print("\n".join(done.stdout.splitlines()[-25:]), flush=True)
        text = cassette.read_text(encoding="utf-8") if cassette.is_file() else ""
        return Counter(re.findall(r'"status_code": ?(\d+)', text))


def by_chance(url: str, num: int) -> tuple[Counter[str], float]:
    """Send broken bodies; return the answers by status, and the longest one's seconds."""
    rng, seen, longest = random.Random(0), Counter[str](), 0.0  # noqa: S311 - no secret
    with httpx.Client(base_url=url, timeout=DEADLINE_S) as http:
        for _ in range(num):
            path, body, headers = broken(rng)
            start = time.monotonic()
            try:
                answer = http.post(path, content=body, headers=headers)
                seen[str(answer.status_code)] += 1
                if answer.status_code >= 400 and "error" not in answer.json():
                    seen["an error in another form"] += 1
                if answer.status_code == 500:
                    print(path, body[:300], headers, answer.text[:300])
            except httpx.HTTPError as error:
                seen[type(error).__name__] += 1
                print(path, body[:300], headers, repr(error))
            longest = max(longest, time.monotonic() - start)
    return seen, longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--requests", type=int, default=10_000)
    given = parser.parse_args()
    extra = [str(run) for run in given.runs[1:]]
    with kleiber(given.runs[0], *extra, "--engine", "torch", "--max-output-tokens", "8") as address:
        described = by_description(address.url, given.requests // 12)
        print("by the description:", sum(described.values()), "requests", dict(described))
        chance, longest = by_chance(address.url, given.requests // 2)
        print("by chance:", sum(chance.values()), "requests", dict(chance), f"longest {longest:.1f} s")
        assert httpx.get(address.url + "/health").status_code == httpx.codes.OK
    if any(name.startswith("5") or not name.isdigit() for name in described | chance):
        raise SystemExit("NOT MET: an answer of 500, a hang or an error in another form")


if __name__ == "__main__":
    main()
