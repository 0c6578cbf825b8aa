"""Copies among samples: out of the training split, so that what is held out is new and nothing is learnt twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from kleiber.data.normalization import chunks
from kleiber.data.perceptual_hash import first_lookalikes, low_frequencies
from kleiber.data.sample_checks import num_in
from kleiber.data.source import Part
from kleiber.errors import DataError

__all__ = ["Copies", "without_copies"]


@dataclass(frozen=True)
class Copies:
    """What was removed from the training split."""

    train: Part
    """Without them."""
    num_of_held_out: int
    """Removed because a held-out sample is the same."""
    num_of_train: int
    """Removed because an earlier training sample is the same."""
    num_contradicting: int
    """Of those, with another label than the sample they copy."""

    @property
    def num_removed(self) -> int:
        """Samples."""
        return self.num_of_held_out + self.num_of_train

    @property
    def note(self) -> str:
        """Said in a sentence."""
        text = (
            f"{num_in(self.num_of_held_out, 'training sample')} that copied held-out ones and {self.num_of_train:,} that copied "
            "training ones were removed"
        )
        return text + (
            f"; {self.num_contradicting:,} of them had another label." if self.num_contradicting else "."
        )


def without_copies(parts: Mapping[str, Part], kind: Literal["exact", "near"], *, source: str) -> Copies:
    """Return the training samples that copy neither a held-out nor an earlier training sample.

    Args:
        parts: The splits.
        kind: `exact`: what goes in is the same to the bit. `near`: or images look alike, or texts share passages as the source's
            groups say.
        source: What the user typed, for errors.

    Raises:
        DataError: `near` is asked of samples that are neither images nor text, or every training sample copies a held-out one.
    """
    ordered = [parts[name] for name in ("val", "test", "train") if name in parts]
    num_held_out = sum(map(len, ordered[:-1]))
    first = _first_equal(np.concatenate([_digests(part) for part in ordered]))
    if kind == "near":
        first = np.minimum(first, _first_near(ordered, source))
    first_of_train = first[num_held_out:]
    is_copy = first_of_train < np.arange(num_held_out, len(first))
    if is_copy.all():
        raise DataError(
            f"data.duplicates '{kind}' would leave no training sample of '{source}': all {len(is_copy):,} copy held-out ones.",
            hint="--set data.duplicates=keep   or a train split of its own",
        )
    of_held_out = is_copy & (first_of_train < num_held_out)
    num_contradicting = 0
    if ordered[-1].labels is not None:
        labels = np.concatenate([part.labels for part in ordered if part.labels is not None])
        num_contradicting = int((labels[first_of_train] != labels[num_held_out:]).sum())
    return Copies(
        train=parts["train"].take(np.flatnonzero(~is_copy)),
        num_of_held_out=int(of_held_out.sum()),
        num_of_train=int((is_copy & ~of_held_out).sum()),
        num_contradicting=num_contradicting,
    )


def _digests(part: Part) -> npt.NDArray[np.void]:
    """Return 16 bytes that stand for what goes in [N]."""
    digests = bytearray()
    for indices, arrays in chunks(part.samples):
        rows = [np.ascontiguousarray(arrays[role]) for role in sorted(arrays)]
        for row in range(len(indices)):
            digest = hashlib.blake2b(digest_size=16)
            for array in rows:
                digest.update(array[row].tobytes())
            digests += digest.digest()
    return np.frombuffer(bytes(digests), "V16")


def _first_equal(keys: npt.NDArray[np.generic]) -> npt.NDArray[np.intp]:
    """Return for each key where it stands first.

    Example:
        >>> _first_equal(np.array([7, 5, 7])).tolist()
        [0, 1, 0]
    """
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    found: npt.NDArray[np.intp] = first[inverse]
    return found


def _first_near(ordered: list[Part], source: str) -> npt.NDArray[np.intp]:
    groups = [part.groups for part in ordered if part.groups is not None]
    if len(groups) == len(ordered):
        return _first_equal(np.concatenate(groups))
    probe = ordered[-1].samples.gather(np.zeros(1, np.intp))
    if "images" not in probe:
        raise DataError(
            f"data.duplicates 'near' compares images and texts, and '{source}' has {' and '.join(sorted(probe))}.",
            hint="--set data.duplicates=exact",
        )
    return first_lookalikes(
        np.concatenate(
            [low_frequencies(arrays["images"]) for part in ordered for _, arrays in chunks(part.samples)]
        )
    )
