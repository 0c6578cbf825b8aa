"""`kleiber fit`, `forecast` and `verify`: from a table to a score."""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
from pathlib import Path

import pytest

from kleiber.cli.fit import print_law
from kleiber.cli.output import Output
from kleiber.cli.row_options import parse_columns
from kleiber.errors import UsageError
from kleiber.runs import (
    ParamCount,
    Predicted,
    RunFolder,
    now,
    read_ledger,
)
from kleiber.scaling import Law

E, A, B, ALPHA, BETA = 1.7, 400.0, 2000.0, 0.34, 0.37
N, D = 59_616, 1_048_576


def loss_of(params: float, tokens: float) -> float:
    return E + A / params**ALPHA + B / tokens**BETA


def write_rows(path, names=("params", "tokens", "loss")):
    sizes, horizons = [1e7, 3e7, 1e8, 3e8, 1e9], [1e9, 3e9, 1e10, 3e10]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        for k, (size, tokens) in enumerate(itertools.product(sizes, horizons)):
            noise = 1 + 0.0005 * math.sin(7 * k)
            writer.writerow([f"{size:.0f}", f"{tokens:.0f}", repr(loss_of(size, tokens) * noise)])


@pytest.fixture
def law(cli, tmp_path):
    write_rows(tmp_path / "rows.csv")
    assert cli("fit", "rows.csv", "--bootstrap", "100", "-o", "law.json").code == 0
    return "law.json"


def test_fit_finds_the_law_behind_the_rows(cli, law):
    document = cli("fit", "rows.csv", "--bootstrap", "100", "--json").document
    assert {"form", "coefficients", "intervals", "objective", "num_rows"} <= set(document)
    assert list(document["coefficients"]) == ["E", "A", "B", "alpha", "beta"]
    assert document["coefficients"]["E"] == pytest.approx(E, abs=0.03)
    assert document["coefficients"]["alpha"] == pytest.approx(ALPHA, abs=0.02)
    low, high = document["intervals"]["beta"]["80"]
    assert low < high
    assert document["num_rows"] == 20
    assert document["law"] is None


def test_fit_writes_the_law_and_shows_it(cli, law, tmp_path):
    ran = cli("fit", "rows.csv", "--bootstrap", "100", "--drop-highest", "2", "-o", "other.json")
    assert "over 18 rows; N counts total parameters" in ran.stdout
    assert "alpha" in ran.stdout
    assert "Written to other.json." in ran.stdout
    assert json.loads((tmp_path / "other.json").read_text())["num_rows"] == 18


def test_an_e_that_the_rows_do_not_determine_is_not_printed(cli, law, capsys):
    known = Law.read(Path(law))
    print_law(Output(is_json=False), known)
    assert f"{known.coefficients['E']:.4g}" in capsys.readouterr().out
    print_law(Output(is_json=False), known.model_copy(update={"e_determined": False}))
    shown = capsys.readouterr().out
    assert re.search(r"^ *E +not determined +[\d.]+ to [\d.]+ ", shown, flags=re.MULTILINE)
    assert f" {known.coefficients['E']:.4g} " not in shown
    assert f"{known.coefficients['alpha']:.4g}" in shown


def test_the_seed_of_the_bootstrap_is_the_users(cli, law):
    intervals = [
        cli("fit", "rows.csv", "--bootstrap", "100", "--seed", seed, "--json").document["intervals"]
        for seed in ("1", "1", "2")
    ]
    assert intervals[0] == intervals[1] != intervals[2]


@pytest.mark.parametrize(
    "options",
    [
        ["--params-column", "big", "--tokens-column", "seen", "--loss-column", "nll"],
        ["--columns", "params=big", "--columns", "tokens=seen", "--columns", "loss=nll"],
    ],
)
def test_columns_have_the_users_names(cli, tmp_path, options):
    write_rows(tmp_path / "t.csv", ("big", "seen", "nll"))
    assert cli("fit", "t.csv", "--bootstrap", "100", *options, "--json").document["num_rows"] == 20


def test_parse_columns():
    columns = parse_columns(["trunk=group", "loss=a=b"])
    assert (columns.trunk, columns.loss, columns.params) == ("group", "a=b", None)
    with pytest.raises(
        UsageError, match=r"--columns takes FIELD=NAME\. Got 'x'\.\n  try: --columns loss=val_loss"
    ):
        parse_columns(["x"])
    with pytest.raises(UsageError, match=r"--columns knows no field 'los'\. Did you mean 'loss'\?"):
        parse_columns(["los=x"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["none.csv"], "error: none.csv cannot be read: No such file or directory."),
        (["empty.csv"], "error: empty.csv is empty: its first line must name the columns."),
        (["rows.csv", "--loss-column", "los"], "error: rows.csv has no column 'los', which was named for loss."),
        (["rows.csv", "--bootstrap", "7"], "error: --bootstrap must be a whole number from 100 to 1000000. Got '7'."),
        (["rows.csv", "--drop-highest", "-1"], "error: --drop-highest must be a whole number from 0 to "),
        (["rows.csv", "--drop-highest", "20"], "error: drop_highest must be from 0 to 19"),
        (["rows.csv", "--seed", "1.5"], "error: --seed must be a whole number from 0 to 2147483647. Got '1.5'."),
        (["rows.csv", "--count", "all"], "error: Invalid value for '--count': 'all' is not one of 'total', 'body'"),
        (["."], "error: . is not a run folder and holds none."),
    ],
)  # fmt: skip
def test_fit_refuses(cli, tmp_path, arguments, text):
    write_rows(tmp_path / "rows.csv")
    (tmp_path / "empty.csv").touch()
    ran = cli("fit", *arguments)
    assert ran.code == 2
    assert ran.stderr.startswith(text)


def test_forecast_says_the_loss_with_its_intervals(cli, law, tmp_path):
    ran = cli("forecast", law, "--params", "1.2e9", "--tokens", "30B", "-o", "f.json", "--json")
    document = ran.document
    assert set(document) == {"loss", "interval_80", "interval_95", "hash"}
    assert document["loss"] == pytest.approx(loss_of(1.2e9, 30e9), rel=0.01)
    assert document["interval_95"][0] < document["interval_80"][0] < document["interval_80"][1]
    assert json.loads((tmp_path / "f.json").read_text())["hash"] == document["hash"]


def test_forecast_of_a_table_keeps_its_order(cli, law, tmp_path):
    (tmp_path / "points.csv").write_text("tokens,params\n30e9,1e9\n10e9,1e8\n")
    ran = cli("forecast", law, "--rows", "points.csv", "--json")
    predictions = ran.document["predictions"]
    assert [one["num_params"] for one in predictions] == [1e9, 1e8]
    assert [one["loss"] for one in predictions] == [
        pytest.approx(loss_of(1e9, 30e9), rel=0.01),
        pytest.approx(loss_of(1e8, 10e9), rel=0.01),
    ]
    assert {"loss", "interval_80", "interval_95", "hash"} <= set(predictions[0])


def test_forecast_for_people(cli, law):
    ran = cli("forecast", law, "--params", "1.2e9", "--tokens", "30e9")
    for word in ("1.20 B", "30.0 B", "80% interval", "Without a law:", "Add -o forecast.json"):
        assert word in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--params", "1e9"],
            "error: A forecast needs --tokens.\n  try: kleiber forecast law.json --params 1.2e9 --tokens 30e9\n",
        ),
        (
            ["--tokens", "1e9"],
            "error: A forecast needs --params.\n  try: kleiber forecast law.json --params 1.2e9 --tokens 30e9\n",
        ),
        (
            ["--params", "-5", "--tokens", "1e9"],
            ("error: --params must be a positive number. Got '-5'.\n"
            "  try: kleiber forecast law.json --tokens 30e9 --params 2e9\n"),
        ),
        (
            ["--params", "5", "--tokens", "lots"],
            ("error: --tokens must be a positive number. Got 'lots'.\n"
            "  try: kleiber forecast law.json --params 1.2e9 --tokens 2e9\n"),
        ),
        (
            ["--rows", "rows.csv", "--params", "5"],
            ("error: --rows stands in place of --params, --tokens and -o.\n"
            "  try: kleiber forecast law.json --rows rows.csv --json\n"),
        ),
        (["--rows", "none.csv"], "error: none.csv cannot be read: No such file or directory."),
    ],
)  # fmt: skip
def test_forecast_refuses(cli, law, arguments, text):
    ran = cli("forecast", law, *arguments)
    assert ran.code == 2
    assert ran.stderr.startswith(text)


def test_forecast_without_a_law(cli, tmp_path):
    (tmp_path / "law.json").write_text('{"version": 1')
    ran = cli("forecast", "law.json", "--params", "1e9", "--tokens", "1e9")
    assert ran.code == 2
    assert ran.stderr.startswith("error: law.json is truncated or not valid JSON")


@pytest.fixture
def write_run(make_record):
    """Return a function that writes the run which the forecast is about."""

    def write(path, *, val_loss, num_tokens=D, forecast_hash=None):
        make_record(
            path.name,
            num_params=ParamCount(embedding=32_768, body=N - 32_768, head=0, is_tied=True),
            predicted=Predicted(
                forecast_hash=forecast_hash,
                total_time_s=12.0,
                step_time_s=0.01,
                peak_memory_bytes=2e8,
                at=now(),
            ),
            result={"val_loss": val_loss, "num_tokens": num_tokens},
        ).write(RunFolder(path).record_path)

    return write


@pytest.fixture
def forecast(cli, law):
    return cli("forecast", law, "--params", N, "--tokens", D, "-o", "forecast.json", "--json").document


def test_verify_scores_the_forecast_and_writes_the_ledger(cli, forecast, tmp_path, write_run):
    measured = forecast["loss"] / 1.02
    write_run(tmp_path / "big", val_loss=measured, forecast_hash=forecast["hash"])
    document = cli("verify", "forecast.json", "big", "--json").document
    entries = document["ledger"]
    by_method = {entry["method"]: entry for entry in entries if entry["quantity"] == "val_loss"}
    assert set(by_method) == {"law", "last_rung", "log_log_line"}
    assert by_method["law"]["error_frac"] == pytest.approx(0.02)
    assert document["skill"] == by_method["law"]["skill"]
    assert {"quantity", "unit", "predicted", "measured", "error_frac", "skill"} <= set(entries[0])
    times = {entry["quantity"]: entry["error_frac"] for entry in entries if entry["method"] == "plan"}
    assert times == {
        "total_time_s": pytest.approx(0.2),
        "step_time_s": pytest.approx(-0.2),
        "peak_memory_bytes": pytest.approx(1.0),
    }
    assert len(read_ledger(tmp_path / "big" / "ledger.jsonl")) == 6


def test_verify_for_people(cli, forecast, tmp_path, write_run):
    write_run(tmp_path / "big", val_loss=forecast["loss"])
    ran = cli("verify", "forecast.json", "big")
    for word in (
        "loss",
        "+0.00%",
        "held",
        "naive: as the last rung",
        "peak memory",
        "200 MB",
        "total time",
        "10 s",
    ):
        assert word in ran.stdout


def test_verify_says_when_the_interval_missed(cli, forecast, tmp_path, write_run):
    write_run(tmp_path / "big", val_loss=forecast["loss"] * 2)
    assert "missed" in cli("verify", "forecast.json", "big").stdout


@pytest.mark.parametrize(
    ("num_tokens", "text"),
    [
        (D, "error: big is not a run folder: it has no record.json."),
        (2 * D, "error: The forecast is about 1.05 M tokens"),
    ],
)
def test_verify_refuses(cli, forecast, write_run, num_tokens, text):
    if num_tokens != D:
        write_run(Path("big"), val_loss=3.0, num_tokens=num_tokens)
    ran = cli("verify", "forecast.json", "big")
    assert ran.code == 2
    assert ran.stderr.startswith(text)
    assert not (Path("big/ledger.jsonl")).exists()


def write_groups(path):
    """Two ladders of which the second ends 0.1 lower; JSON lines, what tells them apart in `extra`."""
    sizes, horizons = [1e7, 3e7, 1e8, 3e8, 1e9], [1e9, 3e9, 1e10, 3e10]
    with path.open("w") as stream:
        for change, gain in (("plain", 0.0), ("new", 0.1)):
            for k, (size, tokens) in enumerate(itertools.product(sizes, horizons)):
                loss = (loss_of(size, tokens) - gain) * (1 + 0.0005 * math.sin(7 * k))
                row = {
                    "params": size,
                    "tokens": tokens,
                    "loss": loss,
                    "extra": f"change={change};lr=0.{k + 1}",
                }
                stream.write(json.dumps(row) + "\n")


def test_groups_are_fitted_apart_and_compared(cli, tmp_path):
    write_groups(tmp_path / "rows.jsonl")
    arguments = ("fit", "rows.jsonl", "--by", "change", "--bootstrap", "100")
    document = cli(*arguments, "--at-flops", "1e20,1e22", "--json").document
    assert list(document["groups"]) == ["plain", "new"]
    assert document["groups"]["new"]["coefficients"]["E"] == pytest.approx(E - 0.1, abs=0.05)
    comparison = document["comparisons"]["new less plain"]
    assert [one["flops"] for one in comparison["differences"]] == [1e20, 1e22]
    assert comparison["differences"][0]["difference"] == pytest.approx(-0.1, abs=0.01)
    assert comparison["differences"][0]["is_real"] is True
    ran = cli(*arguments)
    for words in ("new less plain at ", "They do not cross from "):
        assert words in ran.stdout
    assert re.search(r"FLOP .* to [+-][\d.]+ +new *$", ran.stdout, flags=re.MULTILINE)


def test_a_condition_keeps_rows(cli, tmp_path):
    write_groups(tmp_path / "rows.jsonl")
    condition = 'change == "new" and lr < 0.9 and params < 1e9'
    assert (
        cli("fit", "rows.jsonl", "--where", condition, "--bootstrap", "100", "--json").document["num_rows"]
        == 15
    )
    ran = cli("fit", "rows.jsonl", "--where", "chang == 1")
    assert ran.code == 2
    assert ran.stderr.startswith(
        "error: --where: 'chang' at character 1 is no column. Did you mean 'change'?"
    )


def test_estimators_stand_side_by_side(cli, law):
    arguments = ("fit", "rows.csv", "--bootstrap", "100", "--estimators", "all", "--at-flops", "1e21,1e22")
    found = cli(*arguments, "--json").document["allocations"]
    assert [one["estimator"] for one in found] == ["projection", "approach1", "approach2", "approach3"]
    projection, approach3 = found[0], found[3]
    assert projection["size_exponent"] == pytest.approx(BETA / (ALPHA + BETA), abs=0.03)
    assert approach3["size_exponent"] == pytest.approx(projection["size_exponent"], abs=1e-3)
    assert [budget["flops"] for budget in projection["budgets"]] == [1e21, 1e22]
    ran = cli(*arguments)
    assert "Best size and tokens on a budget of C = 6 N D" in ran.stdout
    assert "note: Approach 2 is biased" in ran.stdout or "note: Approach 2 needs" in ran.stdout


@pytest.mark.parametrize("form", ["tied", "kaplan", "quadratic", "power_N"])
def test_other_forms_are_fitted_and_foretell(cli, law, form):
    ran = cli("fit", "rows.csv", "--form", form, "--bootstrap", "100", "-o", f"{form}.json")
    assert "over 20 rows; N counts total parameters" in ran.stdout
    document = cli("forecast", f"{form}.json", "--params", "1.2e9", "--tokens", "30B", "--json").document
    assert document["loss"] == pytest.approx(loss_of(1.2e9, 30e9), rel=0.15)
    assert ("in numbers of tokens, which a law in N does not see" in ran.stdout) is (form == "power_N")


def test_repeated_data_is_asked_for_its_different_tokens(cli, tmp_path):
    with (tmp_path / "rows.csv").open("w") as stream:
        stream.write("params,tokens,unique_tokens,loss\n")
        for k, (size, tokens) in enumerate(
            itertools.product([1e7, 3e7, 1e8, 3e8, 1e9], [1e9, 3e9, 1e10, 3e10])
        ):
            unique = tokens / (1, 2, 8)[k % 3]
            stream.write(
                f"{size:.0f},{tokens:.0f},{unique:.0f},{loss_of(size, tokens) * (1 + 0.01 * (k % 3))}\n"
            )
    assert cli("fit", "rows.csv", "--form", "repeated", "--bootstrap", "100", "-o", "law.json").code == 0
    arguments = ("forecast", "law.json", "--params", "1e9", "--tokens", "30e9")
    ran = cli(*arguments)
    assert ran.code == 2
    assert ran.stderr.startswith(
        "error: A law of form 'repeated' needs different training tokens of the run to come."
    )
    few, many = (
        cli(*arguments, "--unique-tokens", unique, "--json").document["loss"] for unique in ("1e9", "30e9")
    )
    assert few > many


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--form", "chinchila"], "error: 'chinchila' is not a form. Did you mean 'chinchilla'?"),
        (["--chance", "0.5"], "error: chance has no effect on the form 'chinchilla': it is of accuracies."),
        (["--by", "nothing"], "error: --by: rows.csv line 2 has no column 'nothing'."),
        (["--by", "params", "-o", "law.pdf"], "error: -o writes .json for a report, or a chart as .html, .svg or .png."),
        (["--estimators", "all"], "error: --estimators needs budgets."),
        (["--at-flops", "1e21"], "error: --at-flops has no effect without --estimators or --by."),
        (["--estimators", "best", "--at-flops", "1e21"], "error: 'best' is not an estimator."),
        (["--estimators", "all", "--at-flops", "1e21,x"], "error: --at-flops must be a positive number. Got 'x'."),
        (["--vocab-size", "4"], "error: run 'rows.csv line 2': a loss of "),
        (["--loss-unit", "nibbles"], "error: Invalid value for '--loss-unit': 'nibbles' is not one of 'nats', 'bits'"),
    ],
)  # fmt: skip
def test_fit_refuses_what_it_cannot_do(cli, tmp_path, arguments, text):
    write_rows(tmp_path / "rows.csv")
    ran = cli("fit", "rows.csv", *arguments)
    assert ran.code == 2
    assert ran.stderr.startswith(text)


def test_the_exponent_of_every_count_is_shown(cli, tmp_path):
    write_rows(tmp_path / "rows.csv")
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    body = [f"{line},{int(line.split(',')[0]) - 5_000_000}" for line in lines[1:]]
    (tmp_path / "rows.csv").write_text("\n".join([f"{lines[0]},body", *body]))
    ran = cli("fit", "rows.csv", "--bootstrap", "100")
    assert re.search(r"a is 0\.5\d\d by total, 0\.\d\d\d by body; this law counts total\.", ran.stdout)


def test_a_group_that_cannot_be_fitted_is_named(cli, tmp_path):
    write_rows(tmp_path / "rows.csv")
    ran = cli("fit", "rows.csv", "--by", "params")
    assert ran.code == 2
    assert ran.stderr.startswith("error: Group '10000000': A law in N and D needs runs of at least two sizes")


def test_many_groups_take_a_line_each(cli, tmp_path):
    write_rows(tmp_path / "rows.csv")
    ran = cli("fit", "rows.csv", "--by", "params", "--form", "power_D", "--bootstrap", "100")
    assert ran.code == 0
    assert re.search(r"^ *10000000 +4 +[\d.]+ ", ran.stdout, flags=re.MULTILINE)
    assert "80% intervals" not in ran.stdout


def test_fit_says_how_far_a_run_falls_and_what_its_seed_does(cli, tmp_path):
    cells = [(n, d, s) for n in (1e7, 3e7, 1e8, 3e8) for d in (1e9, 4e9, 1.6e10) for s in (0, 1)]
    lines = [f"{n:g},{d:g},{loss_of(n, d) * (1.004 if s else 0.996)},{s}" for n, d, s in cells]
    (tmp_path / "seeds.csv").write_text("\n".join(["params,tokens,loss,seed", *lines]))
    ran = cli("fit", "seeds.csv", "--bootstrap", "100", "--json")
    # Two seeds 0.8% apart scatter by 0.8% / sqrt(2).
    noise = ran.document["noise"]
    seeds = math.hypot(noise["trunk_frac"], noise["run_frac"])
    assert seeds == pytest.approx(0.008 / 2**0.5, rel=0.35)
    assert re.search(rf"{seeds:.2%} by its seed, the floor of any forecast's error", ran.stderr)


def test_a_law_of_accuracies_is_told_as_one(cli, tmp_path):
    lines = [
        f"{n:g},{d:g},{0.25 + 0.75 / (1 + math.exp(-(2 - 300 / n**0.3 - 500 / d**0.3)))}"
        for n in (1e6, 4e6, 1.6e7, 6.4e7) for d in (1e8, 4e8, 1.6e9)
    ]  # fmt: skip
    (tmp_path / "acc.csv").write_text("\n".join(["params,tokens,accuracy", *lines]))
    arguments = ("fit", "acc.csv", "--form", "accuracy", "--chance", "0.25", "--bootstrap", "100")
    assert "accuracies as parts of 1" in cli(*arguments, "-o", "acc-law.json").stdout
    ran = cli("forecast", "acc-law.json", "--params", "1e8", "--tokens", "5e9")
    assert re.search(r"accuracy +80% interval", ran.stdout)
    assert re.search(r"\d\d\.\d\d% to \d\d\.\d\d%", ran.stdout)
    assert "4.9 times the compute of the dearest of the law's 12 rows" in ran.stdout


def test_an_unknown_estimator_is_told_before_anything_is_fitted(cli, law):
    ran = cli("fit", "rows.csv", "--estimators", "aproach2", "--at-flops", "1e21")
    assert ran.code == 2
    assert "'aproach2' is not an estimator. Did you mean 'approach2'?" in ran.stderr
    assert "alpha" not in ran.stdout


def test_one_group_is_not_compared(cli, tmp_path):
    write_rows(tmp_path / "rows.csv")
    text = (tmp_path / "rows.csv").read_text().splitlines()
    (tmp_path / "one.csv").write_text("\n".join([f"{text[0]},group", *(f"{line},a" for line in text[1:])]))
    ran = cli("fit", "one.csv", "--by", "group", "--bootstrap", "100")
    assert "There is one group only, a: nothing to compare it with." in ran.stdout
