"""How this engine holds a weight, and how it multiplies with it: one row at the speed of memory, many by matrix products.

A product of one row with a weight is bound by the bytes of the weight; libraries of matrix products read them at less than half of
the memory's rate. Native code of our own reads them once, and multiplies codes as integers; many rows with codes are its too. Codes in
groups that it does not know are written as multiply and sum, which torch compiles to one pass over them.

Legend: N rows, C columns of a weight, R its rows, G groups of a row, S columns of a group.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.infer.compiled.native import UNIT, plain_product, products
from kleiber.models.stored import Form, LowRank, Quantized, dense_of

__all__ = ["Codes", "Dense", "Factors", "Held", "UnitCodes", "held"]

_NIBBLE, _LOW = 4, 15
_MIDDLE, _MAX_INT8 = 128, 127
_LEAST_SCALE = 1e-30
"""Of a row of zeros."""
_MANY = 32
"""Rows from which on a library's products of int8 are faster than ours, as measured."""


class Held(nn.Module):
    """A weight [R, C] in this engine."""

    computed_in: str
    """What products with it are computed in, for `precision`."""

    def one_row(self, x_C: Tensor) -> Tensor:
        """Return the product with one row, [R]."""
        raise NotImplementedError

    def many_rows(self, x_NC: Tensor) -> Tensor:
        """Return the products with many rows, [N, R]."""
        raise NotImplementedError

    def rows_at(self, numbers: Tensor) -> Tensor:
        """Return rows of the weight, [..., C]."""
        raise NotImplementedError


def held(weight: Tensor, form: Form | None) -> Held:
    """Return a weight as it is stored: in codes of 8 or 4 bits, in factors, or plain; masks are no form of holding.

    Args:
        weight: The module's, fp32 [R, C]; shared where it stays plain.
        form: None is plain.
    """
    if isinstance(form, Quantized):
        return _codes(form)
    if isinstance(form, LowRank):
        return Factors(form)
    return Dense(weight)


class Dense(Held):
    """Plain numbers."""

    computed_in = "fp32"
    weight_RC: Tensor

    def __init__(self, weight_RC: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight_RC", weight_RC.detach().contiguous())

    def one_row(self, x_C: Tensor) -> Tensor:
        """Return the product with one row, [R]."""
        return plain_product(x_C, self.weight_RC)

    def many_rows(self, x_NC: Tensor) -> Tensor:
        """Return the products with many rows, [N, R]."""
        return F.linear(x_NC, self.weight_RC)

    def rows_at(self, numbers: Tensor) -> Tensor:
        """Return rows of the weight, [..., C]."""
        return self.weight_RC[numbers]


class UnitCodes(Held):
    """Codes in units of 128 columns, as our native code reads them; it rounds rows to int8, a scale for 128 columns or 64.

    Many rows with a weight of 8 bits and a scale a row are rounded to int8 whole, which torch's library multiplies faster.

    Args:
        form: In groups that `knows` knows.
    """

    codes_RUx: Tensor
    """Of 8 bits less 128 each, int8; of 4 bits two a byte, uint8."""
    scale_RG: Tensor
    zero: Tensor
    """[R, G], or [1] for all."""

    def __init__(self, form: Quantized) -> None:
        super().__init__()
        R, C = form.codes_RC.shape
        U = -(-C // UNIT)
        self.num_columns, self.num_bits = C, 4 if form.num_bits <= _NIBBLE else 8
        self.computed_in = f"int{self.num_bits} weights"
        self.is_by_row = form.scale_RG.shape[1] == 1
        self.group_size = U * UNIT if self.is_by_row else form.group_size
        codes_RUx = F.pad(form.codes_RC, (0, U * UNIT - C)).view(R, U, UNIT)
        codes_RUx = _packed(codes_RUx) if self.num_bits == _NIBBLE else (codes_RUx ^ _MIDDLE).view(torch.int8)
        is_alike = bool((form.zero_RG == form.zero_RG[0, 0]).all())
        self.is_centred = self.num_bits > _NIBBLE and is_alike and int(form.zero_RG[0, 0]) == _MIDDLE
        self.register_buffer("codes_RUx", codes_RUx)
        self.register_buffer("scale_RG", form.scale_RG.float().contiguous())
        self.register_buffer("zero", form.zero_RG[0, :1].clone() if is_alike else form.zero_RG.contiguous())

    @staticmethod
    def knows(form: Quantized) -> bool:
        """Return whether groups are whole rows, or made of 64 columns each."""
        return form.scale_RG.shape[1] == 1 or form.group_size % (UNIT // 2) == 0

    def one_row(self, x_C: Tensor) -> Tensor:
        """Return the product with one row, [R]."""
        return self._native(x_C[None])[0]

    def many_rows(self, x_NC: Tensor) -> Tensor:
        """Return the products with many rows, [N, R]."""
        # A program that is compiled for any number of rows is for many.
        is_many = torch.compiler.is_compiling() or len(x_NC) >= _MANY
        if not (is_many and self.is_by_row and self.is_centred):
            return self._native(x_NC)
        scale_N1 = (x_NC.abs().amax(1, keepdim=True) / _MAX_INT8).clamp(min=_LEAST_SCALE)
        rounded_NC = (x_NC / scale_N1).round().to(torch.int8)
        filled_NC = F.pad(rounded_NC, (0, self.group_size - self.num_columns))
        product_NR = torch._int_mm(filled_NC, self.codes_RUx.flatten(1).t())  # noqa: SLF001 - torch has no other name for it
        return product_NR.float() * scale_N1 * self.scale_RG.t()

    def rows_at(self, numbers: Tensor) -> Tensor:
        """Return rows of the weight, [..., C]."""
        codes = self.codes_RUx[numbers]
        if self.num_bits == _NIBBLE:
            codes_C = torch.cat((codes & _LOW, codes >> _NIBBLE), -1).flatten(-2).float()
        else:
            codes_C = codes.flatten(-2).float() + _MIDDLE
        zero = self.zero if self.zero.numel() == 1 else self._spread(self.zero[numbers].float())
        return (codes_C[..., : self.num_columns] - zero) * self._spread(self.scale_RG[numbers])

    def _native(self, x_NC: Tensor) -> Tensor:
        return products(
            x_NC, self.codes_RUx, self.scale_RG, self.zero, bits=self.num_bits, group_size=self.group_size
        )

    def _spread(self, of_groups: Tensor) -> Tensor:
        return of_groups.repeat_interleave(self.group_size, -1)[..., : self.num_columns]


class Codes(Held):
    """Codes in groups that `UnitCodes` does not know: of a byte, or two of at most 4 bits in one, those of a group's first half below.

    A short last group is filled up with codes of 0.

    Args:
        form: Of 2 to 8 bits; odd groups of few bits take a byte a code.
    """

    codes_RGS: Tensor
    """Of packed ones S is half a group."""
    scale_RG: Tensor
    zero_RG: Tensor

    def __init__(self, form: Quantized) -> None:
        super().__init__()
        (R, C), G = form.codes_RC.shape, form.scale_RG.shape[1]
        self.num_columns, self.size = C, form.group_size
        self.is_packed = form.num_bits <= _NIBBLE and form.group_size % 2 == 0
        self.computed_in = "int4 weights" if self.is_packed else "int8 weights"
        codes_RGS = form.zero_RG[:, :, None].repeat(1, 1, self.size)
        codes_RGS.view(R, G * self.size)[:, :C] = form.codes_RC
        middle = 0 if self.is_packed else 2 ** (form.num_bits - 1)  # near 0, so that little cancels
        codes = _packed(codes_RGS) if self.is_packed else (codes_RGS.int() - middle).to(torch.int8)
        zero_RG = form.zero_RG.float() - middle
        self.is_centred = not bool(zero_RG.any())
        self.register_buffer("codes_RGS", codes)
        self.register_buffer("scale_RG", form.scale_RG)
        self.register_buffer("zero_RG", zero_RG)

    def one_row(self, x_C: Tensor) -> Tensor:
        """Return the product with one row, [R]."""
        G = self.scale_RG.shape[1]
        x_GS = F.pad(x_C, (0, G * self.size - self.num_columns)).view(G, self.size)
        if self.is_packed:
            half = self.size // 2
            codes_RGS = self.codes_RGS.int()  # shifts of bytes are not compiled to vectors
            low_RGS, high_RGS = (codes_RGS & _LOW).float(), (codes_RGS >> _NIBBLE).float()
            products_RGS = low_RGS * x_GS[:, :half] + high_RGS * x_GS[:, half:]
        else:
            products_RGS = self.codes_RGS.float() * x_GS
        # One sum over a whole row: sums of groups would leave vectors for single numbers once a group.
        y_R = (products_RGS * self.scale_RG[..., None]).sum((1, 2))
        if not self.is_centred:
            y_R = y_R - (self.zero_RG * self.scale_RG * x_GS.sum(-1)).sum(-1)
        return y_R

    def many_rows(self, x_NC: Tensor) -> Tensor:
        """Return the products with many rows, [N, R]."""
        return F.linear(x_NC, self._dense(slice(None)))

    def rows_at(self, numbers: Tensor) -> Tensor:
        """Return rows of the weight, [..., C]."""
        return self._dense(numbers)

    def _dense(self, rows: Tensor | slice) -> Tensor:
        codes = self.codes_RGS[rows]
        if self.is_packed:
            codes = torch.cat((codes & _LOW, codes >> _NIBBLE), -1)
        numbers = codes.float()
        if not self.is_centred:
            numbers = numbers - self.zero_RG[rows][..., None]
        return (numbers * self.scale_RG[rows][..., None]).flatten(-2)[..., : self.num_columns]


class Factors(Held):
    """Two thin weights, one after the other."""

    def __init__(self, form: LowRank) -> None:
        super().__init__()
        self.right, self.left = _factor(form.right_KC), _factor(form.left_RK)
        self.computed_in = self.left.computed_in

    def one_row(self, x_C: Tensor) -> Tensor:
        """Return the product with one row, [R]."""
        return self.left.one_row(self.right.one_row(x_C))

    def many_rows(self, x_NC: Tensor) -> Tensor:
        """Return the products with many rows, [N, R]."""
        return self.left.many_rows(self.right.many_rows(x_NC))

    def rows_at(self, numbers: Tensor) -> Tensor:
        """Return rows of the weight, [..., C]."""
        rows_NK = self.left.rows_at(numbers)
        whole_KC = self.right.rows_at(torch.arange(rows_NK.shape[-1], device=numbers.device))
        return rows_NK @ whole_KC


def _codes(form: Quantized) -> Held:
    return UnitCodes(form) if UnitCodes.knows(form) else Codes(form)


def _factor(weight: Tensor | Quantized) -> Held:
    return _codes(weight) if isinstance(weight, Quantized) else Dense(dense_of(weight))


def _packed(codes_RGS: Tensor) -> Tensor:
    first, second = codes_RGS.chunk(2, -1)
    return first | (second << _NIBBLE)
