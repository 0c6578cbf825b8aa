"""The cache folder: what was prepared or measured once and can be again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["default_cache"]


def default_cache() -> Path:
    """Return `$KLEIBER_CACHE`, or `~/.cache/kleiber`."""
    return Path(os.environ.get("KLEIBER_CACHE") or Path.home() / ".cache" / "kleiber")
