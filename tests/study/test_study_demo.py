import json

import pytest

import kleiber.study.demo as study_demo
from kleiber.compress.gate import Gate
from kleiber.compress.speed import Measuring
from kleiber.cost import Calibration, load_calibration
from kleiber.errors import ConventionError, RecipeError
from kleiber.report import write_report
from kleiber.runs import LedgerEntry, Predicted, RunFolder, read_ledger
from kleiber.runs.receipt import Receipt
from kleiber.scaling import Forecast, Law
from kleiber.study.demo import Prepared, Sample, Verified, run_demo
from kleiber.study.demo_design import BUDGET_S, MAX_SEED, demo_designs, fit_to_machine
from kleiber.study.design import rungs_of, target_recipe
from kleiber.study.ladder_plan import LadderPlan, plan_ladder
from kleiber.study.ledger import plan_entries
from kleiber.units import format_loss


@pytest.fixture
def small_demo(design, monkeypatch):
    """The demo with a ladder of seconds instead of minutes."""
    monkeypatch.setattr(study_demo, "demo_designs", lambda seed: (design,))
    monkeypatch.setattr(
        study_demo, "fit_to_machine", lambda seed, calibration: (design, plan_ladder(design, calibration))
    )
    quick = Measuring(engines=("torch",), num_rounds=2, block_s=0.002, max_batch=2, has_memory=False)
    monkeypatch.setattr(study_demo, "MEASURING", quick)
    monkeypatch.setattr(study_demo, "GATE", Gate(max_quality_loss="5%", max_bytes="50%"))
    return design


def test_the_whole_loop(small_demo, tmp_path):
    events = []
    entries = run_demo(tmp_path, on_event=events.append)
    kinds = [type(event) for event in events]
    order = [Prepared, LadderPlan, Law, Forecast, Verified, Receipt, Sample]
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)

    target = RunFolder(tmp_path / "target").read_record()
    foretold = Forecast.read(tmp_path / "forecast.json")
    assert target.predicted.forecast_hash == foretold.hash == foretold.expected_hash()
    assert foretold.created_at < target.started_at
    assert foretold.law_hash == Law.read(tmp_path / "law.json").hash

    by_method = {(entry.quantity, entry.method): entry for entry in entries}
    assert set(by_method) == {
        ("val_loss", "law"),
        ("val_loss", "last_rung"),
        ("val_loss", "log_log_line"),
        ("total_time_s", "plan"),
        ("step_time_s", "plan"),
        ("peak_memory_bytes", "plan"),
    }
    law = by_method["val_loss", "law"]
    assert law.predicted == foretold.loss
    assert law.measured == target.result.val_loss
    assert law.interval_80 == foretold.interval_80
    assert read_ledger(tmp_path / "target" / "ledger.jsonl") == list(entries)
    assert load_calibration().probes

    samples = RunFolder(tmp_path / "target").read_samples()
    assert [sample["prompt"] for sample in samples] == list(study_demo.PROMPTS)
    assert all(sample["text"] for sample in samples)

    before = json.dumps([entry.model_dump() for entry in entries])
    again = run_demo(tmp_path)
    assert json.dumps([entry.model_dump() for entry in again]) == before
    assert Forecast.read(tmp_path / "forecast.json") == foretold

    page = write_report([tmp_path], tmp_path / "report.html").read_text(encoding="utf-8")
    for figure in (foretold.hash, format_loss(foretold.loss), format_loss(law.measured)):
        assert figure in page

    # A law that came out otherwise, by another version of the code say, must not replace a sealed forecast.
    law_path = tmp_path / "law.json"
    Law.read(law_path).model_copy(update={"notes": ("from another version",)}).write(law_path)
    with pytest.raises(ConventionError, match=r"target has started, and the law has changed[\s\S]*--fresh"):
        run_demo(tmp_path)
    assert Forecast.read(tmp_path / "forecast.json") == foretold


def test_another_seed_in_the_folder_is_refused(small_demo, tmp_path, monkeypatch):
    small_demo.write(tmp_path / "ladder.yaml")
    plan_ladder(small_demo).write(tmp_path / "plan.json")
    monkeypatch.setattr(study_demo, "demo_designs", demo_designs)
    with pytest.raises(
        RecipeError,
        match=r"holds the demo with another seed than 7\.\n  try: kleiber demo --seed 7 -o .*demo-7",
    ):
        run_demo(tmp_path, seed=7)


def test_fresh_forgets_the_study_and_nothing_else(small_demo, tmp_path, monkeypatch):
    (tmp_path / "ladder" / "old").mkdir(parents=True)
    (tmp_path / "law.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")

    def stop(*_, **__):
        raise RecipeError("far enough")

    monkeypatch.setattr(study_demo, "open_data", stop)
    with pytest.raises(RecipeError, match="far enough"):
        run_demo(tmp_path, fresh=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("seed", [0, 3, MAX_SEED])
def test_the_demos_designs_keep_what_the_project_promises(seed):
    for design in demo_designs(seed):
        rungs, target = rungs_of(design), target_recipe(design)
        assert len({rung.spec.width for rung in rungs}) >= 4
        assert len(design.seeds) >= 2
        assert len(design.horizons) >= 3
        assert design.horizons[0] >= 1000
        plan = plan_ladder(design)
        largest = max(rung.spec.flops(4, 128).total * design.horizons[-1] for rung in rungs)
        assert plan.target.train_flops >= 4 * largest
        largest_nd = max(rung.spec.count().total * design.horizons[-1] for rung in rungs)
        assert plan.target.num_params.total * target.train.num_steps >= 4 * largest_nd
        assert target.train.seed not in design.seeds


def test_two_demos_share_no_seed():
    seeds = [{*design.seeds, design.target.seed} for design in (demo_designs(0)[-1], demo_designs(1)[-1])]
    assert not seeds[0] & seeds[1]


def _calibration(slowness):
    """A machine of 100 GFLOP/s a core, divided by `slowness`."""
    return Calibration(measured_at="", peak_flops_per_s={1: 1e11 / slowness, 2: 2e11 / slowness})


def test_a_fast_machine_trains_more_and_a_slow_one_the_least():
    fast, fast_plan = fit_to_machine(0, _calibration(0.1))
    slow, slow_plan = fit_to_machine(0, _calibration(1000))
    assert slow == demo_designs(0)[0]
    assert fast == demo_designs(0)[-1]
    assert slow_plan.total_time_s > BUDGET_S > fast_plan.total_time_s
    costs = [plan_ladder(design).total_flops for design in demo_designs(0)]
    assert costs == sorted(costs)


def test_a_machine_too_slow_for_the_demo_is_told(small_demo, tmp_path, monkeypatch):
    monkeypatch.setattr(study_demo, "BUDGET_S", 1e-9)
    told = []

    def stop(*_, **__):
        raise RecipeError("far enough")

    monkeypatch.setattr(study_demo, "run_ladder", stop)
    with pytest.raises(RecipeError, match="far enough"):
        run_demo(tmp_path, on_event=told.append)
    assert any(isinstance(event, str) and event.startswith("This machine is slow") for event in told)


def test_a_run_without_predictions_has_no_planned_ledger(make_record):
    assert plan_entries(make_record()) == ()


def test_planned_entries_by_hand(make_record):
    record = make_record(predicted=Predicted(total_time_s=12.0, peak_memory_bytes=5e7, at="2026-01-01"))
    entries = {entry.quantity: entry for entry in plan_entries(record)}
    assert entries.keys() == {"total_time_s", "peak_memory_bytes"}
    assert entries["total_time_s"].error_frac == pytest.approx(0.2)
    assert entries["peak_memory_bytes"].error_frac == pytest.approx(-0.5)
    assert isinstance(entries["total_time_s"], LedgerEntry)
    untold = make_record(predicted=record.predicted, result={"peak_memory_bytes": 0})
    assert [entry.quantity for entry in plan_entries(untold)] == ["total_time_s"]
