"""Everything Kleiber raises on purpose.

KleiberError                 exit 1: the work failed
├── UsageError               exit 2: what was asked cannot be done as asked
│   ├── RecipeError          a recipe, a size or a design breaks a rule
│   ├── DataError            a text, table or column is missing, empty or unreadable
│   ├── RunFolderError       a folder is not a run, or a document in it does not parse
│   ├── ConventionError      two numbers were counted or measured in different ways
│   └── MissingExtraError    an optional dependency is not installed
├── CheckpointError          no checkpoint can be read
├── DivergedError            training left the finite numbers
├── GateError                no result meets the bounds that were asked for
├── StorageError             the disk refused a write
└── Interrupted              Ctrl-C or SIGTERM, after a checkpoint: exit 130
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConventionError",
    "DataError",
    "DivergedError",
    "GateError",
    "Interrupted",
    "KleiberError",
    "MissingExtraError",
    "RecipeError",
    "RunFolderError",
    "StorageError",
    "UsageError",
    "nearest",
]


class KleiberError(Exception):
    """Base of the tree.

    Args:
        message: One sentence: what the user typed and the constraint it broke.
        got: What was found instead; shown by `repr` after "Got".
        hint: A line that would work, shown after "try:".

    Example:
        >>> print(KleiberError("--tokens must be positive.", got=-2, hint="kleiber plan gpt:depth=12"))
        --tokens must be positive. Got -2.
          try: kleiber plan gpt:depth=12
    """

    exit_code = 1

    def __init__(self, message: str, *, got: object = None, hint: str | None = None) -> None:
        self.message = message
        self.got = got
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        text = self.message if self.got is None else f"{self.message} Got {self.got!r}."
        return text if self.hint is None else f"{text}\n  try: {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.got, self.hint))


class UsageError(KleiberError):
    """What was asked cannot be done as asked."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe, a size or a design breaks a rule."""


class DataError(UsageError):
    """A text, table or column is missing, empty or unreadable."""


class RunFolderError(UsageError):
    """A folder is not a run, or a document in it does not parse."""


class ConventionError(UsageError):
    """Two numbers were counted or measured in different ways and cannot be compared."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed."""

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> MissingExtraError:
        """Return the one sentence that says what to install."""
        return cls(
            f"{purpose} needs the package '{package}', which is not installed.",
            hint=f"pip install 'kleiber[{extra}]'",
        )


class CheckpointError(KleiberError):
    """No checkpoint can be read."""


class DivergedError(KleiberError):
    """Training left the finite numbers."""


class GateError(KleiberError):
    """No result meets the bounds that were asked for."""


class StorageError(KleiberError):
    """The disk refused a write."""


class Interrupted(KleiberError):  # noqa: N818 - it is not an error: the user asked for it
    """Ctrl-C or SIGTERM, after a checkpoint."""

    exit_code = 130


def _rebuild(cls: type[KleiberError], message: str, got: object, hint: str | None) -> KleiberError:
    return cls(message, got=got, hint=hint)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a clause that names the closest known word, or all of them when none is close.

    Example:
        >>> nearest("learning_rat", ["lr", "learning_rate"])
        "Did you mean 'learning_rate'?"
        >>> nearest("zzz", ["b", "a"])
        'Known: a, b.'
    """
    words = sorted(known)
    match = difflib.get_close_matches(name, words, n=1, cutoff=0.5)
    return f"Did you mean {match[0]!r}?" if match else f"Known: {', '.join(words)}."
