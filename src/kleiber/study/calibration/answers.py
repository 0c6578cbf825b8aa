"""Answers of several kinds, without gradients: prompts, tokens that follow them, images, texts.

A training step moves through its memory once; a model that answers again and again finds small weights in the caches and streams
large ones from memory, and the system's library convolves otherwise where nothing is kept for a gradient. Sizes reach from
weights that stay in the caches to such as never do; nothing here is of a size that somebody would run.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kleiber.cost.operations import Phase
from kleiber.models import build
from kleiber.models.gpt.cache import KVCache
from kleiber.models.gpt.spec import GPTSpec
from kleiber.study.calibration.modules import Encoder, Recurrent, residual_network
from kleiber.study.calibration.specimen import Specimen, Step

__all__ = ["ANSWERS"]


def _answering(build_module: Callable[[], nn.Module], make_inputs: Callable[[], Tensor]) -> Specimen:
    """One call of a module for its answer."""

    def make() -> Step:
        module, inputs = build_module().eval(), make_inputs()
        return _without_gradients(lambda: module(inputs))

    return Specimen(make, is_step=True)


def _without_gradients(run: Callable[[], object]) -> Step:
    def step(entering: Callable[[Phase], object]) -> None:
        entering("forward")
        # Not inference_mode: there torch hides what a layer does from who looks at its calls.
        with torch.no_grad():
            run()

    return step


def _gpt(
    depth: int, width: int, vocab: int, *, num_before: int, num_new: int = 1, batch: int = 1
) -> Specimen:
    """A `gpt` that reads more tokens of each sequence over its cache, and tells the next."""
    spec = GPTSpec.from_dial({"depth": depth, "width": width}, vocab_size=vocab, context=num_before + num_new)

    def make() -> Step:
        module = build(spec).to(torch.get_default_device()).eval()
        cache = KVCache(spec, batch)
        tokens, last = torch.zeros(batch, num_new, dtype=torch.int64), torch.full((1,), num_new - 1)

        def run() -> None:
            cache.length = num_before
            module(tokens, cache, last)

        return _without_gradients(run)

    return Specimen(make, is_step=True)


def _images(batch: int, size: int, channels: int) -> Specimen:
    return _answering(lambda: residual_network(channels), lambda: torch.randn(batch, 3, size, size))


def _encoder(width: int, heads: int, batch: int, context: int) -> Specimen:
    return _answering(
        lambda: Encoder(1024, context, width, heads), lambda: torch.randint(1024, (batch, context))
    )


def _recurrent(cell: type[nn.LSTM | nn.GRU], width: int, batch: int, context: int) -> Specimen:
    return _answering(lambda: Recurrent(cell, 1000, width, 1), lambda: torch.randint(1000, (batch, context)))


def _perceptron(batch: int, width: int) -> Specimen:
    return _answering(
        lambda: nn.Sequential(
            nn.Linear(width // 2, width), nn.ReLU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 10)
        ),
        lambda: torch.randn(batch, width // 2),
    )


def _pooled(batch: int, size: int, channels: int) -> Specimen:
    return _answering(
        lambda: nn.Sequential(
            nn.Conv2d(3, channels, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(2 * channels, 10), nn.Softmax(-1),
        ),
        lambda: torch.randn(batch, 3, size, size),
    )  # fmt: skip


ANSWERS: dict[str, Specimen] = {
    "token 2x64": _gpt(2, 64, 512, num_before=40),
    "token 3x160": _gpt(3, 160, 1024, num_before=90),
    "token 4x224": _gpt(4, 224, 3000, num_before=260),
    "token 2x320": _gpt(2, 320, 4096, num_before=200),
    "token 3x416": _gpt(3, 416, 2048, num_before=150),
    "token 4x576": _gpt(4, 576, 3000, num_before=400),
    "token 2x1024": _gpt(2, 1024, 12_000, num_before=500),
    "tokens 3x128 of 2": _gpt(3, 128, 1024, num_before=70, batch=2),
    "tokens 2x288 of 8": _gpt(2, 288, 2048, num_before=120, batch=8),
    "tokens 2x576 of 4": _gpt(2, 576, 3000, num_before=240, batch=4),
    "tokens 3x352 of 16": _gpt(3, 352, 3000, num_before=320, batch=16),
    "prompt 2x96": _gpt(2, 96, 1024, num_before=0, num_new=48),
    "prompt 3x224": _gpt(3, 224, 2048, num_before=0, num_new=160),
    "prompt 2x448": _gpt(2, 448, 4096, num_before=0, num_new=320),
    "prompt 1x832": _gpt(1, 832, 4096, num_before=0, num_new=224),
    "prompt 2x160 of 6": _gpt(2, 160, 1024, num_before=0, num_new=96, batch=6),
    "image 8": _images(1, 32, 8),
    "image 20": _images(1, 32, 20),
    "image 48": _images(1, 48, 48),
    "images 12 of 24": _images(24, 32, 12),
    "images 16 of 6": _images(6, 40, 16),
    "images 16 of 40": _images(40, 28, 16),
    "images 32 of 20": _images(20, 24, 32),
    "images 48 of 5": _images(5, 28, 48),
    "images 40 of 8": _images(8, 40, 40),
    "image pooled 12": _pooled(1, 40, 12),
    "images pooled 24 of 16": _pooled(16, 32, 24),
    "text 96": _encoder(96, 4, 1, 40),
    "text 320": _encoder(320, 5, 1, 112),
    "texts 192 of 12": _encoder(192, 6, 12, 64),
    "texts 448 of 4": _encoder(448, 7, 4, 24),
    "text lstm 160": _recurrent(nn.LSTM, 160, 1, 40),
    "texts gru 96 of 12": _recurrent(nn.GRU, 96, 12, 24),
    "row 96": _perceptron(1, 96),
    "row 800": _perceptron(1, 800),
    "rows 400 of 24": _perceptron(24, 400),
}
"""By name."""
