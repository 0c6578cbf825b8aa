from __future__ import annotations

from pathlib import Path

import pytest

from kleiber.report.facts import answer, environment_facts, figures, order_proof, provenance
from kleiber.report.run_tables import _with_half_width, runs_table
from kleiber.report.sources import Sources, read_sources
from kleiber.report.tables import format_frac, ledger_table, plan_table
from kleiber.report.words import read_words
from kleiber.runs import LedgerEntry

EN = read_words("en")


@pytest.fixture(scope="module")
def sources(study: Path) -> Sources:
    return read_sources([study])


def entry(predicted: float, *, interval_80: tuple[float, float] | None, skill: float | None) -> LedgerEntry:
    return LedgerEntry(
        quantity="val_loss", unit="nats/token", predicted=predicted, measured=3.0, predicted_at="2026-01-05",
        measured_at="2026-01-05", method="law", interval_80=interval_80, skill=skill,
    )  # fmt: skip


def test_the_cost_of_the_ladder_is_worked_by_hand(sources: Sources) -> None:
    cost = next(fact for fact in figures(sources, EN) if fact.name == "Ladder's cost")
    own_steps = 2400 + 0.25 * (1000 + 1800 + 3200)
    share = 2 * own_steps * (39_200 + 84_600 + 182_000 + 407_000) / (5600 * 1_270_000)
    assert cost.value == format_frac(share)
    assert cost.note.startswith("of the target's 24.0 TFLOP; ")


def test_figures_of_a_missed_interval(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    missed = entry(3.36, interval_80=(3.2, 3.5), skill=0.5)
    monkeypatch.setattr(Sources, "ledger", [missed])
    shown = {fact.name: (fact.value, fact.tone) for fact in figures(sources, EN)}
    assert shown["Error"] == ("+12.0%", "")
    assert shown["Skill"] == ("0.50", "")
    assert shown["80% interval"] == ("missed", "bad")
    assert shown["Measured loss"] == ("3.0000", "truth")
    assert answer(sources, EN).endswith("The forecast of its loss was 12.0% off.")
    monkeypatch.setattr(Sources, "ledger", [entry(3.36, interval_80=None, skill=None)])
    assert {"Skill", "80% interval"}.isdisjoint(fact.name for fact in figures(sources, EN))


def test_ledger_rows() -> None:
    table = ledger_table([entry(2.97, interval_80=(2.9, 3.1), skill=0.03)], EN)
    assert table
    cells = [cell.text for cell in table.rows[0]]
    assert cells == ["validation loss", "the law", "2.9700", "3.0000", "−1.00%", "0.03", "held"]
    assert ledger_table([], EN) is None
    named = entry(2.0, interval_80=None, skill=None).model_copy(update={"method": "a new one"})
    other = ledger_table([named], EN)
    assert other
    assert other.rows[0][1].text == "a new one"


def test_a_plan_shows_what_it_has() -> None:
    table = plan_table({"rungs": [{"name": "a", "num_params": {"total": 1000}}, "odd"], "target": {}}, EN)
    assert table
    assert [cell.text for cell in table.rows[0]] == ["a", "1.00 K", *["–"] * 8]
    assert table.rows[1][0].text == "target"
    assert plan_table({"rungs": 3}, EN) is None


def test_every_run_has_a_row(sources: Sources) -> None:
    table = runs_table(sources, EN)
    assert table
    assert len(table.rows) == 33
    assert {len(row) for row in table.rows} == {len(table.head)}


def test_where_it_ran_and_in_which_order(sources: Sources) -> None:
    facts = {fact.name: fact for fact in environment_facts(sources, EN)}
    assert facts["seeds"].value == "0, 1"
    assert facts["data"].note == "812 documents, 6.40 M training tokens, 65.5 K for validation"
    assert facts["cores · threads a run"].value == "2 · 1"
    hashes = {fact.name: fact.value for fact in provenance(sources, EN)}
    assert hashes["forecast"] == hashes["forecast named in the target's record"]
    assert hashes["law"] == hashes["law the forecast came from"]
    proof = order_proof(sources, EN)
    assert proof
    assert proof.tone == "good"


def test_a_loss_without_an_interval_is_shown_alone() -> None:
    assert _with_half_width(3.25, None) == "3.2500"
    assert _with_half_width(3.25, 0.0215) == "3.2500 ± 0.021"
