"""What a study is of and how it was done: its lead, its sizes, what depth and width count in a family."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kleiber.report.study.figures import factor_text
from kleiber.report.words import Words
from kleiber.study.growing.document import Study
from kleiber.units import format_count

__all__ = ["counts_of", "grows_of", "how_of", "lead_of", "name_of", "sizes_of", "units_of", "workers_of"]

_COUNTED: Mapping[str, str] = {"gpt": "blocks", "encoder": "blocks", "vit": "blocks"}
"""Families that share a sentence on what depth and width count; each other one has its own."""
_KERNELS = frozenset({"convnet", "resnet", "inception"})
"""Families whose parameters work at every place of an image."""


def name_of(study: Study, words: Words) -> str:
    """Return the family's name in the language."""
    return words(f"family_{study.family}")


def units_of(study: Study, count: int, words: Words) -> str:
    """Return so many tokens or samples."""
    return words(f"unit_{study.unit}", count=format_count(count))


def lead_of(study: Study, words: Words) -> str:
    """Return what was trained, and which sizes the headlines are of."""
    counts = [member.num_params for member in study.members]
    num_both = sum("both" in member.lines for member in study.members)
    said = [
        words(
            "lead",
            sizes=len(counts),
            family=name_of(study, words),
            low=format_count(min(counts)),
            high=format_count(max(counts)),
            decades=f"{math.log10(max(counts) / min(counts)):.1f}",
            units=units_of(study, study.num_units, words),
            epochs=f"{study.num_epochs:.2g}",
            source=study.source.rpartition("/")[2],
        )
    ]
    if num_both < len(counts):
        said.append(words("lead_lines", both=num_both, others=len(counts) - num_both))
    return words("between").join(said)


def counts_of(study: Study, words: Words) -> str:
    """Return what depth and width count in the family."""
    return words(f"counts_{_COUNTED.get(study.family, study.family)}")


def grows_of(study: Study, words: Words) -> str:
    """Return how arithmetic goes with parameters in the family."""
    return words("grows_kernels" if study.family in _KERNELS else "grows_matrices")


def workers_of(study: Study, words: Words) -> str:
    """Return how many runs went side by side."""
    if study.num_workers == 1:
        return words("workers_one")
    return words("workers_known", count=study.num_workers) if study.num_workers else words("workers_unknown")


def sizes_of(study: Study, words: Words) -> dict[str, list[Any]]:
    """Return the table of the sizes."""
    head = [words(f"col_{name}") for name in ("size", "depth", "width", "params", "line")]
    rows = [
        [
            one.name.rpartition("-n")[0],
            str(one.depth),
            str(one.width),
            f"{one.num_params:,}",
            words("and").join(words(f"line_{line}") for line in one.lines),
        ]
        for one in study.members
    ]
    return {"head": head, "rows": rows}


def how_of(study: Study, words: Words) -> list[str]:
    """Return how the study was done, in sentences."""
    environment, num_diverged = study.environment, sum(one.num_diverged for one in study.members)
    return [
        words(
            "how_runs",
            steps=study.plan.num_steps,
            units=units_of(study, study.num_units, words),
            epochs=f"{study.num_epochs:.2g}",
        ),
        words("how_rates", factor=factor_text(study.rate_factor)),
        *([words("how_diverged", count=num_diverged)] if num_diverged else []),
        words(
            "how_environment",
            version=environment.kleiber,
            torch=environment.torch,
            platform=environment.platform,
            cores=environment.num_cores,
        ),
    ]
