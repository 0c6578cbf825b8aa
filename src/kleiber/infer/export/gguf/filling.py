"""The MLP of a decoder filled up with zeros to whole blocks, which changes nothing of what it computes.

A neuron whose gate and up projections are 0 gives 0, and what reads it may be anything: it is 0 too.

Legend: R rows, C columns, G groups of a row.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from kleiber.infer.export.gguf.blocks import BLOCK
from kleiber.models.stored import Quantized

__all__ = ["filled", "filled_form", "whole_blocks"]


def whole_blocks(size: int) -> int:
    """Return the next size that blocks divide.

    Example:
        >>> whole_blocks(688), whole_blocks(704)
        (704, 704)
    """
    return -(-size // BLOCK) * BLOCK


def filled(weight_RC: Tensor, rows: int, columns: int) -> Tensor:
    """Return a matrix with zeros after its rows and columns, [rows, columns].

    Example:
        >>> filled(torch.ones(1, 1), 2, 1).tolist()
        [[1.0], [0.0]]
    """
    return F.pad(weight_RC, (0, columns - weight_RC.shape[1], 0, rows - weight_RC.shape[0]))


def filled_form(form: Quantized, rows: int, columns: int) -> Quantized | None:
    """Return the codes of a matrix with zeros after its rows and columns; None where its groups do not reach over them.

    Example:
        >>> codes = torch.tensor([[9, 7]], dtype=torch.uint8)
        >>> form = Quantized(codes, torch.ones(1, 1), torch.tensor([[8]], dtype=torch.uint8), num_bits=4)
        >>> filled_form(form, 2, 3).dense().tolist()
        [[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    (R, C), G = form.codes_RC.shape, form.scale_RG.shape[1]
    if G > 1 and -(-columns // form.group_size) != G:
        return None
    new_columns = form.zero_RG[:, -1:].expand(R, columns - C)
    codes_RC = torch.cat((form.codes_RC, new_columns), 1)
    middle = 2 ** (form.num_bits - 1)
    return replace(
        form,
        codes_RC=F.pad(codes_RC, (0, 0, 0, rows - R), value=middle),
        scale_RG=F.pad(form.scale_RG, (0, 0, 0, rows - R), value=1.0),
        zero_RG=F.pad(form.zero_RG, (0, 0, 0, rows - R), value=middle),
        group_size=form.group_size if G > 1 else 0,
    )
