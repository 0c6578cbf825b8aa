from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kleiber.report.data_tables import balance_tables, data_notes
from kleiber.report.facts import environment_facts, figures, provenance
from kleiber.report.measures import format_estimate, format_measure, measure_name
from kleiber.report.run_tables import measures_table, runs_table
from kleiber.report.sources import Sources, read_sources
from kleiber.report.words import read_words
from kleiber.runs import Baseline, BaselineResult, DataShape, Estimate, Record, RunFolder

EN = read_words("en")


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.01, high=value + 0.01)


def classified(record: Record) -> Record:
    """Return the record of a run that told three classes apart."""
    assert record.result
    data = record.data.model_copy(
        update={
            "source": "digits", "unit": "sample", "shape": DataShape(inputs="features", num_features=4, num_outputs=3),
            "tokenizer_hash": None, "classes": ("ant", "bee", "cat"), "class_counts": (50, 100, 50),
            "num_documents": 300, "num_train_tokens": 200, "num_val_tokens": 50, "num_test_tokens": 50,
            "num_duplicates": 3, "num_bad_samples": 2, "notes": ("Pictures were decoded from JPEG.",),
        }
    )  # fmt: skip
    measures = {"accuracy": estimate(0.9), "auc": estimate(0.95)}
    result = record.result.model_copy(
        update={"val_metrics": measures, "test_loss": 0.3, "test_metrics": {"accuracy": estimate(0.88)}}
    )
    return record.model_copy(update={"data": data, "result": result})


@pytest.fixture
def folder(tmp_path: Path, make_run: Callable[..., Record]) -> Path:
    run = RunFolder(tmp_path / "small")
    classified(make_run(run.path, num_params=50_000, num_steps=1000)).write(run.record_path)
    return run.path


@pytest.fixture
def sources(folder: Path) -> Sources:
    return read_sources([folder])


def cells(table: object) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]  # type: ignore[attr-defined]


def test_every_measure_stands_beside_the_classical_methods(folder: Path) -> None:
    linear = BaselineResult(method="linear model", time_s=1.0, val_metrics={"accuracy": estimate(0.7)})
    Baseline(eval_hash="e", results=(linear,)).write(RunFolder(folder).baseline_path)
    assert cells(measures_table(read_sources([folder]), EN)) == [
        ["small", "accuracy", "this model", "90.00% [89.00%, 91.00%]", "88.00% [87.00%, 89.00%]"],
        ["small", "accuracy", "linear model", "70.00% [69.00%, 71.00%]", "–"],
        ["small", "area under ROC", "this model", "0.9500 [0.9400, 0.9600]", "–"],
    ]


def test_a_run_stands_in_its_tasks_own_measure(sources: Sources) -> None:
    words = EN.counting(sources.unit)
    table = runs_table(sources, words)
    assert table
    row = dict(zip(table.head, (cell.text for cell in table.rows[0]), strict=True))
    assert row["accuracy"] == "90.00%"
    assert row["samples"] == "512 K"
    assert "samples/s" in row
    assert "bits a byte" not in row


def test_a_study_of_text_keeps_its_bits(study: Path) -> None:
    text = read_sources([study])
    table = runs_table(text, EN)
    assert table
    assert "bits a byte" in table.head
    assert text.unit == "token"


def test_a_run_without_a_result_has_no_measures(tmp_path: Path, make_run: Callable[..., Record]) -> None:
    make_run(tmp_path / "going", num_params=50_000, num_steps=1000, status="running")
    going = read_sources([tmp_path / "going"])
    assert measures_table(going, EN) is None
    table = runs_table(going, EN)
    assert table
    assert len(table.rows[0]) == len(table.head)


def test_the_first_screen_shows_the_test_split_where_there_is_one(sources: Sources, folder: Path) -> None:
    shown = {fact.name: fact for fact in figures(sources, EN)}
    assert shown["Accuracy"].value == "88.00%"
    assert shown["Accuracy"].note == "on the test split; 95% between 87.00% and 89.00%"
    record = sources.runs[0].record
    assert record.result
    untested = record.result.model_copy(update={"test_metrics": {}})
    record.model_copy(update={"result": untested}).write(RunFolder(folder).record_path)
    shown = {fact.name: fact for fact in figures(read_sources([folder]), EN)}
    assert shown["Accuracy"].note == "on the validation split; 95% between 89.00% and 91.00%"


def test_the_balance_of_classes_by_hand(sources: Sources) -> None:
    ((source, table),) = balance_tables(sources, EN)
    assert source == "digits"
    assert cells(table) == [["bee", "100", "50.0%"], ["ant", "50", "25.0%"], ["cat", "50", "25.0%"]]
    assert data_notes(sources, EN) == [
        "digits: 3 copies of other samples were removed from training.",
        "digits: 2 samples could not be decoded and were left out.",
        "digits: Pictures were decoded from JPEG.",
    ]


def test_samples_are_called_samples(sources: Sources) -> None:
    words = EN.counting(sources.unit)
    facts = {fact.name: fact for fact in environment_facts(sources, words)}
    assert facts["data"].note == "300 samples, 200 for training, 50 for validation, 50 for the test"
    assert "Python whose library it is" not in facts
    assert "tokenizer" not in {fact.name for fact in provenance(sources, words)}


def test_measures_are_written_as_people_write_them() -> None:
    assert format_measure("auc", 0.99991) == "0.9999"
    assert format_measure("r2", -0.25) == "−0.250"
    assert format_measure("bleu", 31.256) == "31.3"
    assert format_measure("mean_absolute_error", 43.21987) == "43.22"
    assert format_estimate("accuracy", None) == "–"
    assert measure_name("macro_f1", read_words("zh")) == "宏平均 F1"
    assert measure_name("a_new_one", EN) == "a new one"
