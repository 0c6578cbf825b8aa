"""Native code of our own, for products that torch's libraries and its compiler are slow at: see `kernels.cpp`.

It is compiled once a machine and kept in the cache folder. torch knows it as operations, which programs that are compiled ahead of
time call directly.

Legend: N rows, C columns of a weight, R its rows, G groups of a row, U units of 128 columns.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.resources
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kleiber.errors import RecipeError, StorageError
from kleiber.infer.compiled.compiler import compiler
from kleiber.infer.machine import cpu_flags
from kleiber.runs.cache import default_cache

__all__ = [
    "UNIT",
    "compile_kernels",
    "kernel_digest",
    "kernel_shims",
    "load_kernels",
    "plain_product",
    "products",
]

UNIT = 128
"""Columns whose codes lie together."""

_SOURCE = "kernels.cpp"
_PLAIN_SHIM = (
    "AOTITorchError aoti_torch_cpu_plain_product(AtenTensorHandle x, AtenTensorHandle w, AtenTensorHandle* y)"
)
_SHIM = """AOTITorchError aoti_torch_cpu_products(
    AtenTensorHandle x, AtenTensorHandle codes, AtenTensorHandle scale, AtenTensorHandle zero, int64_t bits, int64_t group_size,
    AtenTensorHandle* y)"""
# Without errno and traps roundings and comparisons are compiled to vectors; no number changes.
_FLAGS = ("-std=c++20", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC")


def products(
    x_NC: Tensor, codes_RUx: Tensor, scale_RG: Tensor, zero: Tensor, *, bits: int, group_size: int
) -> Tensor:
    """Return the products of rows with a weight in codes, fp32 [N, R].

    Rows are rounded to int8 first, a scale for 128 columns, or for 64 where groups are no multiple of 128.

    Args:
        x_NC: fp32.
        codes_RUx: Of 8 bits, less 128 each, int8 [R, U, 128]; of 4 bits uint8 [R, U, 64], the first 64 columns of a unit in the
            low halves.
        scale_RG: fp32.
        zero: The codes that stand for 0, uint8 [R, G], or [1] for all.
        bits: 4 or 8.
        group_size: Columns of a group, a multiple of 64.

    Raises:
        RecipeError: There is no C++ compiler, or it does not compile the code.
        StorageError: The cache folder cannot be written.
    """
    _library()
    found: Tensor = _OPERATION(x_NC, codes_RUx, scale_RG, zero, bits, group_size)
    return found


def plain_product(x_C: Tensor, weight_RC: Tensor) -> Tensor:
    """Return the product of one row with a plain weight, fp32 [R]; arguments are fp32.

    Raises:
        RecipeError: There is no C++ compiler, or it does not compile the code.
        StorageError: The cache folder cannot be written.
    """
    _library()
    found: Tensor = _PLAIN(x_C, weight_RC)
    return found


def load_kernels() -> None:
    """Make the code known to programs that call it, before they are opened; it is compiled the first time.

    Raises:
        RecipeError: There is no C++ compiler, or it does not compile the code.
        StorageError: The cache folder cannot be written.
    """
    _library()


def kernel_shims() -> dict[Any, list[str]]:
    """Return what torch's compiler is told of each operation: the C function that programs call."""
    return {_PLAIN: [_PLAIN_SHIM], _OPERATION: [_SHIM]}


@functools.cache
def kernel_digest() -> str:
    """Return what the compiled code follows from, in a few characters."""
    made_of = "\n".join((_source(), *_FLAGS, cpu_flags(), torch.__version__))
    return hashlib.sha256(made_of.encode()).hexdigest()[:24]


def _source() -> str:
    return importlib.resources.files(__package__).joinpath(_SOURCE).read_text(encoding="utf-8")


@functools.cache
def _library() -> ctypes.CDLL:
    path = default_cache() / "compiled" / f"kernels-{kernel_digest()}.so"
    if not path.is_file():
        compile_kernels(path)
    # Programs find the function among all that is loaded.
    return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def compile_kernels(path: Path, *flags: str) -> None:
    """Compile the code into a library at `path`, whole or not at all.

    Args:
        path: Its folder is made, for its owner alone.
        flags: More of the compiler's.

    Raises:
        RecipeError: There is no C++ compiler, or it does not compile the code.
        StorageError: The folder cannot be written.
    """
    torch_folder = Path(torch.__file__).parent
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            source, built = Path(folder) / _SOURCE, Path(folder) / path.name
            source.write_text(_source(), encoding="utf-8")
            paths = ["-shared", str(source), "-o", str(built), f"-I{torch_folder}/include"]
            command = [compiler(), *_FLAGS, *flags, *paths, f"-L{torch_folder}/lib", "-ltorch_cpu"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own source
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if "error" in line]
                raise RecipeError(
                    "the engine compiled could not compile its native code.",
                    got=said[0] if said else f"exit {done.returncode}",
                    hint="--engine torch",
                )
            built.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write the cache folder {path.parent}: {error.strerror}") from None


_library_of: Any = torch.library.Library  # torch leaves it unannotated
_LIBRARY = _library_of("kleiber", "DEF")
_LIBRARY.define(
    "products(Tensor x, Tensor codes, Tensor scale, Tensor zero, int bits, int group_size) -> Tensor"
)
_LIBRARY.define("plain_product(Tensor x, Tensor w) -> Tensor")
_OPERATION: Callable[..., Any] = torch.ops.kleiber.products.default
_PLAIN: Callable[..., Any] = torch.ops.kleiber.plain_product.default


@torch.library.impl(_LIBRARY, "products", "CPU")
def _on_cpu(  # noqa: PLR0917 - torch calls it by position
    x_NC: Tensor, codes: Tensor, scale_RG: Tensor, zero: Tensor, bits: int, group_size: int
) -> Tensor:
    (N, C), (R, G) = x_NC.shape, scale_RG.shape
    x_NC = x_NC.contiguous()
    y_NR = x_NC.new_empty(N, R)
    at = (ctypes.c_void_p(one.data_ptr()) for one in (x_NC, codes, scale_RG, zero))
    sizes = map(ctypes.c_int64, (zero.numel(), N, R, C, G, bits, group_size))
    _library().kleiber_products(*at, *sizes, ctypes.c_void_p(y_NR.data_ptr()))
    return y_NR


@torch.library.register_fake("kleiber::products", lib=_LIBRARY)  # type: ignore[untyped-decorator] # the same
def _as_traced(  # noqa: PLR0917 - the same
    x_NC: Tensor, codes: Tensor, scale_RG: Tensor, zero: Tensor, bits: int, group_size: int
) -> Tensor:
    del codes, zero, bits, group_size
    return x_NC.new_empty(x_NC.shape[0], scale_RG.shape[0])


@torch.library.impl(_LIBRARY, "plain_product", "CPU")
def _plain_on_cpu(x_C: Tensor, weight_RC: Tensor) -> Tensor:
    x_C, weight_RC = x_C.contiguous(), weight_RC.contiguous()
    y_R = x_C.new_empty(len(weight_RC))
    sizes = map(ctypes.c_int64, weight_RC.shape)
    at = (ctypes.c_void_p(one.data_ptr()) for one in (x_C, weight_RC))
    _library().kleiber_plain_product(*at, *sizes, ctypes.c_void_p(y_R.data_ptr()))
    return y_R


@torch.library.register_fake("kleiber::plain_product", lib=_LIBRARY)  # type: ignore[untyped-decorator] # the same
def _plain_as_traced(x_C: Tensor, weight_RC: Tensor) -> Tensor:
    return x_C.new_empty(len(weight_RC))
