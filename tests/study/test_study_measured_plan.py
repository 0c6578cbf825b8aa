from __future__ import annotations

from dataclasses import dataclass

import pytest

from kleiber.cost.usage import Usage
from kleiber.errors import RunFolderError, StorageError
from kleiber.models import parse_size, resolve_spec
from kleiber.runs import Recipe
from kleiber.runs.ledger import read_ledger
from kleiber.study import measured_plan
from kleiber.study.cost_plan import plan_cost
from kleiber.study.job import Job
from kleiber.study.measured_plan import file_entries, measure_plan
from kleiber.study.measured_step import SubjectArguments
from kleiber.study.model_cost import costed_family
from kleiber.study.place import here


@dataclass(frozen=True)
class Measured:
    peak_memory_bytes: int = 10**7
    step_time_s: float = 0.02


@pytest.fixture
def measured(monkeypatch):
    """Return a plan measured without running anything, and how it was to be measured."""
    asked = []
    monkeypatch.setattr(
        measured_plan, "measure", lambda *args, **options: asked.append((args, options)) or Measured()
    )
    spec = resolve_spec(Recipe(model=parse_size("gpt:depth=2,width=64")))
    model, place = costed_family("gpt:depth=2,width=64", spec, batch_size=4), here(None, num_threads=1)
    plan = plan_cost(model, Usage(batch_size=4), place, Job())
    return plan, measure_plan(plan, SubjectArguments("gpt:depth=2,width=64"), place, num_steps=3), asked


def test_both_quantities_stand_beside_what_was_predicted(measured):
    plan, (memory, time), _ = measured
    assert (memory.quantity, memory.unit, memory.measured) == ("peak_memory_bytes", "B", 1e7)
    assert memory.predicted == plan.memory_bytes.peak
    assert (time.quantity, time.unit, time.measured) == ("step_time_s", "s", 0.02)
    assert time.predicted == plan.step_time_s
    assert time.error_frac == pytest.approx(plan.step_time_s / 0.02 - 1)
    assert memory.subject == "gpt:depth=2,width=64, batch 4, train, fp32"
    assert memory.predicted_at <= memory.measured_at


def test_memory_and_time_have_an_allocator_each(measured):
    plan, _, asked = measured
    assert [options["regime"] for _, options in asked] == ["return", "keep"]
    assert [options["num_steps"] for _, options in asked] == [2, 3]
    assert all(options["num_threads"] == 1 for _, options in asked)
    assert all(args == (SubjectArguments("gpt:depth=2,width=64"), plan.usage) for args, _ in asked)


def test_a_ledger_keeps_what_it_held(measured, tmp_path):
    _, entries, _ = measured
    ledger = tmp_path / "new" / "plans.jsonl"
    file_entries(ledger, ())
    assert read_ledger(ledger) == []
    file_entries(ledger, entries)
    file_entries(ledger, entries[:1])
    assert read_ledger(ledger) == [*entries, entries[0]]


def test_ledgers_that_are_none(tmp_path):
    (tmp_path / "text").write_text("hello\n")
    with pytest.raises(RunFolderError, match="line 1 is not valid JSON"):
        file_entries(tmp_path / "text", ())
    with pytest.raises(StorageError, match="cannot write"):
        file_entries(tmp_path / "text" / "plans.jsonl", ())
