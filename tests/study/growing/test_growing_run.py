"""A whole study of tiny perceptrons in this process."""

import pytest

from kleiber.errors import Interrupted, RecipeError, UsageError
from kleiber.fleet import Done, Progressed
from kleiber.models import parse_size
from kleiber.runs import DataMeta, DataShape, ModelRecipe, RunFolder
from kleiber.study.growing import run as running
from kleiber.study.growing.asked import Asked, usual_recipe
from kleiber.study.growing.design import StudyDesign, members_of
from kleiber.study.growing.document import Study
from kleiber.study.growing.extent import PLAN_FILE, StudyPlan, plan_study
from kleiber.study.growing.run import forget_study, run_study
from kleiber.train.lock import exclusive

PLAN = StudyPlan(num_steps=40, short_steps=6, repeated_batches=2, expected_s=1.0, says=("By hand.",))
SETS = ["data.max_samples=256", "train.batch_size=16"]


class InThisProcess:
    """Does jobs one after another, and is stopped before one of them."""

    def __init__(self, left=10**9):
        self.left = left

    def __call__(self, num_workers):
        del num_workers
        return self

    def run(self, jobs):
        for job in jobs:
            if not self.left:
                raise Interrupted("stopped.")
            self.left -= 1
            told = []
            yield Done(job.name, job.call(told.append))
            yield from (Progressed(job.name, value) for value in told)


def asked_of(**changes):
    base = usual_recipe(parse_size("mlp:depth=1"), "digits", SETS)
    usual = {"budget_s": 100.0, "low": 600.0, "high": 6000.0, "num_sizes": 4, "num_seeds": 3}
    return Asked(base, **(usual | changes))


@pytest.fixture
def plain(monkeypatch):
    """Neither latencies nor a baseline, which have tests of their own and take seconds."""
    monkeypatch.setattr(running, "_bench", lambda _: None)
    monkeypatch.setattr(running, "BASELINE_FILE", PLAN_FILE)  # it stands there already
    monkeypatch.setattr(running.Baseline, "read", lambda _: None)


def measured_in(study):
    """Return what does not depend on the machine's speed."""
    names = (
        "error_frac",
        "loss",
        "train_flops",
        "gap",
        "onset_epoch",
        "highest_rate",
        "noise_scale",
        "seed_sd",
    )
    return {name: [point.value for point in study.curve(name).points] for name in names}


def test_a_study_that_was_stopped_anywhere_finds_the_same(tmp_path, plain):
    PLAN.write(tmp_path / "whole" / PLAN_FILE)
    whole = run_study(asked_of(), tmp_path / "whole", executor_of=InThisProcess())
    assert len(whole.members) == 4
    assert Study.read(tmp_path / "whole" / "study.json") == whole
    flops = whole.curve("train_flops").trend("both")
    assert flops.slope.value == pytest.approx(1.0, abs=0.1)
    assert whole.curve("error_frac").num_runs == 4 * 3
    assert whole.curve("loss").trend("depth") is None
    for point in whole.curve("peak_memory_bytes").points:
        assert point.predicted
    for point in whole.curve("highest_rate").points:
        assert point.low <= point.value <= point.high

    PLAN.write(tmp_path / "cut" / PLAN_FILE)
    for left in (2, 7, 9):
        with pytest.raises(Interrupted):
            run_study(asked_of(), tmp_path / "cut", executor_of=InThisProcess(left))
    events = []
    resumed = run_study(asked_of(), tmp_path / "cut", executor_of=InThisProcess(), on_event=events.append)
    assert measured_in(resumed) == measured_in(whole)
    assert any(isinstance(event, Progressed) for event in events)
    num_done = sum(isinstance(event, Done) for event in events)
    assert 0 < num_done < 4 * 6

    # Again: nothing is left, and a run that diverged is told and left out.
    again = []
    run_study(asked_of(), tmp_path / "cut", executor_of=InThisProcess(0), on_event=again.append)
    assert not any(isinstance(event, Done) for event in again)
    run = RunFolder(min((tmp_path / "cut" / "runs").iterdir()))
    failed = run.read_record().model_copy(update={"status": "failed", "result": None})
    failed.write(run.record_path)
    found = run_study(asked_of(), tmp_path / "cut", executor_of=InThisProcess(0))
    assert sum(member.num_diverged for member in found.members) == 1
    assert found.curve("error_frac").num_runs == 4 * 3 - 1

    with pytest.raises(RecipeError, match="holds a study of another design"):
        run_study(asked_of(num_seeds=2), tmp_path / "cut", executor_of=InThisProcess())
    (tmp_path / "cut" / "mine.txt").write_text("kept")
    forget_study(tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["mine.txt"]


def test_a_budget_that_leaves_too_few_steps_says_what_would_do(tmp_path, plain):
    with pytest.raises(
        RecipeError, match=r"a budget of 2 s leaves \d+ steps for each run of 4 sizes"
    ) as caught:
        run_study(asked_of(budget_s=2.0), tmp_path, executor_of=InThisProcess())
    assert "--budget-s" in caught.value.hint


def test_the_plan_fills_the_budget_and_reads_a_text_once():
    base = usual_recipe(parse_size("gpt:depth=1"), "stdlib", [])
    sizes = tuple(ModelRecipe(family="gpt", depth=1, width=width) for width in (16, 32, 48))
    design = StudyDesign(base=base, both=sizes, budget_s=1000.0, num_workers=2)
    members = members_of(design)
    times_s = {one.name: 0.01 * (k + 1) for k, one in enumerate(members)}
    meta = DataMeta(
        source="stdlib", shape=DataShape(inputs="tokens", vocab_size=512, context=128), corpus_hash="", python_version="",
        eval_hash="", num_documents=1, num_train_tokens=10**9, num_val_tokens=32768,
    )  # fmt: skip
    long, short = (plan_study(design, members, times_s, meta, elapsed_s) for elapsed_s in (0.0, 400.0))
    # 1000 s less a tenth and 45 s for what comes after, on two workers of which 85% is used.
    assert long.expected_s == pytest.approx(855, rel=0.01)
    assert short.num_steps == pytest.approx(long.num_steps * 455 / 855, rel=0.01)
    small = meta.model_copy(update={"num_train_tokens": 1024 * 1000})
    assert plan_study(design, members, times_s, small, 0.0).num_steps == 950


def test_a_study_that_cannot_be_begun_removes_nothing(tmp_path, plain):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "study.json").write_text("{}")
    ruled = usual_recipe(
        parse_size("gpt:depth=1"), "stdlib", ["train.parametrization={name: mup_simple, base_width: 32}"]
    )
    for asked, message in (
        (asked_of(decades=400.0), "a study spans at most 6 decades of N"),
        (Asked(ruled, budget_s=100.0), "a study finds the rates of all sizes by itself"),
    ):
        with pytest.raises(RecipeError, match=message):
            run_study(asked, tmp_path, executor_of=InThisProcess(), fresh=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "study.json"]
    with (
        exclusive(tmp_path / "runs" / "mine"),
        pytest.raises(UsageError, match="is being written by another"),
    ):
        run_study(asked_of(), tmp_path, executor_of=InThisProcess(), fresh=True)
    assert (tmp_path / "study.json").exists()


def test_a_text_too_short_for_the_fewest_steps_is_refused():
    base = usual_recipe(parse_size("gpt:depth=1"), "stdlib", [])
    sizes = tuple(ModelRecipe(family="gpt", depth=1, width=width) for width in (16, 32, 48))
    design = StudyDesign(base=base, both=sizes, budget_s=1000.0, num_workers=2)
    members = members_of(design)
    meta = DataMeta(
        source="stdlib", shape=DataShape(inputs="tokens", vocab_size=512, context=128), corpus_hash="", python_version="",
        eval_hash="", num_documents=1, num_train_tokens=20_000, num_val_tokens=32768,
    )  # fmt: skip
    with pytest.raises(
        RecipeError, match="a text of 20000 tokens is 18 steps of 1024, read once, and 60 are the least"
    ):
        plan_study(design, members, dict.fromkeys((one.name for one in members), 0.01), meta, 0.0)
