"""Prompt look-up and a draft model beside plain writing, in turns; every text of a pair must be the same.

python bench/infer/speculation.py runs/gpt-novels-6m data/text/PROSE.txt --draft runs/gpt-novels-1m
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kleiber.data.stdlib import stdlib_files
from kleiber.infer import Request, Sampling, TextGenerator, open_text_model
from kleiber.infer.measure.ratio import ratio_estimate
from kleiber.infer.measure.turns import in_turns

NUM_TEXTS, PROMPT_LETTERS = 6, 260
SAMPLINGS = {
    "greedy": Sampling(temperature=0),
    "temperature 0.8, top-p 0.95": Sampling(temperature=0.8, top_p=0.95),
}


def prompts_of(text: str) -> list[str]:
    places = np.linspace(0, len(text) - PROMPT_LETTERS - 1, NUM_TEXTS).astype(int)
    return [text[place : place + PROMPT_LETTERS] for place in places]


def code() -> str:
    files = stdlib_files()
    names = [name for name in files.names if "test" not in name][:40]
    return "\n".join((files.root / name).read_text(encoding="utf-8", errors="replace") for name in names)


def written(generator: TextGenerator, prompts: list[str], request: Request) -> list[list[int]]:
    return [[piece.token for piece in generator.generate([prompt], request)] for prompt in prompts]


def timed(generator: TextGenerator, prompts: list[str], request: Request) -> Callable[[], float]:
    def turn() -> float:
        start = time.perf_counter()
        written(generator, prompts, request)
        return time.perf_counter() - start

    return turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("prose", type=Path)
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--engines", nargs="*", default=["torch", "compiled", "openvino", "onnxruntime"])
    parser.add_argument("--precision", default=None)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    texts = {"prose": given.prose.read_text(encoding="utf-8"), "code": code()}
    print("| engine | draft | text | sampling | gain | same tokens |")
    print("| --- | --- | --- | --- | --- | --- |")
    for engine in given.engines:
        opening = {"engine": engine, "precision": given.precision}
        plain = TextGenerator(open_text_model(given.run, **opening))
        drafts = {"look-up": "lookup"} | (
            {given.draft.name: open_text_model(given.draft, **opening)} if given.draft else {}
        )
        for name, draft in drafts.items():
            fast = TextGenerator(open_text_model(given.run, **opening), draft)
            for kind, text in texts.items():
                for label, sampling in SAMPLINGS.items():
                    request, prompts = Request(max_tokens=given.tokens, sampling=sampling), prompts_of(text)
                    pairs = zip(
                        written(plain, prompts, request), written(fast, prompts, request), strict=True
                    )
                    same = sum(one == other for one, other in pairs)
                    turns = {"plain": timed(plain, prompts, request), "fast": timed(fast, prompts, request)}
                    times = in_turns(turns, given.rounds)
                    gain = ratio_estimate(times["plain"], times["fast"])
                    print(
                        f"| {engine} | {name} | {kind} | {label} | {gain.value:.2f} ({gain.low:.2f} to {gain.high:.2f}) | "
                        f"{same} of {len(prompts)} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
