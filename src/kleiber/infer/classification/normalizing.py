"""The normalization that a run's record says its inputs had."""

from __future__ import annotations

import numpy as np

from kleiber.data.normalization import NORMALIZED_ROLES, Normalization
from kleiber.errors import RunFolderError
from kleiber.runs import DataMeta

__all__ = ["normalization_of"]


def normalization_of(meta: DataMeta, role: str) -> Normalization:
    """Return how inputs of a role are normalized.

    Args:
        meta: Of the run's data.
        role: `images`, `features` or `series`.

    Raises:
        RunFolderError: The record does not say.

    Example:
        >>> from kleiber.runs.record import InputScale
        >>> meta = DataMeta.model_construct(input_scales={"features": InputScale(offset=(1,), scale=(2,))})
        >>> normalization_of(meta, "features").apply(np.array([[5.0]])).tolist()
        [[2.0]]
    """
    scales = meta.input_scales.get(role)
    if scales is None:
        raise RunFolderError(
            f"the run's record does not say how its {role} were normalized: data.input_scales has no '{role}'.",
            got=sorted(meta.input_scales),
            hint="train it again with this version of Kleiber",
        )
    offset, scale = (np.array(numbers, np.float32) for numbers in (scales.offset, scales.scale))
    return Normalization(offset, scale, NORMALIZED_ROLES[role])
