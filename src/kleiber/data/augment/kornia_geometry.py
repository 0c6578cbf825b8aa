"""kornia's geometric transforms, where they are installed."""

from __future__ import annotations

from types import ModuleType

from kleiber.errors import MissingExtraError

__all__ = ["kornia_geometry"]


def kornia_geometry(name: str) -> tuple[ModuleType, ModuleType]:
    """Return `kornia.geometry.transform` and torch.

    Args:
        name: The augmentation that asks.

    Raises:
        MissingExtraError: kornia is not installed.
    """
    try:
        import kornia.geometry.transform as geometry  # noqa: PLC0415 - optional, and takes a second
        import torch  # noqa: PLC0415 - data that is not augmented does without
    except ImportError:
        raise MissingExtraError.of("kornia", "data", f"the augmentation {name}") from None
    return geometry, torch
