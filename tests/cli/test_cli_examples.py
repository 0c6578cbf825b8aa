"""The README's loop, command by command, on its own examples made small."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from kleiber.cost import Calibration, save_calibration
from kleiber.models import resolve_spec
from kleiber.runs import Document, read_recipe
from kleiber.study.design import LadderDesign, read_design, target_recipe
from kleiber.study.ladder_plan import plan_ladder

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SMALL = ("vocab_size=300", "context=32", "val_tokens=1024")


def loop() -> list[str]:
    """Return the commands of the README's loop."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## The loop, command by command")[1]
    block = section.split("```")[1]
    return [line.split(" #")[0].strip() for line in block.strip().splitlines()]


def with_target(line: str, design: LadderDesign) -> str:
    """Return the forecast's command with the target's numbers in place of the README's."""
    recipe = target_recipe(design)
    size = resolve_spec(recipe).count().by(design.count)
    return re.sub(
        r"(forecast .*--params) \S+ --tokens \S+", rf"\g<1> {size} --tokens {recipe.num_tokens}", line
    )


def test_the_examples_are_what_they_say():
    recipe, design = read_recipe(EXAMPLES / "recipe.yaml"), read_design(EXAMPLES / "ladder.yaml")
    plan = plan_ladder(design)
    largest = plan.rungs[-1]
    assert len({rung.num_params.total for rung in plan.rungs}) >= 4
    assert len(plan.rungs) >= 8
    assert min(design.horizons) >= 1000
    # Of the longest branch: the rung's own figure is of all its branches.
    branch_flops = (
        largest.train_flops / largest.num_tokens * max(design.horizons) * design.base.tokens_per_step
    )
    assert plan.target.train_flops > 4 * branch_flops
    assert resolve_spec(recipe).count().total == largest.num_params.total


def test_the_readme_forecasts_its_own_target():
    design = read_design(EXAMPLES / "ladder.yaml")
    (line,) = (line for line in loop() if " forecast " in line)
    assert with_target(line, design) == line


@pytest.fixture
def small_examples(cli, tmp_path, small_text, monkeypatch):
    """Write small examples where the README expects the large ones, on a machine that was measured."""
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))
    save_calibration(Calibration(measured_at="then", peak_flops_per_s={1: 1e10}))
    data = [f"data.source=text:{small_text}", *(f"data.{value}" for value in SMALL)]
    quick = ["train.schedule.warmup_steps=3", "train.log_every=10"]
    design = read_design(EXAMPLES / "ladder.yaml").with_values(
        [
            *(f"base.{value}" for value in (*data, *quick)),
            "sizes=[{depth: 1, width: 16}, {depth: 1, width: 32}]",
            "seeds=[1]",
            "horizons=[20, 30, 40]",
            "target.model={depth: 2, width: 48}",
            "target.num_steps=60",
            "target.num_threads=1",
        ]
    )
    recipe = read_recipe(EXAMPLES / "recipe.yaml").with_values([*data, *quick, "train.num_steps=20"])
    written: dict[str, Document] = {"ladder.yaml": design, "recipe.yaml": recipe}
    for name, document in written.items():
        document.write(tmp_path / "examples" / name)
    return design


def test_the_readmes_loop_works(cli, tmp_path, small_examples):
    said = {}
    for line in loop():
        ran = cli(*shlex.split(with_target(line, small_examples))[1:])
        assert ran.code == 0, (line, ran.stderr)
        said[line.split()[1]] = ran.stdout
    study = tmp_path / "runs" / "study"
    record = json.loads((study / "target" / "record.json").read_text())
    assert record["predicted"]["forecast_hash"] == json.loads((study / "forecast.json").read_text())["hash"]
    assert json.loads((study / "law.json").read_text())["num_rows"] == 6
    # What is printed before money is spent.
    assert "With the target:" in said["ladder"]
    assert re.search(r"target: .* parameters, .* tokens, .*FLOP; expected .* a step, .*B\.\n", said["train"])
    # What comes next is said, with this study's own numbers.
    for line in loop():
        if line.split()[1] in {"fit", "forecast", "train"}:
            assert f"  {with_target(line, small_examples)}\n" in said["ladder"]
    for quantity in ("loss", "total time", "step time"):
        assert quantity in said["verify"]
    assert "<html" in (study / "report.html").read_text(encoding="utf-8")
    # The study's folder as a whole gives the same law: its target stays out.
    ran = cli("fit", "runs/study", "--bootstrap", "100", "--json")
    assert ran.document["num_rows"] == 6
    assert ran.stderr.startswith(
        "note: 1 of 9 runs started with a forecast and are left out of the law: target."
    )


def test_the_example_of_a_recipe_trains(cli, tmp_path, small_examples):
    ran = cli("train", "examples/recipe.yaml", "--json")
    assert ran.document["num_tokens"] == 20 * 4 * 32
    assert (tmp_path / "runs" / "recipe" / "model").is_dir()
