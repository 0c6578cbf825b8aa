"""`kleiber advise`: from a law to a ranking that a run can be held to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kleiber.study.advice.document import Advice

LAW = ["advise", "besiroglu", "--device", "h100-sxm"]
ASKED = [*LAW, "--loss", "2.2", "--serve-tokens", "1e12"]


@pytest.fixture
def advised(cli):
    return cli(*ASKED, "-o", "advice.json", "--json")


def test_the_document_is_the_one_that_is_written(advised):
    assert advised.code == 0
    document = advised.document
    assert document == json.loads(Path("advice.json").read_text())
    assert {
        "question",
        "loss",
        "unit",
        "routes",
        "left_out",
        "break_evens",
        "elsewhere",
        "why",
        "warnings",
        "hash",
    } <= set(document)
    assert document["routes"][0]["name"] == "smaller"
    assert Advice.read(Path("advice.json")).hash == document["hash"]


def test_for_people(cli):
    ran = cli(*ASKED, "--num-devices", "8", "--chart", "advice.svg")
    assert ran.code == 0
    for words in (
        "Loss 2.2 nats/token; 1.00 T tokens served; on 8 x h100-sxm.",
        "1 smaller and longer",
        "Training and serving apart:",
        "Served in bf16, 32 at once:",
        "Smaller and longer costs $",
        "served tokens (80%: ",
        "Trained as planned, it is foretold a loss of 2.2 after ",
        "Its plan: kleiber plan gpt:depth=",
        "- grow from a donor was left out: no trained model was named: --donor runs/NAME",
        "list price of",
        "Add -o advice.json to be held to it.",
        "wrote advice.svg",
    ):
        assert words in ran.stdout
    assert Path("advice.svg").read_text().startswith("<svg")


def test_the_plan_of_the_first_route_is_a_command_that_works(cli):
    said = next(line for line in cli(*ASKED).stdout.splitlines() if line.startswith("Its plan: "))
    command = said.removeprefix("Its plan: kleiber ").split()
    document = cli(*command, "--json").document
    advised = cli(*ASKED, "--json").document["routes"][0]
    assert document["num_params"]["total"] == advised["num_params"]
    assert document["train_flops"] == pytest.approx(advised["train"]["flops"]["value"], rel=0.001)


def test_a_budget_ranks_by_its_own_unit(cli):
    document = cli(*LAW, "--budget-flops", "1e23", "--serve-tokens", "1e12", "--json").document
    assert document["unit"] == "flops"
    assert document["routes"][0]["total"]["flops"]["value"] == pytest.approx(1e23, rel=1e-3)
    assert document["question"]["budget"] == 1e23


def test_nothing_served_and_time_in_place_of_money(cli):
    document = cli(*LAW, "--loss", "2.2", "--serve-tokens", "0", "--by", "s", "--json").document
    assert (document["unit"], document["routes"][0]["name"]) == ("s", "optimum")


def test_an_advice_is_verified_against_no_run_but_one_that_followed_it(cli, advised, make_record):
    record = make_record("small", started_at="2999-01-01T00:00:00+00:00")
    Path("run").mkdir()
    record.write(Path("run/record.json"))
    ran = cli("verify", "advice.json", "run")
    assert ran.code == 2
    assert "is none of the routes: gpt:depth=" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([*LAW, "--serve-tokens", "1e12"], "error: Advice is for a quality or for a budget, one of --loss, --budget-usd, --budget-s, --budget-flops; none was given."),
        ([*ASKED, "--budget-usd", "5"], "error: Advice is for a quality or for a budget, one of --loss, --budget-usd, --budget-s, --budget-flops; --loss and --budget-usd were given."),
        ([*LAW, "--loss", "2.2"], "error: Which route is cheapest depends on how many tokens will be served: --serve-tokens.\n  try: kleiber advise besiroglu --loss 2.1 --serve-tokens 1e12"),
        ([*LAW, "--loss", "-1", "--serve-tokens", "1e9"], "error: --loss must be a positive number. Got '-1'.\n  try: kleiber advise besiroglu --serve-tokens 1e12 --loss 2.1\n"),
        ([*LAW, "--loss", "2.2", "--serve-tokens", "-1"], "error: --serve-tokens must be a positive number. Got '-1'."),
        ([*LAW, "--loss", "1.8", "--serve-tokens", "1e12"], "error: A loss of 1.8 is not above the law's floor E = 1.817"),
        ([*LAW, "--budget-usd", "1", "--serve-tokens", "1e12"], "error: A budget of $1 is too small: serving 1.00 T tokens"),
        ([*LAW, "--budget-usd", "1e5", "--serve-tokens", "1e12", "--by", "s"], "error: --by s does not go with --budget-usd"),
        ([*ASKED, "--by", "joules"], "error: --by must be one of usd, s, flops. Got 'joules'."),
        ([*ASKED, "--chart", "a.pdf"], "error: --chart writes .svg, .png or .html. Got 'a.pdf'."),
        ([*ASKED, "--serve-batch", "0"], "error: --serve-batch must be a whole number from 1 to 10000000. Got '0'."),
        ([*ASKED, "--donor", "nowhere"], "error: nowhere is not a run folder: it has no record.json."),
        ([*ASKED, "--receipts", "nowhere"], "error: nowhere has no receipt.json: it was not compressed."),
        ([*ASKED, "--unique-tokens", "1e9"], "error: --unique-tokens has no effect on a law"),
        (["advise", "chinchila", "--loss", "2.2", "--serve-tokens", "1e9"], "error: 'chinchila' is no published law."),
        (["advise", "none.json", "--loss", "2.2", "--serve-tokens", "1e9"], "error: 'none.json' is no file.\n  try: kleiber advise besiroglu --loss 2.1"),
        (["advise", "besiroglu", "--loss", "2.2", "--serve-tokens", "1e9", "--device", "h1000"], "error: unknown device 'h1000'."),
    ],
)  # fmt: skip
def test_refusals(cli, arguments, text):
    ran = cli(*arguments)
    assert ran.code == 2
    assert ran.stderr.startswith(text)
