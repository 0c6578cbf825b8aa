"""Small sets that scikit-learn brings along: no network, no files of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kleiber.data.corpus import Progress
from kleiber.data.sample_checks import refuse_without_effect
from kleiber.data.source import ArraySamples, Part, Source
from kleiber.errors import DataError, MissingExtraError
from kleiber.runs import DataShape, TaskRecipe
from kleiber.runs.recipe import DataRecipe

__all__ = ["open_classified", "open_diabetes", "open_digits"]


def open_digits(
    recipe: DataRecipe,
    task: TaskRecipe,  # noqa: ARG001 - an opener's signature
    argument: str,
    *,
    cache: Path,  # noqa: ARG001 - the same
    on_progress: Progress,  # noqa: ARG001 - the same
) -> Source:
    """Return 1,797 handwritten digits, grey 8 x 8 images of 0 to 16.

    Source:
        Alpaydin and Kaynak 1998, UCI; the test part that scikit-learn ships.
    """
    loaded = _loaded("digits", recipe, argument)
    images = loaded.images.astype(np.uint8)[:, None]  # [N, 1, 8, 8]
    return Source(
        shape=DataShape(inputs="images", channels=1, height=8, width=8, num_outputs=10),
        train=Part(ArraySamples({"images": images}), labels=loaded.target.astype(np.int64)),
        classes=tuple(str(name) for name in loaded.target_names),
    )


def open_classified(
    recipe: DataRecipe,
    task: TaskRecipe,  # noqa: ARG001 - an opener's signature
    argument: str,
    *,
    cache: Path,  # noqa: ARG001 - the same
    on_progress: Progress,  # noqa: ARG001 - the same
) -> Source:
    """Return a table of measures with classes, by its name.

    `breast_cancer`: 569 tumours, 30 measures of each, malignant or benign (Wolberg et al. 1995, UCI). `wine`: 178 wines, 13
    measures of each, of three growers (Aeberhard and Forina 1992, UCI).
    """
    loaded = _loaded(recipe.source.partition(":")[0], recipe, argument)
    features = loaded.data.astype(np.float32)
    classes = tuple(str(target) for target in loaded.target_names)
    return Source(
        shape=DataShape(inputs="features", num_features=features.shape[1], num_outputs=len(classes)),
        train=Part(ArraySamples({"features": features}), labels=loaded.target.astype(np.int64)),
        classes=classes,
    )


def open_diabetes(
    recipe: DataRecipe,
    task: TaskRecipe,  # noqa: ARG001 - an opener's signature
    argument: str,
    *,
    cache: Path,  # noqa: ARG001 - the same
    on_progress: Progress,  # noqa: ARG001 - the same
) -> Source:
    """Return 442 patients, 10 measures of each, and how far the disease was a year later (Efron et al. 2004)."""
    # Scaled over all samples as scikit-learn ships them; unscaled, so that only the training split is looked at.
    loaded = _loaded("diabetes", recipe, argument, scaled=False)
    features = loaded.data.astype(np.float32)
    return Source(
        shape=DataShape(inputs="features", num_features=features.shape[1], num_outputs=1),
        train=Part(ArraySamples({"features": features}), values=loaded.target.astype(np.float32)[:, None]),
    )


def _loaded(name: str, recipe: DataRecipe, argument: str, **options: Any) -> Any:
    if argument:
        raise DataError(
            f"data.source '{name}' takes nothing after a colon.",
            got=f"{name}:{argument}",
            hint=f"--set data.source={name}",
        )
    refuse_without_effect(recipe)
    try:
        from sklearn import datasets  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError.of("scikit-learn", "data", f"data.source '{name}'") from None
    return getattr(datasets, f"load_{name}")(**options)
