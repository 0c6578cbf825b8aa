"""Programs that torch compiles ahead of time, kept in the cache folder: the next process opens in a fraction of a second.

A program holds no weights: it is that of all models of the same sizes in the same precision.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from kleiber.errors import KleiberError, RecipeError
from kleiber.infer.compiled.compiler import compiler
from kleiber.infer.compiled.native import kernel_digest, kernel_shims, load_kernels
from kleiber.infer.compiled.products import Hollow
from kleiber.infer.machine import cpu_flags
from kleiber.infer.threads import threads
from kleiber.models.family import FamilyModule, title_of
from kleiber.runs.cache import default_cache

__all__ = ["Program", "compiled_program", "program_key"]

Program: TypeAlias = Callable[..., Any]


def compiled_program(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    axes: tuple[Any, ...],
    key: Mapping[str, Any],
    *,
    num_threads: int,
) -> Program:
    """Return `module` as native code; its weights stay where they are.

    Args:
        module: In evaluation mode; what it computes follows from `key` but for the numbers in its tensors.
        inputs: An example of each; strides of inputs are part of the program.
        axes: Of each argument, the axes of any length, as `torch.export` is told them.
        key: What the program depends on, in JSON.
        num_threads: The program's own.

    Raises:
        RecipeError: There is no C++ compiler, or torch does not compile the module.
        StorageError: The cache folder cannot be written.
    """
    load_kernels()
    path = default_cache() / "compiled" / f"{_digest(key, num_threads)}.pt2"
    if not path.is_file():
        compiler()
        _compile(module, inputs, axes, path, num_threads)
    return _opened(path, module)


def program_key(what: str, module: FamilyModule, hollow: Hollow) -> dict[str, Any]:
    """Return what the code of a program follows from: the model's spec, and how each tensor is held.

    Args:
        what: The program.
        module: The model.
        hollow: Its code, with its weights apart.
    """
    tensors = {**dict(hollow.named_parameters()), **dict(hollow.named_buffers())}
    laid_out = [(name, str(one.dtype), list(one.shape)) for name, one in sorted(tensors.items())]
    spec: Any = module.spec
    return {
        "program": what,
        "spec": spec.model_dump(mode="json", exclude={"path"}),
        "config": str(getattr(module, "config", None)),  # of a model of transformers; its spec names a folder
        "tensors": laid_out,
        "held": [(one.computed_in, getattr(one, "is_centred", None)) for one in hollow.weights()],
    }


def _digest(key: Mapping[str, Any], num_threads: int) -> str:
    """Return the name of a program: its key, and what the code is generated for."""
    made_for = {
        "key": key,
        "threads": num_threads,
        "torch": torch.__version__,
        "python": sys.version_info[:2],
        "cpu": cpu_flags(),
        "kernels": kernel_digest(),
    }
    return hashlib.sha256(json.dumps(made_for, sort_keys=True).encode()).hexdigest()[:24]


def _compile(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    axes: tuple[Any, ...],
    path: Path,
    num_threads: int,
) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # The number of threads is written into the code.
        with (
            threads(num_threads),
            tempfile.TemporaryDirectory(dir=path.parent) as folder,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # torch's, of its own deprecations
            with torch.no_grad():
                exported = torch.export.export(module, inputs, dynamic_shapes=axes, strict=False)
                written = torch._inductor.aoti_compile_and_package(  # noqa: SLF001 - its public name
                    exported,
                    package_path=str(Path(folder) / path.name),
                    inductor_configs={
                        "aot_inductor.package_constants_in_so": False,
                        "aot_inductor.custom_ops_to_c_shims": kernel_shims(),
                    },
                )
            Path(written).replace(path)
    except KleiberError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a tracer or a compiler stumbles over in somebody's module
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RecipeError(
            f"{title_of(module)} cannot be compiled: {said[0] if said else type(error).__name__}",
            hint="--engine torch   runs any module",
        ) from None


def _opened(path: Path, module: nn.Module) -> Program:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same
        program: Any = torch._inductor.aoti_load_package(str(path))  # noqa: SLF001 - its public name
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    names = program.get_constant_fqns()
    program.load_constants(
        {name: tensors[name].detach() for name in names}, check_full_update=True, user_managed=True
    )
    return program  # type: ignore[no-any-return] # torch leaves it unannotated
