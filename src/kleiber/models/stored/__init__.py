"""Weights that are not stored as plain tables of numbers, and the folder that holds them."""

from kleiber.models.stored.forms import Form, Forms, LowRank, Masked, Quantized, dense_of

__all__ = ["Form", "Forms", "LowRank", "Masked", "Quantized", "dense_of"]
