"""Compression: smaller and faster models, with a receipt."""

from kleiber.compress.asked import require_apart
from kleiber.compress.compress import compress
from kleiber.compress.order import require_sound
from kleiber.compress.publish import forget
from kleiber.compress.search import SearchSettings, search
from kleiber.compress.steps import parse_step, typed_step

__all__ = [
    "SearchSettings",
    "compress",
    "forget",
    "parse_step",
    "require_apart",
    "require_sound",
    "search",
    "typed_step",
]
