"""Reading and writing of language models through every engine, beside transformers and llama.cpp, in turns of one run.

Weights are random: of these two models speed alone is measured. llama.cpp is measured where llama-cpp-python is installed.

    python bench/infer/language.py --rounds 7
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from kleiber.data.stdlib import stdlib_files
from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.errors import KleiberError
from kleiber.infer.bench.limits import ReadMeter
from kleiber.infer.engines import ENGINES
from kleiber.infer.measure.ratio import median_estimate, ratio_estimate
from kleiber.infer.measure.turns import in_turns
from kleiber.infer.precision import PRECISIONS
from kleiber.infer.text_model import open_text_model
from kleiber.models import build, save
from kleiber.models.gpt import GPTSpec

SIZES = {
    "small": {"depth": 6, "width": 384, "vocab_size": 4096},
    "large": {"depth": 12, "width": 768, "vocab_size": 16384},
}
CONTEXT, PROMPT, FEW, NEW = 1024, 512, 16, 64
BITS = {"fp32": 32, "int8": 8, "int4": 4}
Turn = Callable[[], float]


def write_model(name: str, folder: Path) -> GPTSpec:
    size = dict(SIZES[name])
    vocab_size = size.pop("vocab_size")
    spec = GPTSpec.from_dial(size, vocab_size=vocab_size, context=CONTEXT)
    save(build(spec), spec, folder)
    files = stdlib_files()
    texts = [(files.root / one).read_text(encoding="utf-8", errors="replace") for one in files.names[:300]]
    TextTokenizer(train_tokenizer(texts, vocab_size, source="the standard library")).write(folder)
    return spec


def of_decoder(decoder, tokens: np.ndarray) -> dict[str, Turn]:
    def prefill() -> float:
        start = time.perf_counter()
        decoder.prefill(tokens[:, :PROMPT])
        return time.perf_counter() - start

    def decode() -> float:
        decoder.prefill(tokens[:, :FEW])
        decoder.decode(tokens[:, FEW])
        start = time.perf_counter()
        for index in range(NEW):
            decoder.decode(tokens[:, FEW + 1 + index])
        return time.perf_counter() - start

    return {"prefill": prefill, "decode": decode}


def of_transformers(folder: Path, tokens: np.ndarray) -> dict[str, Turn]:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.from_numpy(tokens)

    def write(num: int) -> float:
        start = time.perf_counter()
        model.generate(
            ids[:, :FEW],
            attention_mask=torch.ones(1, FEW, dtype=torch.long),
            max_new_tokens=num,
            min_new_tokens=num,
            do_sample=False,
            pad_token_id=0,
        )
        return time.perf_counter() - start

    def prefill() -> float:
        start = time.perf_counter()
        model(ids[:, :PROMPT], logits_to_keep=1)
        return time.perf_counter() - start

    return {"prefill": torch.inference_mode()(prefill), "decode": lambda: write(NEW + 1) - write(1)}


def run(name: str, num_rounds: int) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        spec = write_model(name, folder)
        tokens = np.random.default_rng(0).integers(0, spec.vocab_size, (1, CONTEXT))
        turns: dict[str, dict[str, Turn]] = {"transformers fp32": of_transformers(folder, tokens)}
        for precision in PRECISIONS:
            for engine in ENGINES:
                try:
                    model = open_text_model(folder, engine=engine, precision=precision)
                except KleiberError as error:
                    print(f"{engine} {precision}: {error.message}", flush=True)
                    continue
                turns[f"{engine} {precision}"] = of_decoder(model.decoder, tokens)
                print(f"{name}: opened {engine} {precision}: {model.decoder.precision}", flush=True)
        num_params = spec.count().total
        sets = {precision: num_params * bits // 8 for precision, bits in BITS.items()}
        meters = {precision: ReadMeter(num, torch.get_num_threads()) for precision, num in sets.items()}
        flat = {f"{one}|{kind}": turn for one, kinds in turns.items() for kind, turn in kinds.items()}
        flat |= {f"read {one}|rate": meter.turn for one, meter in meters.items()}
        for turn in flat.values():
            turn()
        times = in_turns(flat, num_rounds)
    return rows(name, num_params, sets, times)


def rows(
    name: str, num_params: int, sets: dict[str, int], times: dict[str, np.ndarray]
) -> list[dict[str, object]]:
    found = []
    for key, seconds in times.items():
        label, kind = key.split("|")
        if kind == "rate":
            found.append({"model": name, "what": label, "bytes_per_s": median_estimate(seconds).value})
            continue
        precision = label.split()[1]
        num = NEW if kind == "decode" else PROMPT
        peer = f"llamacpp {precision}|{kind}"
        row = {
            "model": name,
            "num_params": num_params,
            "what": label,
            "kind": kind,
            "tokens_per_s": [num / value for value in _values(median_estimate(seconds))],
            "over_transformers": _values(ratio_estimate(times[f"transformers fp32|{kind}"], seconds)),
        }
        if peer in times:
            row["over_llamacpp"] = _values(ratio_estimate(times[peer], seconds))
        if kind == "decode":
            limit_s = sets[precision] / times[f"read {precision}|rate"]
            row["of_the_limit"] = _values(ratio_estimate(limit_s, seconds / NEW))
        found.append(row)
    return found


def _values(one) -> list[float]:
    return [one.value, one.low, one.high]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("bench-language.json"))
    given = parser.parse_args()
    found = [row for name in given.sizes for row in run(name, given.rounds)]
    given.output.write_text(json.dumps(found, indent=1) + "\n")
    print("| model | engine | kind | tokens/s | over transformers | over llama.cpp | of the memory's limit |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in found:
        if "kind" in row:
            cells = [
                f"{row[key][0]:.2f} ({row[key][1]:.2f} to {row[key][2]:.2f})" if key in row else ""
                for key in ("over_transformers", "over_llamacpp", "of_the_limit")
            ]
            rate = row["tokens_per_s"][0]
            print(f"| {row['model']} | {row['what']} | {row['kind']} | {rate:,.0f} | {' | '.join(cells)} |")
        else:
            print(f"{row['model']}, {row['what']}: {row['bytes_per_s'] / 1e9:.1f} GB/s")


if __name__ == "__main__":
    main()
