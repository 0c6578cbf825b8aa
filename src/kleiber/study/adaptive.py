"""A designed ladder whose rest is planned anew as its rungs finish: `kleiber ladder run --adaptive`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kleiber.cost import Calibration
from kleiber.errors import DataError, RecipeError
from kleiber.fleet import Executor, JobEvent
from kleiber.models import resolve_spec
from kleiber.runs import Document, Row, now
from kleiber.runs.files import write_text
from kleiber.scaling import Law, fit
from kleiber.study.design import LadderDesign, RungDesign, WithinDesign, rungs_of, target_recipe
from kleiber.study.designing.beliefs import beliefs_of
from kleiber.study.designing.candidates import grid_of
from kleiber.study.designing.designed import rungs_of_state
from kleiber.study.designing.grid import Grid, Guard, State
from kleiber.study.designing.information import Information
from kleiber.study.designing.search import Search
from kleiber.study.ladder import (
    ADAPTED_FILE,
    DECISIONS_FILE,
    TARGET_FILE,
    ladder_rows,
    open_ladder,
    prepare_data,
    train_rungs,
)

__all__ = ["Decision", "read_decisions", "run_adaptive"]

_FIRST_FRAC, _NEXT_FRAC = 0.3, 0.5
"""Of the budget that the first wave takes, and of what is left the next ones."""
_ALL_FRAC = 0.2
"""Of the budget: less is trained in one wave."""
_NUM_BOOTSTRAP = 200


class Decision(Document):
    """What is trained next, and why; a line of `decisions.jsonl`."""

    created_at: str
    num_rows: int
    """That were known."""
    law_hash: str | None
    """Of the law that they gave; None while they gave none and the design stands."""
    says: str
    """What the plan rests on, in a sentence."""
    half_width_frac: float
    """Foreseen of the 80% interval at the target, with all that is planned."""
    is_changed: bool
    """Whether the rest differs from what was planned before."""
    spent: float
    """On what was trained before, in the unit of the budget."""
    wave: tuple[RungDesign, ...]
    """Trained next, the cheapest first."""
    rest: tuple[RungDesign, ...]
    """Planned after it."""


@dataclass(frozen=True)
class _Study:
    """A ladder's folder with the grid that it was designed on."""

    design: LadderDesign
    within: WithinDesign
    grid: Grid
    folder: Path

    @property
    def target(self) -> tuple[float, float]:
        recipe = target_recipe(self.design)
        return float(resolve_spec(recipe).count().by(self.design.count)), float(recipe.num_tokens)

    def of(self, rungs: Sequence[RungDesign]) -> LadderDesign:
        return self.design.model_copy(update={"rungs": tuple(rungs), "sizes": (), "horizons": ()})

    def state(self, rungs: Iterable[RungDesign]) -> State:
        """Return rungs as trunks of the grid.

        Raises:
            RecipeError: One is not of the grid: the file was changed by hand.
        """
        found: list[list[frozenset[int]]] = [[] for _ in self.grid.sizes]
        models = [size.model for size in self.grid.sizes]
        for rung in rungs:
            if rung.model not in models or not set(rung.horizons) <= set(self.grid.horizons):
                raise RecipeError(
                    "A rung of this ladder is not one that its design chose from: its rest cannot be planned anew.",
                    got=str(rung.model.size),
                    hint="kleiber ladder run ... without --adaptive",
                )
            trunk = frozenset(self.grid.horizons.index(steps) for steps in rung.horizons)
            found[models.index(rung.model)] += [trunk] * len(rung.seeds)
        return tuple(tuple(trunks) for trunks in found)

    def cost(self, rungs: Iterable[RungDesign]) -> float:
        return self.grid.cost(self.state(rungs))


def run_adaptive(
    design: LadderDesign,
    folder: Path,
    *,
    calibration: Calibration | None = None,
    executor: Executor | None = None,
    on_event: Callable[[JobEvent], None] | None = None,
    on_decision: Callable[[Decision], None] | None = None,
) -> list[Row]:
    """Train a designed ladder in waves, cheap rungs first; after each the rest is planned anew from the rows so far.

    A decision is written before its wave starts, and depends on nothing but finished waves: a ladder that was killed
    goes on as if it had not been.

    Args:
        design: Of `kleiber ladder design`.
        folder: The study.
        calibration: Of this machine, where the budget is in seconds.
        executor: Where to run; this machine's cores when None.
        on_event: Called with every `Progressed` and `Done`.
        on_decision: Called with every new `Decision`.

    Raises:
        RecipeError: The ladder was not designed within a budget, or the folder holds another.
        KleiberError: As `run_ladder`.
    """
    within = design.within
    if within is None:
        raise RecipeError(
            "Only a ladder that was designed within a budget can be planned anew.",
            hint="kleiber ladder design BASE --target ... --budget-flops ... -o ladder.yaml",
        )
    design = open_ladder(folder, prepare_data(design))
    target_recipe(design).write(folder / TARGET_FILE)
    study = _Study(design, within, _grid(design, within, calibration), folder)
    while True:
        decisions = read_decisions(folder)
        done = [rung for decision in decisions for rung in decision.wave]
        if decisions:
            # Here and not beside the decision: a kill between the two would leave the old plan.
            study.of([*done, *decisions[-1].rest]).write(folder / ADAPTED_FILE)
            train_rungs(study.of(done), folder, executor, on_event)
        if decisions and not decisions[-1].rest:
            return ladder_rows(study.of(done), folder)
        decision = _decide(study, decisions)
        _write(folder, [*decisions, decision])
        if on_decision:
            on_decision(decision)


def read_decisions(folder: Path) -> list[Decision]:
    """Return the decisions in a folder, the first first."""
    path = folder / DECISIONS_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [Decision.model_validate_json(line) for line in lines]


def _write(folder: Path, decisions: Sequence[Decision]) -> None:
    lines = (json.dumps(one.model_dump(mode="json")) + "\n" for one in decisions)
    write_text(folder / DECISIONS_FILE, "".join(lines))


def _grid(design: LadderDesign, within: WithinDesign, calibration: Calibration | None) -> Grid:
    return grid_of(
        target_recipe(design),
        factor=within.factor,
        unit=within.unit,
        convention=design.count,
        num_workers=design.num_workers,
        calibration=calibration,
    )


def _decide(study: _Study, decisions: Sequence[Decision]) -> Decision:
    """Return what is trained next: a part of what was planned, or of a better plan by the law of what is known."""
    done = [rung for decision in decisions for rung in decision.wave]
    planned = decisions[-1].rest if decisions else study.design.rungs
    rows = ladder_rows(study.of(done), study.folder) if done else []
    law = _law(study, rows)
    beliefs = beliefs_of(study.grid, study.target, law)
    information = Information(beliefs, study.state(_measured(study, done, rows)))
    # Waves follow each other: only within one do trunks run side by side.
    spent = sum((study.cost(decision.wave) for decision in decisions), 0.0)
    rest, is_changed = tuple(planned), False
    if law is not None:
        found = Search(study.grid, information, study.within.amount - spent, Guard()).best()
        old = information.half_width_frac(study.state(planned))
        if found is not None and information.half_width_frac(found) < old:
            rest, is_changed = tuple(_new_rungs(study, found, done)), True
    wave, later = _split(study, rest, spent)
    return Decision(
        created_at=now(),
        num_rows=len(rows),
        law_hash=law.hash if law else None,
        says=beliefs.says,
        half_width_frac=information.half_width_frac(study.state(rest)),
        is_changed=is_changed,
        spent=spent,
        wave=wave,
        rest=later,
    )


def _measured(study: _Study, done: Sequence[RungDesign], rows: Sequence[Row]) -> list[RungDesign]:
    """Return the rungs that were trained, each with those horizons alone of which there is a row: what diverged says nothing."""
    known = {(row.num_params.total, row.seed, row.num_tokens) for row in rows}
    found = []
    for part, rung in zip(done, rungs_of(study.of(done)) if done else (), strict=True):
        size = rung.spec.count().total
        horizons = tuple(
            steps
            for steps, (_, recipe) in zip(part.horizons, rung.branches, strict=True)
            if (size, recipe.train.seed, recipe.num_tokens) in known
        )
        if horizons:
            found.append(part.model_copy(update={"horizons": horizons}))
    return found


def _law(study: _Study, rows: Sequence[Row]) -> Law | None:
    """Return the law of the rows; None while they are too few."""
    try:
        return fit(rows, convention=study.design.count, num_bootstrap=_NUM_BOOTSTRAP)
    except DataError:
        return None


def _new_rungs(study: _Study, state: State, done: Sequence[RungDesign]) -> Iterable[RungDesign]:
    """Yield the rungs of a state with seeds that no trunk of their size has had."""
    first = 1 + max((seed for rung in (*done, *study.design.rungs) for seed in rung.seeds), default=0)
    return rungs_of_state(study.grid, state, first)


def _split(
    study: _Study, rest: Sequence[RungDesign], spent: float
) -> tuple[tuple[RungDesign, ...], tuple[RungDesign, ...]]:
    """Return the cheapest rungs that take a part of the budget, and the others."""
    single = [rung.model_copy(update={"seeds": (seed,)}) for rung in rest for seed in rung.seeds]
    single.sort(key=lambda rung: study.cost([rung]))
    left = study.cost(single) if single else 0.0
    part = _NEXT_FRAC * left if spent else _FIRST_FRAC * study.within.amount
    if left <= _ALL_FRAC * study.within.amount:
        part = left
    wave = single[:1]
    for rung in single[1:]:
        if study.cost([*wave, rung]) > part * (1 + 1e-9):
            break
        wave.append(rung)
    return tuple(wave), tuple(single[len(wave) :])
