"""`ladder`, `train` and `report`, on runs of seconds."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

import kleiber.study.ladder
from kleiber.cli.main import main
from kleiber.cost import Calibration, load_calibration, save_calibration
from kleiber.runs import ParamCount, Row, RunFolder, read_recipe
from kleiber.scaling import fit, forecast

WORDS = [
    a + b + c
    for a in ("ba", "ko", "ri", "tu", "le", "mo")
    for b in ("na", "so", "ti", "pe")
    for c in ("x", "n", "s", "")
]


def write_text(path):
    """Write documents in which words follow each other with some regularity."""
    draw = random.Random(0)  # noqa: S311 - not for secrets
    path.mkdir()
    for number in range(40):
        words = [draw.choice(WORDS)]
        for _ in range(900):
            near = WORDS.index(words[-1]) * 7 + draw.choice((1, 1, 1, 5, 11))
            words.append(WORDS[near % len(WORDS)])
        lines = (" ".join(words[k : k + 9]) for k in range(0, len(words), 9))
        (path / f"{number:02d}.txt").write_text("\n".join(lines) + "\n")


RECIPE = """
model: {family: gpt, depth: 1, width: 16}
data: {source: "text:TEXT", vocab_size: 300, context: 32, val_tokens: 1024}
train: {num_steps: 30, batch_size: 4, log_every: 10, schedule: {warmup_steps: 3}}
parallel: {num_threads: 1}
"""

LADDER = """
base:
  data: {source: "text:TEXT", vocab_size: 300, context: 32, val_tokens: 1024}
  train: {batch_size: 4, log_every: 10, schedule: {warmup_steps: 3}}
sizes: [{family: gpt, depth: 1, width: 16}, {family: gpt, depth: 1, width: 32}]
seeds: [0]
horizons: [20, 30, 40]
target: {model: {family: gpt, depth: 2, width: 32}, num_steps: 60}
num_workers: 1
"""


MEASURED = Calibration(measured_at="then", peak_flops_per_s={1: 1e10})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a text, a recipe and a trained run."""
    folder = tmp_path_factory.mktemp("study")
    write_text(folder / "text")
    save_calibration(MEASURED, folder / "cache" / "machine.json")
    for name, content in (("recipe.yaml", RECIPE), ("ladder.yaml", LADDER)):
        (folder / name).write_text(content.replace("TEXT", str(folder / "text")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLEIBER_CACHE", str(folder / "cache"))
        assert main(["train", str(folder / "recipe.yaml"), "-o", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def at(cli, place, monkeypatch):
    """Return `cli`, working in `place`."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("KLEIBER_CACHE", str(place / "cache"))
    return cli


def test_train_says_what_came_out(at, place):
    ran = at("train", "recipe.yaml", "-o", "run", "--json")  # finished already: it is shown again
    document = ran.document
    assert {"run", "loss", "val_loss", "num_tokens", "tokens_per_s", "mfu_frac"} <= set(document)
    assert document["run"] == "run"
    assert document["num_tokens"] == 30 * 4 * 32
    assert 0 < document["val_loss"] < 6
    record = RunFolder(place / "run").read_record()
    assert record.result is not None
    assert document["val_loss"] == record.result.val_loss
    assert "nats/token" in ran.stderr


def test_train_predicts_memory_and_time_before_it_starts(at, place):
    record = RunFolder(place / "run").read_record()
    assert record.predicted.at is not None
    assert record.predicted.at <= record.started_at
    assert record.predicted.forecast_hash is None
    assert record.predicted.total_time_s > 0
    assert record.predicted.step_time_s > 0
    assert record.predicted.peak_memory_bytes > 0
    again = at("train", "recipe.yaml", "-o", "run").stdout
    assert "expected" not in again  # it has been said
    assert RunFolder(place / "run").read_record() == record
    told = at("train", "recipe.yaml", "-o", "told").stdout
    assert re.match(r"told: \S+ K parameters, 3\.84 K tokens, .*FLOP; expected .* a step, .*B\.\n", told)


def test_train_says_when_times_are_only_assumed(at, place, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(place / "other-cache"))
    told = at("train", "recipe.yaml", "-o", "assumed").stdout
    assert told.startswith("reading the text ...\n")
    assert " (this machine was never measured).\n" in told


@pytest.fixture
def write_forecast(place):
    """Return a function that writes the forecast of a run of the recipe."""
    rows = [
        Row(run="r", num_params=ParamCount(embedding=0, body=n, head=0), num_tokens=d, trunk=f"{n}",
            loss=1.7 + 40 / n**0.3 + 90 / d**0.35)
        for n in (10**3, 10**4, 10**5) for d in (1e3, 3e3, 1e4)
    ]  # fmt: skip
    law = fit(rows, num_bootstrap=100)

    def write(*, num_params=None, num_tokens=3840, **changes):
        count = num_params or RunFolder(place / "run").read_record().num_params
        made = forecast(law.model_copy(update=changes), count, num_tokens)
        made.write(place / "forecast.json")
        return made

    return write


def test_a_forecast_goes_into_the_record_and_its_run_goes_on_with_it(at, place, write_forecast):
    made = write_forecast()
    for _ in range(2):
        assert at("train", "recipe.yaml", "-o", "foretold", "--forecast", "forecast.json").code == 0
    assert RunFolder(place / "foretold").read_record().predicted.forecast_hash == made.hash
    ran = at("verify", "forecast.json", "foretold", "--json")
    by_method = {(entry["quantity"], entry["method"]) for entry in ran.document["ledger"]}
    assert by_method >= {("val_loss", "law"), ("total_time_s", "plan"), ("step_time_s", "plan")}
    write_forecast()
    ran = at("train", "recipe.yaml", "-o", "foretold", "--forecast", "forecast.json")
    assert ran.code == 2
    assert ran.stderr.startswith(
        f"error: run 'foretold' has started from another forecast, {made.hash}, and a forecast "
    )


def test_a_run_that_started_without_a_forecast_takes_none(at, write_forecast):
    write_forecast()
    ran = at("train", "recipe.yaml", "-o", "run", "--forecast", "forecast.json")
    assert ran.code == 2
    assert ran.stderr.startswith(
        "error: run 'run' has started from no forecast, and a forecast must stand before"
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_params": 1e6}, "error: The forecast is about 1e+06 parameters, and run 'no' has "),
        ({"num_tokens": 1e6}, "error: The forecast is about 1.00 M tokens, and run 'no' trains on 3.84 K.\n  try: "),
        ({"eval_hash": "e2"}, "error: The law's losses are of evaluation set e2, and run 'no' is evaluated on another. Got '"),
    ],
)  # fmt: skip
def test_a_forecast_of_another_run_is_refused_before_anything_is_trained(
    at, place, write_forecast, options, text
):
    write_forecast(**options)
    ran = at("train", "recipe.yaml", "-o", "no", "--forecast", "forecast.json")
    assert (ran.code, ran.stderr[: len(text)]) == (2, text)
    assert not (place / "no").exists()


def test_train_takes_the_recipes_name_and_set(at, place):
    assert at("train", "recipe.yaml", "--set", "train.num_steps=12").code == 0
    record = RunFolder(place / "runs" / "recipe").read_record()
    assert record.recipe.train.num_steps == 12


def test_train_refuses_another_recipe_in_the_folder_unless_fresh(at, place):
    assert at("train", "recipe.yaml", "-o", "twice").code == 0
    ran = at("train", "recipe.yaml", "-o", "twice", "--set", "train.seed=1")
    assert ran.code == 2
    assert ran.stderr.startswith("error: twice holds a run of another recipe.")
    assert at("train", "recipe.yaml", "-o", "twice", "--set", "train.seed=1", "--fresh").code == 0
    assert RunFolder(place / "twice").read_record().seed == 1


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["none.yaml"], 2, "error: none.yaml cannot be read as a recipe: "),
        (["recipe.yaml", "--set", "train.num_stps=3"], 2, "error: the recipe: unknown key 'train.num_stps'. Did you mean"),
        (["recipe.yaml", "--set", "data.source=text:none.txt"], 2, "error: "),
        (["recipe.yaml", "--forecast", "none.json"], 2, "error: none.json cannot be read as a forecast: "),
        (["recipe.yaml", "-o", "recipe.yaml/run"], 1, "error: cannot write recipe.yaml/run"),
    ],
)  # fmt: skip
def test_train_refuses(at, arguments, code, text):
    ran = at("train", *arguments)
    assert (ran.code, ran.stderr[: len(text)]) == (code, text)


def test_ctrl_c_leaves_a_checkpoint(place):
    command = [sys.executable, "-m", "kleiber", "train", "recipe.yaml", "-o", "stopped"]
    for assignment in ("train.num_steps=1200", "train.val_every=1200", "model.depth=6", "model.width=128"):
        command += ["--set", assignment]
    environment = os.environ | {"KLEIBER_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True)
    metrics, deadline = place / "stopped" / "metrics.jsonl", time.monotonic() + 60
    while not (metrics.is_file() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint.startswith("stopped at step ")
    assert "try:" in complaint
    assert "Traceback" not in complaint
    run = RunFolder(place / "stopped")
    assert run.read_record().status == "interrupted"
    assert list(run.checkpoints_path.iterdir())


def test_report_writes_one_file(at, place):
    ran = at("report", "run", "-o", "page.html", "--lang", "zh", "--json")
    assert ran.document == {"report": "page.html", "lang": "zh"}
    assert "<html" in (place / "page.html").read_text(encoding="utf-8")


def test_report_refuses_what_is_no_run(at, place):
    ran = at("report", "text", "-o", "no.html")
    assert ran.code == 2
    assert ran.stderr.startswith("error: ")
    assert "text is not a run folder and holds none." in ran.stderr
    assert not (place / "no.html").exists()


def test_ladder_plan_shows_the_total_before_anything_runs(at, place):
    ran = at("ladder", "plan", "ladder.yaml")
    assert "1 x d1-w16" in ran.stdout
    assert "2 rungs, 1 at a time" in ran.stdout
    assert not (place / "runs" / "ladder").exists()
    document = at("ladder", "plan", "ladder.yaml", "--json").document
    assert {"rungs", "target", "ladder_time_s", "total_time_s", "total_flops", "num_workers"} <= set(document)
    assert [rung["name"] for rung in document["rungs"]] == ["d1-w16-s0", "d1-w32-s0"]
    document = at(
        "ladder", "plan", "ladder.yaml", "--set", "seeds=[3]", "--set", "target.num_steps=90", "--json"
    ).document
    assert [rung["name"] for rung in document["rungs"]] == ["d1-w16-s3", "d1-w32-s3"]
    assert document["target"]["num_tokens"] == 90 * 128


def test_ladder_run_measures_a_machine_that_never_was_and_shows_the_plan(at, place, monkeypatch):
    asked = []

    def calibrate(*arguments):
        asked.append(arguments)
        return MEASURED

    monkeypatch.setenv("KLEIBER_CACHE", str(place / "new-cache"))
    monkeypatch.setattr(kleiber.study.ladder, "calibrate", calibrate)
    monkeypatch.setattr(kleiber.study.ladder, "LocalExecutor", lambda _: _Idle())
    told = at("ladder", "run", "ladder.yaml", "-o", "planned", "--set", "horizons=[20, 30]").stdout
    places = [
        told.index(text)
        for text in ("reading the text ...\n", "measuring this machine ...\n", "With the target: ")
    ]
    assert places == sorted(places)
    assert load_calibration() == MEASURED
    assert read_recipe(place / "planned" / "target.yaml").train.num_steps == 60
    at("ladder", "run", "ladder.yaml", "-o", "planned", "--set", "horizons=[20, 30]")
    assert len(asked) == 1  # a measured machine is not measured again


class _Idle:
    def run(self, jobs):
        return iter(())


def test_ladder_run_status_and_fit(at, place):
    assert at("ladder", "run", "ladder.yaml", "-o", "small").code == 0
    document = at("ladder", "run", "ladder.yaml", "-o", "small", "--json").document
    rows, target = document["rows"], document["target"]
    assert target["recipe"] == "small/target.yaml"
    assert target["num_tokens"] == read_recipe(place / "small" / "target.yaml").num_tokens == 60 * 128
    assert target["num_params"]["total"] > 0
    assert [row["num_tokens"] for row in rows] == [steps * 128 for steps in (20, 30, 40)] * 2
    assert set(rows[0]) == {"run", "trunk", "num_params", "num_tokens", "loss"}
    status = at("ladder", "status", "small", "--json").document
    assert status["num_finished"] == len(status["runs"]) == 8
    assert set(status["runs"][0]) == {"run", "status", "step", "num_steps", "val_loss", "reason"}
    assert "8 of 8 runs have finished." in at("ladder", "status", "small").stdout
    law = at("fit", "small/ladder", "--bootstrap", "100", "-o", "small/law.json", "--json").document
    assert law["num_rows"] == 6
    changed = (place / "ladder.yaml").read_text().replace("[20, 30, 40]", "[20, 30]")
    (place / "other.yaml").write_text(changed)
    ran = at("ladder", "run", "other.yaml", "-o", "small")
    assert ran.code == 2
    assert ran.stderr.startswith("error: small holds a ladder of another design.")
    assert at("ladder", "run", "other.yaml", "-o", "small", "--fresh").code == 0
    assert at("ladder", "status", "small", "--json").document["num_finished"] == 6


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("sizes: []", "error: bad.yaml: "),
        ("horizns: [3]", "error: bad.yaml: unknown key 'horizns'. Did you mean 'horizons'?"),
        ("[", "error: bad.yaml is truncated or not valid YAML: "),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_ladder_refuses(at, place, verb, content, text):
    (place / "bad.yaml").write_text(content)
    ran = at("ladder", verb, "bad.yaml")
    assert (ran.code, ran.stderr[: len(text)]) == (2, text)


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_ladder_refuses_a_bad_assignment(at, verb):
    ran = at("ladder", verb, "ladder.yaml", "--set", "base.trian.batch_size=2")
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: the ladder: unknown key 'base.trian'. Did you mean 'train'?")


def test_ladder_status_of_another_folder(at):
    ran = at("ladder", "status", "text")
    assert ran.code == 2
    assert ran.stderr.startswith("error: text holds no ladder.yaml.")


def test_the_recipe_in_the_run_folder_is_resolved(place):
    run = RunFolder(place / "run")
    assert "beta2" in run.recipe_path.read_text()
    assert json.loads(run.record_path.read_text())["recipe"]["train"]["num_steps"] == 30
