"""Which documents of a text are learnt from: without faults, without copies, as many as asked for."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kleiber.data.near_duplicates import group_near_duplicates
from kleiber.data.passages import Passage
from kleiber.data.texts.quality import fault_of
from kleiber.data.windows import windows_of
from kleiber.errors import DataError
from kleiber.runs.recipe import DataRecipe

__all__ = ["Cleaned", "chosen_documents", "cleaned"]

MIN_COPIED_FRAC = 0.5
"""A near-copy shares this part of the shorter document's five-line windows; whole groups are held out at far less."""


@dataclass(frozen=True)
class Cleaned:
    """Documents that are left, in their order."""

    documents: list[Passage]
    num_duplicates: int | None
    """Left out as copies of earlier documents; None where nobody looked."""
    notes: tuple[str, ...]


def cleaned(documents: Sequence[Passage], recipe: DataRecipe) -> Cleaned:
    """Return the documents that `data.has_quality_filter` and `data.duplicates` leave.

    Raises:
        DataError: The filter leaves none.
    """
    kept, notes = list(documents), []
    if recipe.has_quality_filter:
        faults = [fault_of(document.text) for document in documents]
        kept = [document for document, fault in zip(documents, faults, strict=True) if fault is None]
        counts = Counter(fault for fault in faults if fault is not None)
        if not kept:
            raise DataError(
                f"data.has_quality_filter would leave no document of '{recipe.source}'.",
                got=dict(counts),
                hint="--set data.has_quality_filter=false",
            )
        if counts:
            reasons = ", ".join(f"{count:,} {fault}" for fault, count in counts.most_common())
            notes.append(
                f"the quality filter left out {counts.total():,} of {len(documents):,} documents: {reasons}"
            )
    if recipe.duplicates == "keep":
        return Cleaned(kept, None, tuple(notes))
    firsts = _firsts(kept, recipe.duplicates)
    return Cleaned([kept[index] for index in firsts], len(kept) - len(firsts), tuple(notes))


def _firsts(documents: Sequence[Passage], kind: Literal["exact", "near"]) -> list[int]:
    """Return the first document of each group of copies."""
    first_of: dict[bytes, int] = {}
    for index, document in enumerate(documents):
        content = document.text.strip().encode(errors="surrogateescape")
        first_of.setdefault(hashlib.sha256(content).digest(), index)
    exact = list(first_of.values())
    if kind == "exact":
        return exact
    groups = group_near_duplicates(
        [windows_of(documents[index].text) for index in exact], min_shared_frac=MIN_COPIED_FRAC
    )
    return [exact[group[0]] for group in groups]


def chosen_documents(train: Sequence[Passage], recipe: DataRecipe) -> list[Passage]:
    """Return the passages of the training documents that `data.max_samples` and `data.selection` keep, in their order.

    What is chosen of a smaller `max_samples` is among what is chosen of a larger one.

    Raises:
        DataError: There are fewer documents, or they cannot be chosen like that.
    """
    if recipe.selection == "balanced":
        raise DataError(
            f"data.selection 'balanced' goes by class, and the documents of '{recipe.source}' have none.",
            hint="--set data.selection=random",
        )
    sizes: Counter[str] = Counter()
    for passage in train:
        sizes[passage.document] += passage.num_chars
    num = recipe.max_samples
    if num is None:
        if recipe.selection != "random":
            raise DataError(
                f"data.selection '{recipe.selection}' needs data.max_samples: how many documents are kept.",
                hint=f"--set data.max_samples={max(1, len(sizes) // 2)}",
            )
        return list(train)
    if num > len(sizes):
        raise DataError(
            f"data.max_samples must be at most the {len(sizes):,} training documents of '{recipe.source}'.",
            got=num,
            hint="--set data.max_samples=null   to take all",
        )
    sign = {"random": 0, "shortest": 1, "longest": -1}[recipe.selection]
    order = sorted(sizes, key=lambda name: (sign * sizes[name], _digest(name)))
    chosen = set(order[:num])
    return [passage for passage in train if passage.document in chosen]


def _digest(name: str) -> str:
    # Not the hash that says what is held out: the two choices are independent.
    return hashlib.sha256(f"chosen {name}".encode(errors="surrogateescape")).hexdigest()
