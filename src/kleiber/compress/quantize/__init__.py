"""Weights in few bits: round-to-nearest, GPTQ, AWQ, HQQ, and how many bits each layer gets."""

from kleiber.compress.quantize.step import Quantize
from kleiber.models.stored.grid import Grid

__all__ = ["Grid", "Quantize"]
