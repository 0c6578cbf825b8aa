"""Compression: smaller and faster models, with a receipt."""

from kleiber.compress.compress import compress
from kleiber.compress.publish import forget
from kleiber.compress.search import SearchSettings, search
from kleiber.compress.steps import parse_step, typed_step

__all__ = ["SearchSettings", "compress", "forget", "parse_step", "search", "typed_step"]
