"""Texts side by side beside one alone, by engine, in turns; and one alone beside what `kleiber generate` writes.

python bench/infer/many.py runs/gpt-novels-6m --engines torch onnxruntime openvino --streams 1 4 16 --threads 2
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kleiber.infer import Request, Sampling, TextGenerator, open_text_model
from kleiber.infer.batching import BatchedText, open_batched_text
from kleiber.infer.measure.ratio import ratio_estimate
from kleiber.infer.measure.turns import in_turns

SEEDS = itertools.count()


def fresh_prompt(num_tokens: int, vocab_size: int) -> list[int]:
    """Return a prompt that no cache has seen."""
    found: list[int] = np.random.default_rng(next(SEEDS)).integers(1, vocab_size, num_tokens).tolist()
    return found


def side_by_side(batch: BatchedText, num: int, request: Request, num_prompt: int) -> Callable[[], float]:
    """Return what writes so many texts at once and returns seconds a token."""

    def turn() -> float:
        prompts = [fresh_prompt(num_prompt, batch.speaker.tokenizer.vocab_size) for _ in range(num)]
        start = time.perf_counter()
        handles = [batch.submit(prompt, request, sample=sample) for sample, prompt in enumerate(prompts)]
        num_tokens = sum(len(list(handle)) for handle in handles)
        return (time.perf_counter() - start) / num_tokens

    return turn


def alone(generator: TextGenerator, request: Request, num_prompt: int) -> Callable[[], float]:
    """Return what writes a text as `kleiber generate` does and returns seconds a token."""

    def turn() -> float:
        prompt = fresh_prompt(num_prompt, generator.model.tokenizer.vocab_size)
        start = time.perf_counter()
        num_tokens = len(list(generator.generate([prompt], request)))
        return (time.perf_counter() - start) / num_tokens

    return turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--engines", nargs="*", default=["torch", "onnxruntime", "openvino"])
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--precision", default=None)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    request = Request(max_tokens=given.tokens, sampling=Sampling(temperature=0.8, top_p=0.95))
    opening = {"precision": given.precision, "num_threads": given.threads}
    turns: dict[str, Callable[[], float]] = {}
    batches = {}
    for engine in given.engines:
        batch = open_batched_text(given.run, engine=engine, max_running=max(given.streams), **opening)
        batches[engine] = batch
        generator = TextGenerator(open_text_model(given.run, engine=engine, **opening))
        turns[f"{engine} generate"] = alone(generator, request, given.prompt)
        for num in given.streams:
            turns[f"{engine} {num}"] = side_by_side(batch, num, request, given.prompt)
    in_turns(turns, 1)  # what is made at the first call
    times = in_turns(turns, given.rounds)
    print("| engine | texts at once | tokens/s | beside one at once | beside generate |")
    print("| --- | --- | --- | --- | --- |")
    for engine in given.engines:
        for num in given.streams:
            own = times[f"{engine} {num}"]
            beside = [
                ratio_estimate(times[f"{engine} {other}"], own) for other in (given.streams[0], "generate")
            ]
            gains = " | ".join(f"{gain.value:.2f} ({gain.low:.2f} to {gain.high:.2f})" for gain in beside)
            print(f"| {engine} | {num} | {1 / float(np.median(own)):,.0f} | {gains} |", flush=True)
    for batch in batches.values():
        batch.close()


if __name__ == "__main__":
    main()
