"""Engines open and close in any order and leave the process as sound as it was."""

import ctypes
import gc
from pathlib import Path

import pytest

from kleiber.infer.decoding import open_decoder
from kleiber.models import build
from kleiber.models.gpt import GPTSpec

pytestmark = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads Linux's map of a process")

_GPT = GPTSpec(
    vocab_size=31, context=8, width=16, depth=1, num_heads=2, num_kv_heads=1, head_dim=8, mlp_width=16
)


class _Stack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size_bytes", ctypes.c_size_t)]


def _signal_stack() -> tuple[int | None, int]:
    """Where handlers of signals run in this thread: the start (None: on the thread's own stack) and the size."""
    stack = _Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.start, stack.size_bytes


def test_engines_gone_leave_no_stack_for_signals_that_is_gone_too() -> None:
    pytest.importorskip("openvino")
    module = build(_GPT)
    opened = [open_decoder("openvino", module, num_threads=1) for _ in range(2)]
    while opened:
        del opened[0]
        gc.collect()
        assert _is_mapped(*_signal_stack())


def _is_mapped(start: int | None, size_bytes: int) -> bool:
    if start is None:
        return True
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
    return any(low <= start and start + size_bytes <= high for low, high in spans)
