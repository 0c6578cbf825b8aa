"""What the runs of a study are told, worked out by hand."""

from pathlib import Path

import pytest

from kleiber.models import parse_size
from kleiber.runs import Recipe
from kleiber.study.growing.design import StudyDesign, members_of
from kleiber.study.growing.extent import StudyPlan
from kleiber.study.growing.jobs import Settled, training_jobs
from kleiber.study.growing.measured import Tuned

PLAN = StudyPlan(num_steps=160, short_steps=10, repeated_batches=4, expected_s=1.0, says=("By hand.",))
TUNED = Tuned(member="x", num_steps=10, factors=(1.0, 2.0), losses=(3.0, 2.0), best=2.0, is_at_edge=False)


def recipes_of(design: StudyDesign, folder: Path) -> dict[str, Recipe]:
    members = members_of(design)
    settled = Settled(PLAN, {member.name: 1.0 for member in members}, TUNED)
    return {job.name: job.call.args[0] for job in training_jobs(design, members, settled, folder)}


@pytest.mark.parametrize(
    ("optimizer", "narrow", "wide"), [("adamw", 2.0, 0.5), ("muon", 2**0.5, 0.5**0.5), ("rmsprop", 1, 1)]
)
def test_rates_of_runs_follow_width_and_horizon_and_those_that_are_sought_do_not(
    optimizer, narrow, wide, tmp_path
):
    sizes = [parse_size(f"gpt:depth=2,width={width}") for width in (32, 64, 128)]
    base = Recipe().with_values([f"train.optimizer={{name: {optimizer}, lr: 0.02, matrix_lr: 0.004}}"])
    design = StudyDesign(base=base, both=tuple(sizes), seeds=(0,), budget_s=100.0, num_workers=1)
    found = recipes_of(design, tmp_path)
    runs = {
        int(name.split("-w")[1].split("-")[0]): one for name, one in found.items() if name.endswith("-s0")
    }
    # The best factor was 2 after 10 steps; 160 are 16 times as many, and rates fall as the horizon to the power 0.32.
    factor = 2.0 * 16**-0.32

    for width, times in ((32, narrow), (64, 1.0), (128, wide)):
        rates = runs[width].train.optimizer
        assert rates.lr == pytest.approx(0.02 * factor)
        assert rates.matrix_lr == pytest.approx(0.004 * factor * times)
    sought = [one.train.optimizer.matrix_lr for name, one in found.items() if name.endswith(" rate")]
    assert sought == pytest.approx([0.004 * 2.0] * 3)


def test_short_sequences_take_at_most_a_quarter_of_a_run(tmp_path):
    sizes = [parse_size(f"gpt:depth=2,width={width}") for width in (32, 64, 128)]
    base = Recipe().with_values(["preset=fast"])
    design = StudyDesign(base=base, both=tuple(sizes), seeds=(0,), budget_s=100.0, num_workers=1)
    assert base.train.sequence_warmup.steps == 200
    for recipe in recipes_of(design, tmp_path).values():
        assert recipe.train.sequence_warmup.steps == PLAN.num_steps / 4
        assert recipe.train.sequence_warmup.context == base.train.sequence_warmup.context
