"""Smaller dense models: heads, neurons, channels, features and blocks cut out."""

from kleiber.compress.structure.influence import block_influence
from kleiber.compress.structure.shrink import Shrink

__all__ = ["Shrink", "block_influence"]
