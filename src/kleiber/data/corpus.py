"""From a source to tokens on disk, once: read, split, train the tokenizer, encode."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from kleiber.data.documents import Cleaned, chosen_documents, cleaned
from kleiber.data.given_tokenizer import given_tokenizer
from kleiber.data.holdout import Split, split
from kleiber.data.passages import Passage, joined
from kleiber.data.prepared import NpyWriter
from kleiber.data.source_files import SourceFiles
from kleiber.data.stdlib import stdlib_files
from kleiber.data.text_files import text_files
from kleiber.data.text_spool import Span, TextSpool, blocks_of
from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import load_tokenizer, train_tokenizer
from kleiber.errors import DataError, RunFolderError, nearest
from kleiber.runs.document import Document, hash_of
from kleiber.runs.files import write_folder
from kleiber.runs.recipe import DataRecipe

__all__ = ["Corpus", "CorpusMeta", "Progress", "open_corpus", "source_files"]

Progress = Callable[[str], None]
"""Is told the stage that begins, in a few words."""

_HEEDED = {
    "source",
    "field",
    "vocab_size",
    "val_frac",
    "max_samples",
    "selection",
    "duplicates",
    "has_quality_filter",
}
"""Keys of a recipe that tokens depend on."""

_VERSION: Literal[2] = 2
"""Of the preparation below: raise it when the same files would give other tokens."""


class CorpusMeta(Document):
    """What was prepared: `meta.json` beside the tokens."""

    version: Literal[2] = 2
    source: str
    corpus_hash: str
    """Of the documents' names and texts in order."""
    tokenizer_hash: str
    vocab_size: int
    num_documents: int
    num_val_passages: int
    """Documents, or parts of long ones, that are held out."""
    num_lines_cut: int
    """Boiler-plate lines that validation lost because train holds them too."""
    num_train_tokens: int
    num_val_tokens: int
    num_duplicates: int | None = None
    """Documents left out as copies of others; None where nobody looked."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus; its tokens stay on disk until they are read."""

    folder: Path
    meta: CorpusMeta
    train_tokens: npt.NDArray[np.unsignedinteger]
    val_tokens: npt.NDArray[np.unsignedinteger]
    val_num_bytes: npt.NDArray[np.int32]
    """Bytes of text that each token of validation stands for [num_val_tokens]."""


def source_files(recipe: DataRecipe) -> SourceFiles:
    """Return the files that a recipe's source names.

    Raises:
        DataError: The source is unknown, or nothing is there.
    """
    kind, colon, argument = recipe.source.partition(":")
    if kind == "text" and colon:
        return text_files(argument, recipe.field)
    if recipe.source != "stdlib":
        raise DataError(
            f"data.source must be stdlib or text:PATH. {nearest(kind, ['stdlib', 'text:PATH'])}",
            got=recipe.source,
            hint="--set data.source=text:book.txt",
        )
    if recipe.field is not None:
        raise DataError(
            "data.field names a column of .jsonl and .parquet files, and 'stdlib' has none.",
            got=recipe.field,
            hint="--set data.field=null",
        )
    return stdlib_files()


def open_corpus(recipe: DataRecipe, cache: Path, on_progress: Progress) -> Corpus:
    """Return the prepared corpus of a recipe, from the cache when its files have not changed.

    The key is of names, sizes and times of change, so that nothing need be read to find a corpus; touching a
    file only costs another preparation. What a corpus *is* says `corpus_hash`, which is of its text.

    Raises:
        DataError: The source cannot be read, split or tokenized, or the cache is damaged.
        StorageError: The cache cannot be written.
    """
    files = source_files(recipe)
    given, recipe = given_tokenizer(recipe)
    key = hash_of(
        {
            "version": _VERSION,
            "root": str(files.root.resolve()),
            "files": files.stats(),
            "recipe": recipe.model_dump(include=_HEEDED),
            "tokenizer": given and given.key(),
            "python": platform.python_version(),
            "tokenizers": metadata.version("tokenizers"),
        }
    )
    folder = cache / "corpora" / key
    if not folder.is_dir():
        _prepare(files, recipe, given, cache=cache, folder=folder, on_progress=on_progress)
    return _load(folder)


def _prepare(
    files: SourceFiles,
    recipe: DataRecipe,
    given: TextTokenizer | None,
    *,
    cache: Path,
    folder: Path,
    on_progress: Progress,
) -> None:
    """Write a corpus; memory holds hashes of lines and what is held out, not the text."""
    on_progress("reading the text")
    with TextSpool(cache) as spool:
        clean = cleaned(list(files.documents(spool)), recipe)
        on_progress("grouping near-duplicates")
        parts = split(clean.documents, recipe.val_frac, source=recipe.source)
        chosen = chosen_documents(parts.train, recipe)
        tokenizer = given
        if tokenizer is None:
            on_progress("training the tokenizer")
            # Of all training documents: losses on more or fewer of them compare.
            tokenizer = TextTokenizer(_trained(parts.train, recipe, cache))
        on_progress("encoding")
        write_folder(
            folder,
            partial(
                _write, source=recipe.source, clean=clean, parts=parts, chosen=chosen, tokenizer=tokenizer
            ),
        )


def _write(
    target: Path,
    *,
    source: str,
    clean: Cleaned,
    parts: Split,
    chosen: Sequence[Passage],
    tokenizer: TextTokenizer,
) -> None:
    """Fill the folder of a corpus."""
    with closing(NpyWriter(target / "train.npy")) as train:
        for tokens in tokenizer.encode_parts(joined(chosen), separator=tokenizer.end_id):
            train.append(tokens)
    val = list(joined(parts.val))
    val_tokens = tokenizer.encode(val, separator=tokenizer.end_id).tokens
    np.save(target / "val.npy", val_tokens)
    np.save(target / "val_num_bytes.npy", tokenizer.num_bytes(val, val_tokens))
    tokenizer.write(target)
    meta = CorpusMeta(
        source=source,
        corpus_hash=_hash_texts(text for one in clean.documents for text in (one.name, one.content)),
        tokenizer_hash=tokenizer.hash,
        vocab_size=tokenizer.vocab_size,
        num_documents=len(clean.documents),
        num_val_passages=len(parts.val),
        num_lines_cut=parts.num_lines_cut,
        num_train_tokens=train.num,
        num_val_tokens=len(val_tokens),
        num_duplicates=clean.num_duplicates,
        notes=(*clean.notes, *tokenizer.note()),
    )
    meta.write(target / "meta.json")


def _trained(train: Sequence[Passage], recipe: DataRecipe, cache: Path) -> Tokenizer:
    """Return the tokenizer of a train split, trained unless the same text was seen before."""
    version = metadata.version("tokenizers")
    key = hash_of(
        {"text": _hash_texts(joined(train)), "vocab_size": recipe.vocab_size, "tokenizers": version}
    )
    folder = cache / "tokenizers" / key
    if folder.is_dir():
        return load_tokenizer(folder)
    tokenizer = train_tokenizer(joined(train), recipe.vocab_size, source=recipe.source)
    write_folder(folder, TextTokenizer(tokenizer).write)
    return tokenizer


def _hash_texts(texts: Iterable[str | Span]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        num_bytes = sum(len(block) for block in _encoded(text))
        digest.update(num_bytes.to_bytes(8, "little"))  # else ("ab", "c") would be ("a", "bc")
        for block in _encoded(text):
            digest.update(block)
    return digest.hexdigest()[:16]


def _encoded(text: str | Span) -> Iterator[bytes]:
    return (block.encode(errors="surrogateescape") for block in blocks_of(text))


def _load(folder: Path) -> Corpus:
    try:
        return Corpus(
            folder=folder,
            meta=CorpusMeta.read(folder / "meta.json"),
            train_tokens=np.load(folder / "train.npy", mmap_mode="r"),
            val_tokens=np.load(folder / "val.npy", mmap_mode="r"),
            val_num_bytes=np.load(folder / "val_num_bytes.npy", mmap_mode="r"),
        )
    except (OSError, ValueError, EOFError, RunFolderError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"the prepared corpus {folder} is damaged: {reason}", hint=f"rm -r {folder}   and run again"
        ) from None
