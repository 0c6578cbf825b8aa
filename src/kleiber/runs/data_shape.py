"""What a model sees of its data: all that a family needs to know of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kleiber.runs.document import Document

__all__ = ["PAD_ID", "DataShape", "InputKind"]

InputKind = Literal["tokens", "images", "features", "series", "pairs", "captions"]
"""What goes in: `tokens` [B, T], `images` [B, C, H, W] (spectrograms too), `features` [B, F], `series` [B, T, F], `pairs`
of a source and a target text, `captions`: images with a text each."""

PAD_ID = 0
"""The token that fills short texts where the tokenizer was trained here: `<|endoftext|>`, which never stands inside one."""

_Positive = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]


class DataShape(Document):
    """Sizes of what goes in and of what is asked; None is what does not apply.

    Example:
        >>> DataShape(inputs="images", channels=3, height=32, width=32, num_outputs=10).num_inputs
        3072
    """

    inputs: InputKind
    vocab_size: _Positive | None = None
    """Entries of the tokenizer; pairs share one."""
    context: _Positive | None = None
    """Longest sequence [tokens, or steps of a series]; of pairs, of either side."""
    channels: _Positive | None = None
    height: _Positive | None = None
    width: _Positive | None = None
    """[pixels, or frames of a spectrogram]"""
    num_features: _Positive | None = None
    """Columns of a table, or values at each step of a series."""
    num_outputs: _Positive | None = None
    """Classes, or values to predict; None where tokens or a likeness are predicted."""
    pad_id: int = Field(default=PAD_ID, strict=True, ge=0)
    """The token that fills short texts, and begins targets."""
    end_id: int = Field(default=PAD_ID, strict=True, ge=0)
    """The token that ends targets."""

    @property
    def num_inputs(self) -> int:
        """Numbers that a sample consists of, token ids included."""
        sizes = {
            "tokens": (self.context,),
            "images": (self.channels, self.height, self.width),
            "features": (self.num_features,),
            "series": (self.context, self.num_features),
            "pairs": (2, self.context),
            "captions": (self.channels, self.height, self.width),
        }[self.inputs]
        product = 1
        for size in sizes:
            product *= size or 1
        return product + (self.context or 0 if self.inputs == "captions" else 0)
