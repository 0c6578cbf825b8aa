"""Pickles of byte arrays, read without running anything that a pickle may name.

A pickle is a program. CIFAR-10's names three things of NumPy, and these alone are admitted, each by a stand-in: it takes what the
pickle hands to NumPy, checks it, and keeps the bytes.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.errors import DataError

__all__ = ["load_array_pickle"]


class _Named:
    """Something that a pickle names; what it does when it is called, subclasses say."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes what it names")


class _Ndarray(_Named):
    """`numpy.ndarray`: only handed to `_reconstruct`."""

    __slots__ = ()


class _Reconstruct(_Named):
    """`numpy.core.multiarray._reconstruct`: begins an array."""

    __slots__ = ()

    def __call__(self, subtype: object, shape: object, dtype: object) -> _Array:
        if not isinstance(subtype, _Ndarray) or shape != (0,) or dtype not in ("b", b"b"):
            raise pickle.UnpicklingError("an array is not begun as NumPy begins it")
        return _Array()


class _Dtype(_Named):
    """`numpy.dtype`: of bytes alone."""

    __slots__ = ()

    def __call__(self, name: object, *_: object) -> _Bytes:
        if name not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array is of {name!r}, not of bytes")
        return _Bytes()


class _Bytes:
    """A dtype whose state says nothing that its name has not."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Take the byte order and sizes, which bytes have but one of."""


class _Array:
    """An array that is filled by its state: version, shape, dtype, order, bytes."""

    __slots__ = ("content",)

    def __init__(self) -> None:
        self.content: npt.NDArray[np.uint8] = np.empty(0, np.uint8)

    def __setstate__(self, state: object) -> None:
        match state:
            case (1, tuple(shape), _Bytes(), bool(is_fortran), bytes(raw)) if _num(shape) == len(raw):
                flat = np.frombuffer(raw, np.uint8)
                self.content = flat.reshape(shape, order="F" if is_fortran else "C")
            case _:
                raise pickle.UnpicklingError("an array is not of as many bytes as its shape says")


def _num(shape: tuple[object, ...]) -> int:
    product = 1
    for size in shape:
        product *= size if isinstance(size, int) and size >= 0 else -1
    return product


_ADMITTED: dict[tuple[str, str], _Named] = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy", "ndarray"): _Ndarray(),
    ("numpy", "dtype"): _Dtype(),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not admitted") from None

    def persistent_load(self, _: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside")


def load_array_pickle(path: Path) -> dict[Any, Any]:
    """Return the dict of lists, strings, numbers and arrays of bytes that a pickle holds.

    Strings of Python 2 become bytes.

    Raises:
        DataError: It is no pickle, a part of one, or names anything else.
    """
    try:
        with path.open("rb") as stream:
            content = _ArrayUnpickler(stream, encoding="bytes").load()
    except (
        pickle.UnpicklingError, EOFError, OSError, ValueError, TypeError, AttributeError, IndexError, KeyError, MemoryError,
        OverflowError,
    ) as error:  # fmt: skip
        raise DataError(
            f"{path} is not a pickle of arrays of bytes: {str(error).splitlines()[0] if str(error) else 'it ends early'}."
        ) from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path} is not a pickle of arrays of bytes: it holds a {type(content).__name__}, not a dict."
        )
    return {key: value.content if isinstance(value, _Array) else value for key, value in content.items()}
