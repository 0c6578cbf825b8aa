"""Which steps, in which order, how hard: what meets a gate with the fewest bytes."""

from kleiber.compress.search.search import search
from kleiber.compress.search.settings import SearchSettings

__all__ = ["SearchSettings", "search"]
