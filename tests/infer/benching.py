"""A tiny language model with a tokenizer and weights that are not 0, and settings that measure it in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.models import build, save
from kleiber.models.gpt import GPTSpec
from kleiber.runs.bench_result import BenchSettings

SPEC = GPTSpec.from_dial({"depth": 2, "width": 32}, vocab_size=300, context=32)


def tiny_model(folder: Path, spec: GPTSpec = SPEC) -> Path:
    module = build(spec)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for param in module.parameters():
            if param.ndim > 1:
                param.normal_(0, 0.2, generator=generator)
    save(module, spec, folder)
    tokenizer = train_tokenizer(["low lower lowest " * 30], 260, source="text:low.txt")
    TextTokenizer(tokenizer).write(folder, context=spec.context)
    return folder


def brief(**changes: Any) -> BenchSettings:
    known: dict[str, Any] = {
        "engines": ("torch",), "batches": (1, 2), "num_rounds": 2, "num_threads": 1, "block_s": 0.01, "has_memory": False,
        "prompt_tokens": 8, "new_tokens": 4,
    }  # fmt: skip
    return BenchSettings(**(known | changes))
