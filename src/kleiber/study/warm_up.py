"""What the libraries take once, whatever the model: taken before a process's size is read, it is not the model's."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import nn

from kleiber.cost.trace.training_step import build_optimizer, run_step
from kleiber.cost.usage import Usage
from kleiber.models.subject import Inputs

__all__ = ["warm_up"]

# Rows, inner, columns. MKL keeps a packing buffer for each thread, as large as the largest product asked for, up to
# some 20 MB; after these it grows no more.
_PRODUCTS = ((1024, 16384, 512), (64, 1024, 10240))
_REPEATS = 2
_MAPS = Path("/proc/self/maps")
_MADV_POPULATE_READ = 22


def warm_up() -> None:
    """Make the libraries start their threads, take their buffers and load their code.

    Runs large products and a step of layers that no model has; torch must be set to its threads already.
    """
    for _ in range(_REPEATS):
        for rows, inner, columns in _PRODUCTS:
            left, weight = torch.ones(rows, inner), torch.ones(columns, inner, requires_grad=True)
            F.linear(left, weight).sum().backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
    module, usage = _EveryLibrary(), Usage(batch_size=1, optimizer="adamw")
    optimizer = build_optimizer(usage.optimizer, module)
    for _ in range(_REPEATS):
        inputs = Inputs((torch.ones(4, 16, 32, 32),))
        run_step(module, inputs, torch.sum, optimizer, usage)
    _load_code()


class _EveryLibrary(nn.Module):
    """A layer of each kind that has kernels of its own: convolution, recurrence, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.recurrence = nn.LSTM(32, 32, batch_first=True)
        self.attention = nn.MultiheadAttention(32, 2, batch_first=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        sequences, _ = self.recurrence(self.norm(self.convolution(images)).flatten(1, 2))
        attended, _ = self.attention(sequences, sequences, sequences, need_weights=False)
        result: torch.Tensor = attended.mean()
        return result


def _load_code() -> None:
    """Bring the code of torch's libraries into memory: otherwise each kernel's first call adds its pages. Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        madvise = ctypes.CDLL(None, use_errno=True).madvise
        for line in _MAPS.read_text().splitlines():
            addresses, access, *_, path = [*line.split(maxsplit=5), ""][:6]
            if "torch" in path and access.startswith("r-"):
                start, end = (int(address, 16) for address in addresses.split("-"))
                madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_POPULATE_READ)
