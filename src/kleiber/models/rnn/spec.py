"""The sizes of an `rnn` model and what follows from them, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kleiber.cost.flops import FlopConvention, FlopCount
from kleiber.errors import RecipeError
from kleiber.runs import DataShape, Document, ParamCount

__all__ = ["CELL_GATES", "Cell", "RNNSpec"]

Cell = Literal["elman", "gru", "lstm"]
CELL_GATES: dict[Cell, int] = {"elman": 1, "gru": 3, "lstm": 4}
"""Vectors of `width` features that a cell computes of its input and state (Elman 1990; Cho et al. 2014, arXiv:1406.1078;
Hochreiter and Schmidhuber 1997)."""


class RNNSpec(Document):
    """Shape of layers of recurrent cells, each reading the states of the layer below.

    Example:
        >>> spec = RNNSpec.of_size({"depth": 2, "width": 32}, RNNSpec.example_shape)
        >>> spec.cell, spec.count().body  # 2 layers of 4 gates: 32 x 64 weights and two biases of 32
        ('lstm', 16896)
    """

    example_shape: ClassVar[DataShape] = DataShape(inputs="tokens", vocab_size=1024, context=128)
    """Data that the family is planned on when none is named."""

    family: Literal["rnn"] = "rnn"
    cell: Cell = "lstm"
    depth: Annotated[int, Field(strict=True, ge=1, le=10_000)]
    """Layers."""
    width: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
    """Features of a state, and of a token's embedding."""
    shape: DataShape
    """Tokens, to model or to answer, or a series to answer."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Of the state of an Elman cell; the others' own is tanh."""
    pooling: Literal["last", "mean"] = "last"
    """What an answer is given from: the last state, or the mean over all steps."""
    is_tied: bool = Field(default=False, strict=True)
    """Of a language model: the output projection is the embedding table (Press and Wolf 2017, arXiv:1608.05859)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of what enters and leaves each layer, not of what passes from step to step (Zaremba et al. 2014, arXiv:1409.2329)."""
    init: Literal["default", "xavier", "orthogonal"] = "default"
    """Of the recurrent weights, gate by gate: torch's own; Glorot and Bengio 2010; Saxe et al. 2014 with Glorot's of the input."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not _is_readable(self.shape):
            raise ValueError(f"{_READS} Got {self.shape.inputs}")
        if self.activation != "tanh" and self.cell != "elman":
            raise ValueError(f"activation {self.activation} is for cell elman, got cell {self.cell}")
        if self.is_language_model and self.pooling != "last":
            raise ValueError(f"pooling has no effect on a language model, got {self.pooling}")
        if self.is_tied and not self.is_language_model:
            raise ValueError("is_tied is for language models, got data with num_outputs")
        return self

    @classmethod
    def of_size(cls, size: Mapping[str, Any], shape: DataShape) -> Self:
        """Return the spec that a size dial gives.

        Args:
            size: `depth`, `width` or `params` (a target), and any field of the spec to override what follows.
            shape: Of the data.

        Raises:
            RecipeError: Data that the family cannot read, an unknown key, an absurd number, a target out of reach.
        """
        from kleiber.models.rnn.dial import resolve_dial  # noqa: PLC0415 - the dial returns specs

        if not _is_readable(shape):
            raise RecipeError(_READS, got=shape.inputs, hint="--set model.family=mlp   for tables and images")
        return cls.model_validate(resolve_dial(size, shape).model_dump())

    @property
    def is_language_model(self) -> bool:
        """Whether each next token is predicted, not one answer for all."""
        return self.shape.num_outputs is None

    @property
    def num_inputs(self) -> int:
        """Features of a step that the first layer reads."""
        return self.shape.num_features or self.width

    @property
    def num_outputs(self) -> int:
        """Numbers that the head returns of a state."""
        return self.shape.num_outputs or self.shape.vocab_size or 0

    def hidden_shapes(self) -> list[tuple[int, int]]:
        """Return rows and columns of every matrix between embedding and head: of each gate, of input and of state."""
        gates = CELL_GATES[self.cell]
        return [
            shape
            for columns in self._columns
            for shape in [(self.width, columns)] * gates + [(self.width, self.width)] * gates
        ]

    def count(self) -> ParamCount:
        """Return the parameters by group; equal to what the built module holds."""
        biases = 2 * CELL_GATES[self.cell] * self.width * self.depth
        head = 0 if self.is_tied else self.num_outputs * self.width
        return ParamCount(
            embedding=(self.shape.vocab_size or 0) * self.width,
            body=sum(rows * columns for rows, columns in self.hidden_shapes()) + biases,
            head=head + (0 if self.is_language_model else self.num_outputs),
            is_tied=self.is_tied,
        )

    def flops(
        self, batch: int, context: int | None = None, *, convention: FlopConvention = "causal"
    ) -> FlopCount:
        """Return the operations of one step on `batch` sequences of `context` steps.

        Forward, 2 per multiply-add: every gate's matrices on each step, and the head on each step of a language model, on
        one state else. Backward is twice that. Two gradients that nobody needs are left out of Elman and GRU, which torch
        runs step by step: of a series, and of the zero state before the first step. An LSTM is one fused
        operation a layer, which returns them.

        Args:
            batch: Sequences.
            context: Steps of a sequence; None is the longest.
            convention: Named only: there is no attention.
        """
        steps = batch * (context or self.shape.context or 1)
        gate_rows = CELL_GATES[self.cell] * self.width
        weights = sum(rows * columns for rows, columns in self.hidden_shapes())
        head = 2 * (steps if self.is_language_model else batch) * self.num_outputs * self.width
        forward = 2 * steps * weights + head
        unneeded = 2 * batch * gate_rows * self.width * self.depth
        if self.shape.inputs == "series":
            unneeded += 2 * steps * gate_rows * self.num_inputs
        backward = 2 * forward - (0 if self.cell == "lstm" else unneeded)
        return FlopCount(forward=forward, backward=backward, convention=convention)

    @property
    def _columns(self) -> list[int]:
        """Features that each layer reads."""
        return [self.num_inputs] + [self.width] * (self.depth - 1)


_READS = "rnn reads tokens, to model or to answer, and series, to answer."


def _is_readable(shape: DataShape) -> bool:
    if shape.context is None:
        return False
    if shape.inputs == "series":
        return shape.num_features is not None and shape.num_outputs is not None
    return shape.inputs == "tokens" and shape.vocab_size is not None
