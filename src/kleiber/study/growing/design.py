"""What a study trains: sizes along three lines, and what all its runs share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from kleiber.errors import RecipeError
from kleiber.models import Spec, resolve_spec
from kleiber.runs import Document, ModelRecipe, Recipe

__all__ = ["DESIGN_FILE", "LINES", "Line", "Member", "StudyDesign", "members_of", "open_design", "sized"]

Line = Literal["both", "depth", "width"]
"""How a model grows: depth and width together as the family's dial says, or one of them alone."""
LINES: tuple[Line, ...] = get_args(Line)

DESIGN_FILE = "study.yaml"

_Seed = Annotated[int, Field(ge=0, lt=2**31)]


class StudyDesign(Document):
    """What a study trains, before anything is measured."""

    base: Recipe
    """What all runs share, with the shape of its data; `model`, steps, seed and rates are each run's own."""
    both: tuple[ModelRecipe, ...] = Field(min_length=3, max_length=40)
    """Sizes that grow in depth and width together, smallest first."""
    depth: tuple[ModelRecipe, ...] = ()
    """Sizes of one width."""
    width: tuple[ModelRecipe, ...] = ()
    """Sizes of one depth."""
    seeds: tuple[_Seed, ...] = Field(default=(0, 1, 2), min_length=1, max_length=20)
    """Of the runs of `both`; those of the other lines take the first."""
    budget_s: float = Field(gt=0)
    """Wall clock of the whole study [s]."""
    num_workers: int = Field(ge=1, le=4096)
    """Runs side by side, one thread each."""
    warmup_frac: float | None = Field(default=None, gt=0, lt=1)
    """Of every run's steps; None takes the steps that the recipe says."""
    notes: tuple[str, ...] = ()
    """What a reader should know of the lines, a sentence each."""

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must differ, got {list(self.seeds)}")
        return self

    @property
    def reference(self) -> ModelRecipe:
        """The size that rates are sought at: the middle of `both`."""
        return self.both[len(self.both) // 2]


@dataclass(frozen=True)
class Member:
    """One size of a study."""

    name: str
    model: ModelRecipe
    spec: Spec
    lines: tuple[Line, ...]
    """That it stands on."""

    @property
    def num_params(self) -> int:
        """All parameters."""
        return self.spec.count().total


def members_of(design: StudyDesign) -> tuple[Member, ...]:
    """Return the sizes of all lines, each once, by number of parameters.

    Raises:
        RecipeError: A size breaks a rule of its family.
    """
    found: dict[str, Member] = {}
    for line in LINES:
        for model in getattr(design, line):
            spec = resolve_spec(sized(design.base, model))
            name = f"d{spec.depth}-w{spec.width}-n{spec.count().total}"
            known = found.get(name)
            lines = (*known.lines, line) if known else (line,)
            found[name] = Member(name, model, spec, lines)
    return tuple(sorted(found.values(), key=lambda member: (member.num_params, member.name)))


def sized(base: Recipe, model: ModelRecipe) -> Recipe:
    """Return the recipe of a size on one thread."""
    parallel = base.parallel.model_copy(update={"num_threads": 1})
    return base.model_copy(update={"model": model, "parallel": parallel})


def open_design(folder: Path, design: StudyDesign | None = None) -> StudyDesign | None:
    """Return the design that stands in `folder`, after writing `design` there when the folder has none.

    Raises:
        RecipeError: The folder holds a study of something else.
    """
    path = folder / DESIGN_FILE
    if path.is_file():
        known = StudyDesign.read(path)
        if design is not None and design != known:
            raise RecipeError(
                f"{folder} holds a study of another design.",
                hint="another folder with -o, or --fresh to start again",
            )
        return known
    if design is not None:
        design.write(path)
    return design
