"""Weights that are not stored as plain tables of numbers, and the folder that holds them."""

from kleiber.models.stored.block import AS_COMPUTED, Activations
from kleiber.models.stored.folder import raw_bytes, read_activations, read_forms, stored_bytes, write_forms
from kleiber.models.stored.forms import Form, Forms, LowRank, Masked, Quantized, dense_of
from kleiber.models.stored.rows import join_rows, rows_of

__all__ = [
    "AS_COMPUTED",
    "Activations",
    "Form",
    "Forms",
    "LowRank",
    "Masked",
    "Quantized",
    "dense_of",
    "join_rows",
    "raw_bytes",
    "read_activations",
    "read_forms",
    "rows_of",
    "stored_bytes",
    "write_forms",
]
