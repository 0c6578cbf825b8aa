from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kleiber.report import write_report
from kleiber.report.predictions import prediction_groups
from kleiber.report.sources import read_sources
from kleiber.report.words import read_words
from kleiber.runs import Record, RunFolder, Shown, write_shown

EN = read_words("en")
PNG = base64.b64encode(b"\x89PNG and so on").decode()
HOSTILE = '"><script>window.stolen=1</script>'


def predicted(tmp_path: Path, make_run: Callable[..., Record], shown: list[Shown]) -> Path:
    run = RunFolder(tmp_path / "small")
    make_run(run.path, num_params=50_000, num_steps=1000)
    write_shown(run.predictions_path, shown)
    return run.path


@pytest.fixture
def pictured(tmp_path: Path, make_run: Callable[..., Record]) -> Path:
    return predicted(
        tmp_path,
        make_run,
        [
            Shown(image_png=PNG, expected="ant", predicted="ant", is_right=True, confidence_frac=0.9),
            Shown(image_png=PNG, expected=HOSTILE, predicted="cat", is_right=False, confidence_frac=0.5),
        ],
    )


def test_pictures_stand_in_the_page_wrong_ones_first(pictured: Path, tmp_path: Path) -> None:
    page = write_report([pictured], tmp_path / "report.html").read_text(encoding="utf-8")
    figures = re.findall(r'<figure class="(good|bad)"><img src="([^"]+)" alt="([^"]*)">', page)
    assert [tone for tone, *_ in figures] == ["bad", "good"]
    assert {source for _, source, _ in figures} == {f"data:image/png;base64,{PNG}"}
    assert figures[1][2] == "expected ant, predicted ant"
    assert "<h3>What small predicts</h3>" in page
    assert '<section id="inference">' in page
    assert "half of what is shown" in page
    assert "<script>window.stolen" not in page
    assert "img-src data:" in page


def test_chinese_predictions(pictured: Path, tmp_path: Path) -> None:
    page = write_report([pictured], tmp_path / "report.html", lang="zh").read_text(encoding="utf-8")
    assert "<h3>small 的预测</h3>" in page
    assert "应为 ant，预测为 ant" in page


def test_texts_stand_in_a_table(tmp_path: Path, make_run: Callable[..., Record]) -> None:
    run = predicted(
        tmp_path,
        make_run,
        [
            Shown(text="good film", expected="yes", predicted="yes", is_right=True, confidence_frac=0.9999),
            Shown(text="bad film", expected="no", predicted="yes", is_right=False, confidence_frac=0.6),
        ],
    )
    (group,) = prediction_groups(read_sources([run]), EN)
    assert group.table
    assert group.table.head == ("sample", "expected", "predicted", "confidence")
    assert [[cell.text for cell in row] for row in group.table.rows] == [
        ["bad film", "no", "yes", "60.0%"],
        ["good film", "yes", "yes", ">99.9%"],
    ]
    assert [row[2].tone for row in group.table.rows] == ["bad", "good"]
    page = write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<div class="table wide"' in page


def test_what_is_near_or_far_is_neither_right_nor_wrong(
    tmp_path: Path, make_run: Callable[..., Record]
) -> None:
    run = predicted(tmp_path, make_run, [Shown(text="1, 2", expected="3", predicted="2.5")])
    (group,) = prediction_groups(read_sources([run]), EN)
    assert group.table
    assert group.table.head == ("sample", "expected", "predicted")
    assert not group.has_wrong
    page = write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "half of what is shown" not in page


def test_runs_without_predictions_have_no_group(study: Path) -> None:
    assert prediction_groups(read_sources([study]), EN) == []
