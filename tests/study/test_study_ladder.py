import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from kleiber.cost import Calibration, Probe, load_calibration
from kleiber.errors import DataError, RecipeError, RunFolderError
from kleiber.fleet import Done, Progressed
from kleiber.models import resolve_spec
from kleiber.runs import Recipe, RunFolder, find_runs, read_recipe
from kleiber.study import ladder
from kleiber.study.design import LadderDesign, rungs_of, target_recipe
from kleiber.study.ladder import ladder_status, measure_machine, open_ladder, prepare_data, run_ladder
from kleiber.study.ladder_plan import plan_ladder
from kleiber.study.probe import calibrate
from kleiber.train.lock import exclusive

CODE = (
    "import sys; from pathlib import Path; from kleiber.study.design import read_design;"
    "from kleiber.study.ladder import run_ladder\n"
    "if __name__ == '__main__': run_ladder(read_design(Path(sys.argv[1])), Path(sys.argv[2]))"
)


def _losses(folder):
    return {
        run.name: run.read_record().result.val_loss
        for run in find_runs([folder / "ladder"])
        if run.read_record().result
    }


def test_a_ladder_gives_a_row_a_branch_and_is_skipped_when_finished(design, tmp_path):
    events = []
    rows = run_ladder(design, tmp_path, on_event=events.append)
    assert len(rows) == 3 * 2 * 2
    assert {row.num_tokens for row in rows} == {16 * 128, 32 * 128}
    assert len({row.trunk for row in rows}) == 6
    assert len({row.eval_hash for row in rows}) == 1
    assert {event.job for event in events if isinstance(event, Done)} == {
        rung.trunk for rung in rungs_of(design)
    }
    assert any(isinstance(event, Progressed) and event.value.run.endswith("-h32") for event in events)
    status = ladder_status(tmp_path)
    assert {one.status for one in status} == {"finished"}
    assert all(one.step == one.num_steps for one in status)

    again = []
    assert run_ladder(design, tmp_path, on_event=again.append) == rows
    assert again == []

    assert read_recipe(tmp_path / "target.yaml") == target_recipe(design)

    with pytest.raises(RecipeError, match="holds a ladder of another design"):
        run_ladder(design.model_copy(update={"horizons": (16, 40)}), tmp_path)


def test_a_killed_ladder_resumes_to_the_same_losses(design, tmp_path):
    design = design.model_copy(update={"sizes": design.sizes[:2], "seeds": (0,)})
    run_ladder(design, tmp_path / "whole")
    design.write(tmp_path / "design.yaml")
    script = tmp_path / "run.py"
    script.write_text(CODE)
    command = [sys.executable, str(script), str(tmp_path / "design.yaml"), str(tmp_path / "cut")]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in (tmp_path / "cut").glob("ladder/*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1.5)  # the workers see that their parent is gone
    before = {one.run: one.status for one in ladder_status(tmp_path / "cut")}
    assert "waiting" in before.values()
    assert "interrupted" in before.values()  # nobody trains it, whatever its record says
    assert "running" not in before.values()
    run_ladder(design, tmp_path / "cut")
    assert _losses(tmp_path / "cut") == _losses(tmp_path / "whole")
    for run in find_runs([tmp_path / "whole" / "ladder"]):
        ours = load_file(tmp_path / "cut" / "ladder" / run.name / "model" / "model.safetensors")
        for name, value in load_file(run.model_path / "model.safetensors").items():
            assert torch.equal(ours[name], value), (run.name, name)


def test_a_text_too_small_for_the_horizons_is_refused_before_anything_runs(design, tmp_path):
    greedy = design.model_copy(update={"horizons": (16, 100_000)})
    with pytest.raises(
        DataError, match=r"is too small: it has [\d,]+ training tokens, and 12,800,000 would pass"
    ):
        run_ladder(greedy, tmp_path)
    assert not any(tmp_path.iterdir())  # the design may be mended


def test_a_design_that_breaks_a_rule_does_not_stay_in_the_folder(design, tmp_path):
    doubled = design.model_copy(update={"sizes": (design.sizes[0], design.sizes[0])})
    with pytest.raises(RecipeError, match="sizes of a ladder must differ"):
        run_ladder(doubled, tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_preparation_of_the_text_is_told(design, tmp_path, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path))
    stages = []
    assert prepare_data(design, stages.append) == design  # text that is modelled says its shape itself
    assert stages[0] == "reading the text"


def test_samples_are_prepared_into_the_design(design, tmp_path, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path))
    changes = [
        "base.task.name=classification", "base.data.source=digits", "base.data.context=128", "base.data.val_tokens=65536",
        "base.data.vocab_size=1024",
    ]  # fmt: skip
    shape = prepare_data(design.with_values(changes)).base.data.shape
    assert (shape.inputs, shape.height, shape.num_outputs) == ("images", 8, 10)


def test_a_ladder_of_perceptrons_gives_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))
    base = Recipe().with_values(
        [
            "task.name=classification", "data.source=digits", "data.val_frac=0.2", "train.batch_size=20",
            "train.schedule.warmup_steps=2", "train.optimizer.lr=0.003", "train.checkpoint_every=100",
        ]
    )  # fmt: skip
    design = LadderDesign.model_validate(
        {
            "base": base.model_dump(exclude_unset=True),
            "sizes": [{"family": "mlp", "depth": 1, "width": width} for width in (4, 8, 16)],
            "seeds": [0],
            "horizons": [20, 40],
            "target": {"model": {"family": "mlp", "depth": 1, "width": 32}, "num_steps": 80},
        }
    )
    rows = run_ladder(design, tmp_path)
    assert [(row.trunk, row.num_tokens) for row in rows] == [
        (f"d1-w{width}-s0", 20 * steps) for width in (4, 8, 16) for steps in (20, 40)
    ]
    assert rows[-1].loss < rows[0].loss
    assert run_ladder(design, tmp_path) == rows
    assert target_recipe(open_ladder(tmp_path)).data.shape.num_outputs == 10


def test_a_folder_without_a_design_is_said(tmp_path):
    with pytest.raises(RunFolderError, match=r"holds no ladder\.yaml\.\n  try: kleiber ladder run"):
        open_ladder(tmp_path)


def test_a_plan_adds_up(design):
    rungs, recipe = rungs_of(design), target_recipe(design)
    probes = tuple(
        Probe(
            spec=resolve_spec(one).model_dump(mode="json"),
            optimizer="adamw",
            num_blocks=1,
            flops_per_step=1e6,
            tokens_per_step=128,
            num_threads=1,
            num_processes=processes,
            step_time_s=time_s,
        )
        for one, processes, time_s in [
            *((rung.trunk_recipe, 2, 0.01) for rung in rungs[::2]),
            (recipe, 1, 0.05),
        ]
    )
    plan = plan_ladder(design, Calibration(measured_at="", peak_flops_per_s={1: 1e15}, probes=probes))
    assert [run.name for run in plan.rungs] == [rung.trunk for rung in rungs]
    assert plan.rungs[0].num_tokens == rungs[0].num_steps * 128
    # 36 steps a rung at 10 ms; six rungs on two workers; 48 steps of the target at 50 ms; validation beside them.
    assert plan.rungs[0].total_time_s == pytest.approx(0.36, rel=0.5)
    assert plan.rungs[0].total_time_s > 0.36
    assert plan.ladder_time_s == pytest.approx(3 * plan.rungs[0].total_time_s, rel=0.1)
    assert plan.target.total_time_s == pytest.approx(48 * 0.05, rel=0.5)
    assert plan.total_time_s == plan.ladder_time_s + plan.target.total_time_s
    assert plan.total_flops == sum(run.train_flops for run in plan.rungs) + plan.target.train_flops
    assert plan.target.num_params.total == resolve_spec(recipe).count().total


def test_each_size_is_probed_once_and_what_it_took_is_kept(design, tmp_path, monkeypatch):
    asked = []

    def calibrate(side_by_side, alone, num_processes):
        asked.append((side_by_side, alone, num_processes))
        return Calibration(measured_at="then", peak_flops_per_s={1: 1e10})

    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path))
    monkeypatch.setattr(ladder, "calibrate", calibrate)
    assert measure_machine(design) == load_calibration()
    ((side_by_side, alone, num_processes),) = asked
    assert [recipe.model.size["width"] for recipe in side_by_side] == [16, 32, 48]
    assert (alone, num_processes) == ([target_recipe(design)], 2)


def test_probes_measure_this_machine(design):
    rung = rungs_of(design)[0]
    calibration = calibrate([rung.trunk_recipe], [target_recipe(design)], num_processes=2)
    assert set(calibration.peak_flops_per_s) == {1}
    assert 1e9 < calibration.peak(1) < 1e13
    small, big = calibration.probes
    assert (small.num_processes, big.num_processes) == (2, 1)
    assert 1e-5 < small.step_time_s < 1
    assert small.peak_memory_bytes > 0
    plan = plan_ladder(design, calibration)
    assert plan.rungs[0].step_time_s == small.step_time_s
    assert plan.target.step_time_s == big.step_time_s


def test_a_run_is_running_as_long_as_somebody_holds_it(design, tmp_path, make_record):
    rung = rungs_of(design)[0]
    run = RunFolder(tmp_path / "ladder" / rung.trunk)
    design.write(tmp_path / "ladder.yaml")
    make_record(rung.trunk, status="running", result=None).write(run.record_path)
    with exclusive(run.path):
        assert ladder_status(tmp_path)[0].status == "running"
    assert ladder_status(tmp_path)[0].status == "interrupted"
    make_record(rung.trunk, status="failed").write(run.record_path)
    assert ladder_status(tmp_path)[0].status == "failed"


def test_the_lock_of_a_dead_run_is_free(design, tmp_path):
    """A worker that died holds nothing: the system let go of its lock."""
    rung = rungs_of(design)[0]
    run = RunFolder(tmp_path / "ladder" / rung.trunk)
    run.path.mkdir(parents=True)
    (run.path / ".lock").touch()
    design = design.model_copy(update={"sizes": design.sizes[:1], "seeds": (0,), "horizons": (16,)})
    assert len(run_ladder(design, tmp_path)) == 1
