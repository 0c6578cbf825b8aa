"""Text, ready to learn from: the room's front door."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kleiber.data.augment import check_augment
from kleiber.data.batches import Batch, num_sequences, ordered_batches, shuffled_batches
from kleiber.data.corpus import Corpus, Progress, open_corpus
from kleiber.data.data import Data, Split
from kleiber.data.sample_checks import refuse_without_effect
from kleiber.data.text_tokenizer import saved_tokenizer
from kleiber.errors import DataError, RecipeError
from kleiber.runs import DataShape, default_cache
from kleiber.runs.recipe import DataRecipe
from kleiber.runs.record import DataMeta
from kleiber.units import format_count

__all__ = ["MAX_EPOCHS", "TextData", "open_text", "require_tokens", "save_tokenizer"]

MAX_EPOCHS = 4
"""Up to four passes over the same text are nearly as good as fresh text (Muennighoff et al. 2023,
arXiv:2305.16264); a law fitted beyond them would measure repetition, not size."""

_NONE = np.empty(0, np.intp)


@dataclass(frozen=True)
class TextData:
    """A tokenized corpus with its fixed evaluation set."""

    meta: DataMeta
    seed: int
    """Of the order of the training sequences."""
    train_tokens: npt.NDArray[np.unsignedinteger]
    """The packed train split, on disk."""
    val_tokens: npt.NDArray[np.unsignedinteger]
    """The packed validation split, on disk; the evaluation set is taken from it."""
    val_starts: npt.NDArray[np.intp]
    """Where in `val_tokens` the sequences of the evaluation set begin."""
    val_bytes: int
    """Bytes of text that the targets of the evaluation set stand for; an end of text stands for none."""
    tokenizer_path: Path

    @property
    def context(self) -> int:
        """Tokens of a sequence."""
        return self.meta.shape.context or 0

    def batches(self, split: Split, cursor: int, batch_size: int) -> Iterator[Batch]:
        """Return batches from `cursor` on: without end for train, one pass for val; there is no test split.

        Args:
            split: `train` is shuffled anew each epoch; `val` is the evaluation set in its fixed order.
            cursor: Sequences consumed so far; a batch's own `cursor` says where to go on.
            batch_size: Sequences a batch; the last one of `val` may be smaller.

        Raises:
            RecipeError: The cursor is negative or the batch size is not positive.
        """
        if cursor < 0 or batch_size < 1:
            raise RecipeError(
                "batches take a cursor of 0 or more and a batch_size of 1 or more.", got=(cursor, batch_size)
            )
        context = self.context
        if split != "train":
            return ordered_batches(
                self.val_tokens,
                self.val_starts if split == "val" else _NONE,
                context=context,
                cursor=cursor,
                batch_size=batch_size,
            )
        return shuffled_batches(
            self.train_tokens, context=context, seed=self.seed, cursor=cursor, batch_size=batch_size
        )


def open_text(
    recipe: DataRecipe, *, seed: int, cache: Path | None = None, on_progress: Progress | None = None
) -> TextData:
    """Return the text of a recipe as tokens, prepared on the first call and found in the cache after.

    Args:
        recipe: Source, vocabulary, context and what is held out.
        seed: Of the order of the training sequences.
        cache: Folder of prepared corpora; `$KLEIBER_CACHE` or `~/.cache/kleiber` by default.
        on_progress: Is told each stage of a preparation as it begins.

    Raises:
        DataError: The source is missing, empty, binary, or too small for the vocabulary or the context.
        MissingExtraError: The source's format needs a package that is not installed.
        StorageError: The cache cannot be written.
    """
    refuse_without_effect(
        recipe,
        used={"field", "has_quality_filter", "tokenizer"},
        also=("test_frac", "positive_frac", "skips_bad_samples", "normalization", "num_workers"),
    )
    check_augment(recipe.augment, DataShape(inputs="tokens"), "lm")
    corpus = open_corpus(recipe, cache or default_cache(), on_progress or (lambda _: None))
    for name, tokens in (("training", corpus.train_tokens), ("held-out", corpus.val_tokens)):
        if num_sequences(len(tokens), recipe.context) < 1:
            raise DataError(
                f"data.context {recipe.context} is too long for '{recipe.source}': its {name} text has "
                f"{len(tokens)} tokens.",
                hint=f"--set data.context={max(2, len(tokens) // 2)}   or a longer text",
            )
    return _with_evaluation_set(corpus, recipe, seed)


def _with_evaluation_set(corpus: Corpus, recipe: DataRecipe, seed: int) -> TextData:
    context = recipe.context
    num_available = num_sequences(len(corpus.val_tokens), context)
    num = min(num_available, max(1, recipe.val_tokens // context))
    # Spread evenly, so that a small evaluation set still sees every held-out document.
    starts = np.arange(num) * num_available // num * context
    windows = np.asarray(corpus.val_tokens)[starts[:, None] + np.arange(context + 1)]
    val_bytes = int(corpus.val_num_bytes[starts[:, None] + np.arange(1, context + 1)].sum())
    meta = DataMeta(
        source=recipe.source,
        corpus_hash=corpus.meta.corpus_hash,
        python_version=platform.python_version(),
        tokenizer_hash=corpus.meta.tokenizer_hash,
        eval_hash=_eval_hash(windows, context, corpus.meta.tokenizer_hash),
        shape=DataShape(inputs="tokens", vocab_size=corpus.meta.vocab_size, context=context),
        num_documents=corpus.meta.num_documents,
        num_train_tokens=len(corpus.train_tokens),
        num_val_tokens=num * context,
        val_bytes_per_token=val_bytes / (num * context),
        num_duplicates=corpus.meta.num_duplicates,
        notes=corpus.meta.notes,
    )
    return TextData(
        meta=meta,
        seed=seed,
        train_tokens=corpus.train_tokens,
        val_tokens=corpus.val_tokens,
        val_starts=starts,
        val_bytes=val_bytes,
        tokenizer_path=corpus.folder / "tokenizer.json",
    )


def _eval_hash(windows: npt.NDArray[np.unsignedinteger], context: int, tokenizer: str) -> str:
    digest = hashlib.sha256(f"{context} {tokenizer} ".encode())
    digest.update(windows.astype("<u4").tobytes())
    return digest.hexdigest()[:16]


def save_tokenizer(data: Data, folder: Path) -> None:
    """Write the tokenizer of texts beside a model, so that `AutoTokenizer.from_pretrained(folder)` loads it."""
    if data.tokenizer_path is not None:
        saved_tokenizer(data.tokenizer_path.parent).write(folder, context=data.meta.shape.context or 0)


def require_tokens(meta: DataMeta, num_tokens: int) -> None:
    """Refuse a run that would pass over its text too often.

    Args:
        meta: The text.
        num_tokens: Tokens that the run trains on, repeats included.

    Raises:
        DataError: That is more than four passes.
    """
    if num_tokens > MAX_EPOCHS * meta.num_train_tokens:
        raise DataError(
            f"data.source '{meta.source}' is too small: it has {meta.num_train_tokens:,} training tokens, and "
            f"{num_tokens:,} would pass over them {num_tokens / meta.num_train_tokens:.1f} times; "
            f"up to {MAX_EPOCHS} times is allowed.",
            hint=f"train on at most {format_count(MAX_EPOCHS * meta.num_train_tokens)} tokens, "
            "or --set data.source=text:PATH with a longer text",
        )
