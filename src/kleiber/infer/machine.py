"""What native code and measured speeds depend on of this machine."""

from __future__ import annotations

import platform
from pathlib import Path

__all__ = ["cpu_flags"]

_CPU = Path("/proc/cpuinfo")
_KEYS = ("model name", "flags", "Features")


def cpu_flags() -> str:
    """Return the processor's name and instruction sets; elsewhere than on Linux what Python knows of it."""
    if not _CPU.is_file():
        return f"{platform.machine()} {platform.processor()}"
    lines = _CPU.read_text(encoding="utf-8").splitlines()
    return "; ".join(next((line for line in lines if line.startswith(key)), "") for key in _KEYS)
