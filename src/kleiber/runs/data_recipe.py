"""What is learnt from, as a recipe says it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from kleiber.runs.data_shape import DataShape
from kleiber.runs.document import Document

__all__ = ["AugmentRecipe", "DataRecipe"]

_MIN_TRAINED = 257
"""The bytes, and the end of text."""


class AugmentRecipe(Document):
    """One random change of training samples."""

    name: Literal[
        "flip", "rotate", "scale_crop", "shift", "colour", "cutout", "mixup", "token_mask", "token_delete", "time_shift",
        "noise", "spec_augment",
    ]  # fmt: skip
    strength: float = Field(default=1.0, gt=0, le=100)
    """1 is the usual amount of each; `kleiber.data.augment` says what that is."""
    prob: float = Field(default=1.0, gt=0, le=1)
    """How often it is applied to a sample; `flip` is applied to half of those."""

    @model_validator(mode="before")
    @classmethod
    def _is_mapping(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            raise ValueError(f"an augmentation is written {{name: {raw}}}, got {raw!r}")  # noqa: TRY004 - pydantic wants it
        return raw


class DataRecipe(Document):
    """What it is learnt from."""

    source: str = "stdlib"
    """`stdlib` or `text:PATH` for lm; `digits`, `breast_cancer`, `diabetes`, `wine`, `imagefolder:`, `audiofolder:`, `csv:`, `jsonl:`,
    `parquet:`, `npz:`, `cifar10:`, `pairs:`, `series:` with a path, or `hf:NAME` for the others."""
    field: str | None = None
    """Text column of a table; the source's side of pairs."""
    target: str | None = None
    """Column to predict; the target's side of pairs. None takes the last."""
    columns: tuple[str, ...] | None = None
    """Columns of features; None takes all but the target."""
    split_field: str | None = None
    """Column whose values `train`, `valid` and `test` say where a row belongs; None takes what the source says, or splits."""
    tokenizer: str | None = Field(default=None, min_length=1)
    """Folder (or name on the hub) of the tokenizer that texts are read by, its special tokens included; None takes that of an `hf`
    model's folder, else trains one on the train split."""
    vocab_size: int = Field(default=1024, ge=2, le=1_000_000)
    """Entries of the byte-level BPE tokenizer that is trained, at least 257; of another tokenizer it follows."""
    context: int = Field(default=128, ge=2, le=1_048_576)
    """Tokens in a sequence; steps in a window of a series."""
    horizon: int = Field(default=1, ge=1, le=10_000)
    """Steps of a series to predict."""
    val_frac: float = Field(default=0.05, gt=0, lt=0.5)
    """Fraction of the training data held out for validation, in whole groups of near-duplicates where it is text."""
    test_frac: float = Field(default=0.0, ge=0, lt=0.5)
    """Fraction held out for the test after training, where the source has no test split of its own."""
    val_tokens: int = Field(default=65_536, ge=2, le=10**9)
    """Size of the fixed evaluation set of text; fewer when the held-out text is smaller."""
    image_size: int | None = Field(default=None, ge=1, le=4096)
    """Pixels of each side after resizing; None takes the images' own, which must agree."""
    normalization: Literal["standard", "unit", "none"] = "standard"
    """`standard`: mean 0 and deviation 1 a channel or column; `unit`: 0 to 1; fitted on the training split alone."""
    max_samples: int | None = Field(default=None, ge=1)
    """Training samples (documents of text) that are kept; None keeps all."""
    selection: Literal["random", "balanced", "shortest", "longest"] = "random"
    """Which are kept: `balanced` takes as many of each class, the lengths are those of text."""
    positive_frac: float | None = Field(default=None, gt=0, lt=1)
    """Share to which the rarer of two classes is thinned out, in every split; None leaves it."""
    duplicates: Literal["keep", "exact", "near"] = "keep"
    """Which copies of other samples are removed from the training split, those of held-out samples first."""
    has_quality_filter: bool = False
    """Whether documents that look like no prose or code (repeated lines, symbols, no words) are left out."""
    skips_bad_samples: bool = False
    """Whether what cannot be decoded is counted and left out instead of refused."""
    augment: tuple[AugmentRecipe, ...] = ()
    """Random changes of training samples, in order."""
    num_workers: int = Field(default=0, ge=0, le=256)
    """Processes that prepare batches ahead; the batches are the same with any number."""
    shape: DataShape | None = None
    """What came out; resolved when the run starts, None for lm, whose vocabulary and context say all."""

    @field_validator("vocab_size")
    @classmethod
    def _holds_bytes(cls, value: int, info: ValidationInfo) -> int:
        if value < _MIN_TRAINED and info.data.get("tokenizer") is None:
            raise ValueError(f"a tokenizer that is trained has at least {_MIN_TRAINED} entries, got {value}")
        return value
