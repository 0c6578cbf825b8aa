"""`kleiber backtest`, and `fit --form auto` from a table to a forecast."""

from __future__ import annotations

import csv
import itertools
import json
import math

import pytest


@pytest.fixture
def table(tmp_path):
    sizes, horizons = [1e7, 3e7, 1e8, 3e8, 1e9], [1e9, 3e9, 1e10, 3e10, 1e11]
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["params", "tokens", "loss", "data"])
        for data, (k, (size, tokens)) in itertools.product(
            ("a", "b"), enumerate(itertools.product(sizes, horizons))
        ):
            loss = 1.7 + (400 if data == "a" else 300) / size**0.34 + 2000 / tokens**0.37
            writer.writerow(
                [f"{size:.0f}", f"{tokens:.0f}", repr(loss * (1 + 0.001 * math.sin(7 * k))), data]
            )
    return "rows.csv"


def test_backtest_scores_every_form(cli, table):
    asked = ("backtest", table, "--where", 'data == "a"', "--factors", "3,10", "--bootstrap", "20")
    result = cli(*asked, "--json")
    assert result.code == 0
    (group,) = result.document["groups"].values()
    methods = {one["method"] for one in group["scores"]}
    assert methods == {"auto", "chinchilla", "tied", "quadratic", "frontier"}
    assert {one["factor"] for one in group["scores"]} == {3, 10}
    best = min(group["scores"], key=lambda one: one["error"])
    assert best["error"] < 0.01
    assert 0 <= best["coverage_80"] <= 1


def test_groups_are_backtested_apart(cli, table):
    result = cli(
        "backtest", table, "--by", "data", "--forms", "tied", "--factors", "10", "--bootstrap", "20", "--json"
    )
    assert list(result.document["groups"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--factors", "0.5"), "must be above 1"),
        (("--factors", ","), "--factors needs at least one"),
        (("--forms", "cubic"), "'cubic' cannot be backtested"),
        (("--factors", "1e12"), "too little, or too few, to cut"),
        (("--forms", "tied", "--floor", "1"), "no effect without the form kaplan or auto"),
        (("--floor", "9"), "the floor must be from 0 to below"),
    ],
)
def test_what_cannot_be_backtested_is_one_sentence(cli, table, options, said):
    result = cli("backtest", table, *options)
    assert result.code != 0
    assert said in result.stderr


def test_fit_auto_writes_a_law_that_forecasts(cli, table, tmp_path):
    asked = ("fit", table, "--where", 'data == "a"', "--form", "auto", "--bootstrap", "100", "-o", "law.json")
    document = cli(*asked, "--json").document
    assert document["average"]["members"][0]["candidate"] == document["form"]
    assert "samples" not in document["average"]["members"][0]
    assert json.loads((tmp_path / "law.json").read_text())["version"] == 3
    loss = cli("forecast", "law.json", "--params", "3e9", "--tokens", "3e11", "--json").document["loss"]
    assert loss == pytest.approx(1.7 + 400 / 3e9**0.34 + 2000 / 3e11**0.37, rel=0.01)


def test_auto_and_backtest_take_a_known_floor(cli, table):
    chosen = ("--where", 'data == "a"', "--floor", "1.7")
    document = cli("fit", table, *chosen, "--form", "auto", "--bootstrap", "100", "--json").document
    assert any("floor of 1.7 was given" in note for note in document["notes"])
    asked = ("backtest", table, *chosen, "--forms", "auto,kaplan", "--factors", "10", "--bootstrap", "20")
    (group,) = cli(*asked, "--json").document["groups"].values()
    above = {one["method"]: one["error"] for one in group["scores"]}
    (group,) = (
        cli(*[part for part in asked if part not in ("--floor", "1.7")], "--json").document["groups"].values()
    )
    without = {one["method"]: one["error"] for one in group["scores"]}
    assert above["kaplan"] != pytest.approx(without["kaplan"], rel=0.05)
    assert "no effect without --form kaplan or auto" in cli("fit", table, "--floor", "1.7").stderr


def test_a_factor_needs_auto(cli, table):
    assert "no effect without --form auto" in cli("fit", table, "--for-factor", "30").stderr
    assert "no effect with --form auto" in cli("fit", table, "--form", "auto", "--chance", "0.2").stderr


def test_auto_takes_one_form_for_all_groups_and_compares_them(cli, tmp_path):
    sizes, horizons = [1e7, 3e7, 1e8, 3e8, 1e9], [1e9, 3e9, 1e10, 3e10, 1e11]
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["params", "tokens", "loss", "data"])
        for k, (size, tokens) in enumerate(itertools.product(sizes, horizons)):
            noise = 1 + 0.0005 * math.sin(7 * k)
            n, d = math.log(size / 1e8), math.log(tokens / 1e10)
            powers = 1.7 + 400 / size**0.34 + 2000 / tokens**0.37
            surface = math.exp(1 - 0.05 * n - 0.06 * d - 0.02 * n * d)
            writer.writerow([f"{size:.0f}", f"{tokens:.0f}", repr(powers * noise), "powers"])
            writer.writerow([f"{size:.0f}", f"{tokens:.0f}", repr(surface * noise), "surface"])
    result = cli("fit", "rows.csv", "--by", "data", "--form", "auto", "--bootstrap", "100", "--json")
    assert result.code == 0
    forms = [result.document["groups"][name]["form"] for name in ("powers", "surface")]
    assert forms[0] == forms[1]
    assert len(result.document["comparisons"]["surface less powers"]["differences"]) == 3
    assert "Laws of different forms" not in result.stderr


def test_backtest_writes_what_a_report_shows_and_draws_it(cli, table, tmp_path):
    asked = ("backtest", table, "--by", "data", "--forms", "tied", "--factors", "10", "--bootstrap", "20")
    ran = cli(*asked, "-o", "backtest.json", "--json")
    assert ran.document["backtest"] == "backtest.json"
    found = json.loads((tmp_path / "backtest.json").read_text())
    assert list(found["groups"]) == ["a", "b"]
    score = ran.document["groups"]["a"]["scores"][0]
    assert found["groups"]["a"]["scores"][0]["error"] == pytest.approx(score["error"])
    assert len(found["groups"]["a"]["cells"]) == score["num_cells"]
    assert "Written to backtest.html." in cli(*asked, "-o", "backtest.html").stdout
    assert "How often the intervals held" in (tmp_path / "backtest.html").read_text()
    assert cli("report", ".", "-o", "report.html").code == 0
    assert "How good would such forecasts have been?" in (tmp_path / "report.html").read_text()


def test_another_ending_is_refused_before_anything_is_fitted(cli, table):
    ran = cli("backtest", table, "-o", "backtest.pdf")
    assert ran.code == 2
    assert "-o writes .json for a report, or a chart as .html, .svg or .png." in ran.stderr
    assert "cells are rows foretold" not in ran.stdout


def test_two_groups_that_were_compared_are_kept_and_drawn(cli, table, tmp_path):
    asked = ("fit", table, "--by", "data", "--bootstrap", "100")
    ran = cli(*asked, "-o", "comparison.json", "--json")
    assert ran.document["comparison"] == "comparison.json"
    (pair,) = json.loads((tmp_path / "comparison.json").read_text())["pairs"]
    assert (pair["first"], pair["second"]) == ("a", "b")
    assert all(point["difference"] < 0 for point in pair["points"])  # 300 / N^0.34 beside 400 / N^0.34
    assert "Written to comparison.svg." in cli(*asked, "-o", "comparison.svg").stdout
    assert "b less a" in (tmp_path / "comparison.svg").read_text()


def test_one_group_is_no_comparison_to_write(cli, table, tmp_path):
    ran = cli("fit", table, "--by", "data", "--where", 'data == "a"', "--bootstrap", "100", "-o", "x.json")
    assert ran.code == 2
    assert "Nothing is written: there are no two groups whose laws can be compared." in ran.stderr
    assert not (tmp_path / "x.json").exists()
