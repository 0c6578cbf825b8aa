import math

import numpy as np
import pytest

from kleiber.errors import Interrupted, RecipeError
from kleiber.models import resolve_spec
from kleiber.runs import Row
from kleiber.study import adaptive
from kleiber.study.adaptive import read_decisions, run_adaptive
from kleiber.study.design import LadderDesign, rungs_of
from kleiber.study.designing.designed import design_ladder
from kleiber.study.ladder import current_ladder, forget_ladder, ladder_status, open_ladder

BUDGET = 1.5e10


@pytest.fixture
def ladder(design):
    """A designed ladder of a target of 60 steps."""
    base = design.base.with_values(["train.schedule.warmup_steps=2"])
    target = {"model": {"family": "gpt", "depth": 1, "width": 96, "head_dim": 8}, "num_steps": 200}
    asked = LadderDesign.model_validate(
        {"base": base.model_dump(), "sizes": [target["model"]], "horizons": [200], "target": target}
    )
    return design_ladder(asked, budget=BUDGET, unit="flops", factor=4.0)[0]


@pytest.fixture
def trained(monkeypatch):
    """Names of the trunks that were asked for, wave by wave; their rows follow a law and are not trained."""
    waves: list[list[str]] = []

    def train(design, folder, executor, on_event):
        waves.append([rung.trunk for rung in rungs_of(design)])

    def rows(design, folder):
        return [_row(rung, name, recipe) for rung in rungs_of(design) for name, recipe in rung.branches]

    monkeypatch.setattr(adaptive, "train_rungs", train)
    monkeypatch.setattr(adaptive, "ladder_rows", rows)
    return waves


def _row(rung, name, recipe):
    size, tokens = rung.spec.count().total, recipe.num_tokens
    random = np.random.default_rng([size, tokens, recipe.train.seed])
    loss = (2.0 + 30 * size**-0.3 + 60 * tokens**-0.4) * math.exp(0.003 * random.standard_normal())
    return Row(
        run=name,
        num_params=rung.spec.count(),
        num_tokens=tokens,
        loss=loss,
        trunk=rung.trunk,
        seed=recipe.train.seed,
    )


def _flops(design):
    return sum(
        rung.num_steps * rung.spec.flops(design.base.train.batch_size).total for rung in rungs_of(design)
    )


def test_the_rest_is_planned_anew_within_the_budget(ladder, trained, tmp_path):
    told = []
    rows = run_adaptive(ladder, tmp_path, on_decision=told.append)
    decisions = read_decisions(tmp_path)
    assert told == decisions
    assert len(decisions) >= 3
    assert decisions[0].law_hash is None
    assert decisions[0].num_rows == 0
    assert decisions[0].spent == 0
    assert decisions[0].wave[0] in {
        rung.model_copy(update={"seeds": (seed,)}) for rung in ladder.rungs for seed in rung.seeds
    }
    assert any(one.is_changed and one.law_hash for one in decisions)
    assert [one.rest == () for one in decisions] == [False] * (len(decisions) - 1) + [True]
    final = current_ladder(tmp_path)
    assert _flops(final) <= BUDGET
    assert _flops(final) > 0.8 * BUDGET
    names = [rung.trunk for rung in rungs_of(final)]
    assert len(set(names)) == len(names)
    assert {row.trunk for row in rows} == set(names)
    assert trained[-1] == names  # waves in their order, each on top of those before
    assert [len(wave) for wave in trained] == sorted(len(wave) for wave in trained)
    assert open_ladder(tmp_path) == ladder
    assert {one.status for one in ladder_status(tmp_path)} == {"waiting"}
    target = resolve_spec(ladder.base.model_copy(update={"model": ladder.target.model})).count().total
    assert max(row.num_params.total for row in rows) < target

    again = []
    assert run_adaptive(ladder, tmp_path, on_decision=again.append) == rows
    assert again == []
    forget_ladder(tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_ladder_that_was_killed_decides_as_if_it_had_not_been(ladder, trained, monkeypatch, tmp_path):
    run_adaptive(ladder, tmp_path / "whole")
    train = adaptive.train_rungs
    for num_waves in (1, 2):

        def stop(design, *rest, num_waves=num_waves):
            if len(read_decisions(tmp_path / "cut")) == num_waves:
                raise Interrupted("stopped.")
            train(design, *rest)

        monkeypatch.setattr(adaptive, "train_rungs", stop)
        with pytest.raises(Interrupted):
            run_adaptive(ladder, tmp_path / "cut")
    monkeypatch.setattr(adaptive, "train_rungs", train)
    run_adaptive(ladder, tmp_path / "cut")
    ours, theirs = (
        [one.model_copy(update={"created_at": ""}) for one in read_decisions(tmp_path / name)]
        for name in ("cut", "whole")
    )
    assert ours == theirs


def test_only_a_designed_ladder_is_planned_anew(ladder, design, trained, tmp_path):
    with pytest.raises(RecipeError, match="Only a ladder that was designed within a budget"):
        run_adaptive(design, tmp_path / "a")
    rung = ladder.rungs[0].model_copy(update={"horizons": (33,)})
    changed = ladder.model_copy(update={"rungs": (rung, *ladder.rungs[1:])})
    with pytest.raises(RecipeError, match="A rung of this ladder is not one that its design chose from"):
        run_adaptive(changed, tmp_path / "b")


def test_a_kill_after_a_decision_leaves_no_old_plan(ladder, trained, tmp_path):
    run_adaptive(ladder, tmp_path)
    final = current_ladder(tmp_path)
    ladder.write(tmp_path / adaptive.ADAPTED_FILE)  # as it stood before the last decision
    run_adaptive(ladder, tmp_path)
    assert current_ladder(tmp_path) == final


def test_what_diverged_says_nothing(ladder, trained, tmp_path, monkeypatch):
    whole = run_adaptive(ladder, tmp_path / "whole")
    first = read_decisions(tmp_path / "whole")[0].wave
    lost = {
        row.trunk
        for row in whole
        if row.trunk in {rung.trunk for rung in rungs_of(ladder.model_copy(update={"rungs": first}))}
    }
    gone, rows = min(lost), adaptive.ladder_rows
    monkeypatch.setattr(adaptive, "ladder_rows", lambda *at: [row for row in rows(*at) if row.trunk != gone])
    seen = []
    state = adaptive.Information

    def spied(beliefs, fixed):
        seen.append(sum(len(trunks) for trunks in fixed))
        return state(beliefs, fixed)

    monkeypatch.setattr(adaptive, "Information", spied)
    run_adaptive(ladder, tmp_path / "lost")
    decisions = read_decisions(tmp_path / "lost")
    trained_so_far = [sum(len(one.wave) for one in decisions[:k]) for k in range(len(decisions))]
    assert decisions[0].wave == first
    assert seen == [max(0, number - 1) for number in trained_so_far]


def test_waves_are_paid_for_one_after_another(ladder, trained, tmp_path, monkeypatch):
    """Side by side a wave takes as long as its longest trunk; two waves take as long as both."""
    whole = adaptive._Study.cost

    def longest(study, rungs):
        return max(whole(study, [rung]) for rung in rungs)

    monkeypatch.setattr(adaptive._Study, "cost", longest)
    told = []
    run_adaptive(ladder, tmp_path, on_decision=told.append)
    assert len(told) >= 3
    study = adaptive._Study(ladder, ladder.within, adaptive._grid(ladder, ladder.within, None), tmp_path)
    for k, decision in enumerate(told):
        assert decision.spent == pytest.approx(sum(longest(study, one.wave) for one in told[:k]))
