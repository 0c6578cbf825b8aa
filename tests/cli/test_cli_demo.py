"""`kleiber demo` tells what happens and ends with the ledger."""

from __future__ import annotations

import json
import sys

import pytest

import kleiber.report
import kleiber.serve.trial as serve_trial
import kleiber.study.demo as study_demo
from kleiber.cost import MemoryBytes
from kleiber.errors import Interrupted
from kleiber.fleet import Done, Progressed
from kleiber.runs import DataMeta, LedgerEntry, ParamCount, Row
from kleiber.scaling import fit, forecast
from kleiber.serve.trial import Reply
from kleiber.study.demo import Prepared, Sample, Verified
from kleiber.study.demo_design import MAX_SEED, demo_designs
from kleiber.study.ladder_plan import LadderPlan, RunPlan
from kleiber.train import Progress


def make_events():
    """Return one event of each kind, in the order of a demo."""
    meta = DataMeta(
        source="stdlib", corpus_hash="c", python_version="3.12.1", tokenizer_hash="t", eval_hash="e", shape={"inputs": "tokens", "vocab_size": 1024, "context": 128}, num_documents=777, num_train_tokens=2_500_000, num_val_tokens=65_536, val_bytes_per_token=3.0,
    )  # fmt: skip
    need = RunPlan(
        name="d2-w32-s0", num_params=ParamCount(embedding=1000, body=2000, head=0, is_tied=True), num_tokens=512_000,
        train_flops=1e9, step_time_s=0.002, total_time_s=12.0,
        memory_bytes=MemoryBytes(weights=1, gradients=1, optimizer=2, activations=3, peak=5e6),
    )  # fmt: skip
    plan = LadderPlan(
        rungs=(need,), target=need.model_copy(update={"name": "target"}), num_workers=2, ladder_time_s=12.0,
        total_time_s=24.0, total_flops=2e9, assumptions=("Time is measured.",), created_at="then",
    )  # fmt: skip
    rows = [
        Row(run="r", num_params=ParamCount(embedding=0, body=n, head=0), num_tokens=d, trunk=f"{n}", eval_hash="e",
            loss=1.7 + 40 / n**0.3 + 90 / d**0.35)
        for n in (10**4, 10**5, 10**6) for d in (1e6, 3e6, 1e7)
    ]  # fmt: skip
    law = fit(rows, num_bootstrap=100)
    entries = (
        LedgerEntry(
            quantity="val_loss", unit="nats/token", predicted=3.03, measured=3.0, predicted_at="a", measured_at="b",
            method="law", interval_80=(2.9, 3.1), skill=0.15,
        ),
        LedgerEntry(
            quantity="peak_memory_bytes", unit="B", predicted=2e8, measured=1e8, predicted_at="a", measured_at="b",
            method="plan",
        ),
    )  # fmt: skip
    return (
        "Preparing the text",
        Prepared(meta),
        plan,
        "Training the ladder",
        Progressed(
            "d2-w32-s0", Progress(run="d2-w32-s0", step=50, num_steps=100, loss=4.0, tokens_per_s=9e3)
        ),
        Progressed(
            "d2-w32-s0", Progress(run="d2-w32-s0", step=100, num_steps=100, loss=3.5, tokens_per_s=9e3)
        ),
        Done("d2-w32-s0", None),
        law,
        forecast(law, 10**7, 3e7),
        Verified(entries),
        Sample("def f(", "x):\n    return x[1:end:2]\x1b[2J"),
    )


@pytest.fixture
def asked(monkeypatch):
    """Put events in place of a real study; return what was asked of it."""
    calls = []

    def run_demo(folder, *, seed, fresh, on_event):
        calls.append((str(folder), seed, fresh))
        events = make_events()
        for event in events:
            on_event(event)
        return next(event.entries for event in events if isinstance(event, Verified))

    def write_report(paths, output, *, lang):
        calls.append(([str(path) for path in paths], str(output), lang))
        return output

    def streamed_reply(folder, prompt, *, on_text):
        calls.append((str(folder), prompt))
        on_text("x):")
        return Reply(text="x):", num_tokens=3, first_token_s=0.004, tokens_per_s=1234.5)

    monkeypatch.setattr(study_demo, "run_demo", run_demo)
    monkeypatch.setattr(serve_trial, "streamed_reply", streamed_reply)
    monkeypatch.setattr(kleiber.report, "write_report", write_report)
    return calls


def test_the_story_for_people(cli, asked):
    ran = cli("demo")
    assert ran.code == 0
    told = [
        "Preparing the text ...", "777 files of Python 3.12.1: 2.50 M tokens to train on, 65.5 K held out", "1 x d2-w32",
        "target", "1 rungs, 2 at a time: 12 s. With the target: 24 s and 2.00 GFLOP.", "Training the ladder ...",
        "d2-w32-s0 has finished", "L(N, D) = E + A/N^alpha + B/D^beta", "over 9 rows", "Without a law:",
        "3.0300", "+1.00%", "2.9000 to 3.1000 held", "0.150", "200 MB", "+100.00%",
        "'def f(' goes on:\ndef f(x):\n    return x[1:end:2][2J\n", "Serving one reply over HTTP ...", "def __init__(self, x):", "3 tokens: the first after 4 ms, then 1,234 a second.",
        "kleiber serve runs/demo/target   and http://127.0.0.1:8000/ in a browser is a page to try it",
        "runs/demo/report.html: open it in a browser.",
    ]  # fmt: skip
    place = 0
    for text in told:
        assert text in ran.stdout[place:], text
        place = ran.stdout.index(text, place)
    assert asked == [
        ("runs/demo", 0, False),
        ("runs/demo/target", "def __init__(self, "),
        (["runs/demo"], "runs/demo/report.html", "en"),
    ]


def test_json_holds_the_ledger(cli, asked):
    ran = cli("demo", "-o", "there", "--seed", "7", "--lang", "zh", "--fresh", "--json")
    assert ran.stdout.count("\n") == 1
    document = ran.document
    assert document["skill"] == 0.15
    assert {"quantity", "unit", "predicted", "measured", "error_frac", "skill"} <= set(document["ledger"][0])
    assert document["ledger"][0]["error_frac"] == pytest.approx(0.01)
    assert document["report"] == "there/report.html"
    assert document["served"]["num_tokens"] == 3
    assert [asked[0], asked[2]] == [("there", 7, True), (["there"], "there/report.html", "zh")]
    assert json.dumps(document)


def test_without_its_extra_nothing_is_served(cli, asked, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("kleiber.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    ran = cli("demo", "--json")
    assert "Nothing is served: fastapi is not installed.  pip install 'kleiber[serve]'" in ran.stderr
    assert ran.document["served"] is None


def test_ctrl_c_says_how_to_resume(cli, monkeypatch):
    def run_demo(folder, **_):
        raise Interrupted(
            "stopped; every run wrote a checkpoint.", hint="run the same command again: it resumes"
        )

    monkeypatch.setattr(study_demo, "run_demo", run_demo)
    ran = cli("demo")
    assert (ran.code, ran.stdout) == (130, "")
    assert ran.stderr.endswith("  try: run the same command again: it resumes\n")


@pytest.mark.parametrize("seed", ["-1", "x", "1.5", str(MAX_SEED + 1)])
def test_a_bad_seed(cli, asked, seed):
    ran = cli("demo", "--seed", seed)
    assert ran.code == 2
    assert ran.stderr == (
        f"error: --seed must be a whole number from 0 to {MAX_SEED}. Got {seed!r}.\n  try: kleiber demo --seed 1\n"
    )
    assert asked == []


def test_the_largest_seed_gives_a_design():
    assert max(max(design.seeds) for design in demo_designs(MAX_SEED)) < 2**31
