"""The cells of the cost grid: models, and how each is used. Training in fp32, paths from the project's root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kleiber.cost.usage import OptimizerName, Usage
from kleiber.study.measured_step import SubjectArguments

__all__ = ["CELLS", "Cell"]

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cell:
    """One row of the grid."""

    name: str
    subject: SubjectArguments
    usage: Usage
    is_large: bool = False
    """300 million parameters or more."""


def _family(
    name: str,
    size: str,
    batch_size: int,
    context: int,
    optimizer: OptimizerName = "adamw",
    *,
    accumulation: int = 1,
    is_checkpointed: bool = False,
    is_large: bool = False,
) -> Cell:
    usage = Usage(
        batch_size=batch_size,
        optimizer=optimizer,
        accumulation=accumulation,
        is_checkpointed=is_checkpointed,
    )
    return Cell(
        name, SubjectArguments(f"gpt:{size}", batch_size=batch_size, context=context), usage, is_large
    )


def _module(
    name: str,
    target: str,
    shape: str,
    optimizer: OptimizerName = "adamw",
    init: str | None = None,
    *,
    accumulation: int = 1,
    is_checkpointed: bool = False,
    is_large: bool = False,
) -> Cell:
    usage = Usage(
        batch_size=int(shape.split("x", maxsplit=1)[0]),
        optimizer=optimizer,
        accumulation=accumulation,
        is_checkpointed=is_checkpointed,
    )
    subject = SubjectArguments(
        str(_ROOT / "examples" / target), inputs=(shape,), init=init, batch_size=usage.batch_size
    )
    return Cell(name, subject, usage, is_large)


def _config(
    name: str,
    file: str,
    batch_size: int,
    context: int | None = None,
    optimizer: OptimizerName = "adamw",
    *,
    is_checkpointed: bool = False,
    is_large: bool = False,
) -> Cell:
    usage = Usage(batch_size=batch_size, optimizer=optimizer, is_checkpointed=is_checkpointed)
    path = str(_ROOT / "bench" / "configs" / f"{file}.json")
    return Cell(name, SubjectArguments(path, batch_size=batch_size, context=context), usage, is_large)


CELLS: tuple[Cell, ...] = (
    _family("gpt-short", "depth=4,width=256", 16, 128),
    _family("gpt-long", "depth=4,width=256", 2, 1024),
    _family("gpt-muon", "depth=6,width=384", 8, 256, "muon"),
    _family("gpt-sgd", "depth=6,width=384", 8, 256, "sgd"),
    _family("gpt-accumulated", "depth=8,width=512", 8, 256, accumulation=4),
    _family("gpt-checkpointed", "depth=8,width=512", 8, 256, is_checkpointed=True),
    _module(
        "perceptron-wide",
        "perceptron.py:Perceptron",
        "256x1000",
        "adam",
        '{"widths": [1000, 5000, 1000, 10]}',
    ),
    _module(
        "perceptron-batch",
        "perceptron.py:Perceptron",
        "8192x784",
        "momentum",
        '{"widths": [784, 1024, 1024, 1024, 10]}',
    ),
    _module("convnet-32", "convnet.py:ConvNet", "64x3x32x32"),
    _module("convnet-96", "convnet.py:ConvNet", "8x3x96x96", "rmsprop"),
    _module("resnet18-64", "resnet.py:ResNet18", "32x3x64x64", "adam", '{"num_classes": 200}'),
    _module("resnet18-224", "resnet.py:ResNet18", "4x3x224x224", "momentum"),
    _module("resnet50-128", "resnet.py:ResNet50", "4x3x128x128", "momentum"),
    _module("resnet50-224", "resnet.py:ResNet50", "2x3x224x224", "sgd"),
    _module("unet-128", "unet.py:UNet", "4x3x128x128"),
    _module("lstm-untied", "lstm.py:LSTMLanguageModel", "16x64:int64", "adam"),
    _module(
        "lstm-tied",
        "lstm.py:LSTMLanguageModel",
        "32x48:int64",
        "rmsprop",
        '{"width": 650, "depth": 3, "is_tied": true}',
    ),
    _module("gru-100", "gru.py:GRUClassifier", "32x100x40"),
    _module("gru-wide", "gru.py:GRUClassifier", "8x200x80", "adagrad", '{"num_features": 80, "width": 512}'),
    _config("bert-11m", "bert-11m", 8, 128),
    _config("bert-29m", "bert-29m", 4, 256, "adam"),
    _config("vit-6m", "vit-6m", 8),
    _config("vit-22m", "vit-22m", 4, None, "sgd"),
    _config("llama-10m", "llama-10m", 8, 256),
    _config("llama-10m-long", "llama-10m", 1, 2048, "adagrad"),
    _config("llama-40m", "llama-40m", 2, 512),
    _config("llama-40m-checkpointed", "llama-40m", 4, 512, "adam", is_checkpointed=True),
    _config("mixtral-16m", "mixtral-16m", 2, 32),
    _config("mixtral-16m-momentum", "mixtral-16m", 1, 48, "momentum"),
    _config("whisper-10m", "whisper-10m", 2, 64),
    _config("whisper-10m-rmsprop", "whisper-10m", 4, 128, "rmsprop"),
    _config("t5-17m", "t5-17m", 8, 128),
    _config("t5-54m", "t5-54m", 2, 256, "adam"),
    _family("gpt-310m", "params=310e6", 1, 512, is_large=True),
    _config("llama-350m", "llama-350m", 1, 256, "adam", is_large=True),
    _module(
        "perceptron-400m",
        "perceptron.py:Perceptron",
        "64x4096",
        "adam",
        '{"widths": [4096, 10240, 10240, 10240, 10240, 4096]}',
        is_large=True,
    ),
)
"""Every one with its own mix of architecture, batch, context and optimizer."""
