"""Weights in few bits: round-to-nearest, GPTQ, AWQ, HQQ, and how many bits each layer gets."""

from kleiber.compress.quantize.grid import Grid
from kleiber.compress.quantize.step import Quantize

__all__ = ["Grid", "Quantize"]
