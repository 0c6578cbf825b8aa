from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from kleiber.errors import RunFolderError, StorageError, UsageError
from kleiber.report import write_report
from kleiber.runs import Record
from kleiber.scaling import Forecast, Law
from kleiber.units import format_loss

PARTS_EN = ["Parameter scale", "Training methods", "Inference efficiency", "Trust"]
LINKS = {"src", "href", "action", "srcset", "poster", "background", "data"}
PARTS_ZH = ["参数规模", "训练方法", "推理效率", "可解释与隐私"]


def page_of(paths: list[Path], folder: Path, **options: Any) -> str:
    return write_report(paths, folder / "report.html", **options).read_text(encoding="utf-8")


class Elements(HTMLParser):
    """What a browser makes of the page: elements, headings and the text outside script and style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        last = self.tags[-1][0] if self.tags else ""
        if last == "h2" and data.strip():
            self.headings.append(data)
        if last not in {"script", "style"}:
            self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", {}))


def headings(page: str) -> list[str]:
    return Elements(page).headings


def specs(page: str) -> dict[str, Any]:
    text = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.DOTALL)
    assert text
    charts: dict[str, Any] = json.loads(text[1])
    return charts


def visible(page: str) -> str:
    return re.sub(r"\s+", " ", " ".join(Elements(page).texts))


@pytest.fixture(scope="module")
def page(study: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of([study], tmp_path_factory.mktemp("en"))


def test_a_study_is_told_in_four_parts(page: str, study: Path) -> None:
    assert headings(page) == PARTS_EN
    assert list(specs(page)["specs"]) == ["answer", "curves", "isoflop", "rate", "scaling"]
    text = visible(page)
    said = Forecast.read(study / "forecast.json")
    measured = Record.read(study / "target" / "record.json").result
    assert measured
    error = abs(said.loss - measured.val_loss) / measured.val_loss
    assert "it forecast a model with 5.5 times the compute of the largest of them" in text
    assert f"The forecast of its loss was {error:.2%} off." in text
    for value in (said.loss, *said.interval_80, measured.val_loss):
        assert format_loss(value) in text
    assert "names it by its hash" in text
    assert said.hash in text
    assert Law.read(study / "law.json").hash in text
    assert "as good as the last rung" in text


def test_chinese(study: Path, tmp_path: Path) -> None:
    page = page_of([study], tmp_path, lang="zh")
    assert headings(page) == PARTS_ZH
    assert '<html lang="zh-Hans">' in page
    text = visible(page)
    assert "更大的模型能带来什么？" in text
    assert "账本：预测与实测对照" in text
    assert specs(page)["specs"]["scaling"]["title"] == "损失 [nats/token]"
    assert "Parameter scale" not in text


def test_text_of_others_is_escaped(study: Path, tmp_path: Path, make_run: Callable[..., Record]) -> None:
    name = "x<b onmouseover=1>&"
    make_run(tmp_path / "runs" / name, num_params=50_000, num_steps=1000)
    samples = tmp_path / "runs" / name / "samples.jsonl"
    hostile = "</script><script>window.stolen=1</script><img src=x onerror=stolen=1>"
    samples.write_text(json.dumps({"prompt": hostile, "text": f"{hostile} {hostile}"}) + "\n")
    page = page_of([tmp_path / "runs"], tmp_path)
    names = [tag for tag, _ in Elements(page).tags]
    assert names.count("script") == 3
    assert "img" not in names
    assert "b" not in names
    assert all("onmouseover" not in attributes for _, attributes in Elements(page).tags)
    assert visible(page).count(hostile) == 2  # the prompt, and the text after it
    assert specs(page)["specs"]["curves"]["datasets"]["train"][0]["run"] == name


def test_nothing_is_fetched(page: str) -> None:
    tags = Elements(page).tags
    links = [value for _, attributes in tags for name, value in attributes.items() if name in LINKS]
    assert [link for link in links if not link or not link.startswith(("#", "data:,"))] == []
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    assert re.findall(r"url\(|@import|http", style[1]) == []
    policy = next(attributes["content"] for _, attributes in tags if "http-equiv" in attributes)
    assert policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy


def test_charts_name_no_colour_and_themes_name_them_all(page: str) -> None:
    charts = specs(page)
    assert not re.search(r"#[0-9a-f]{6}", json.dumps(charts["specs"]))
    assert charts["themes"]["light"]["style"]["truth"] != charts["themes"]["dark"]["style"]["truth"]
    assert len(charts["themes"]["dark"]["range"]["ordinal"]) == 5
    named = set(re.findall(r'"style": "([\w-]+)"', json.dumps(charts["specs"])))
    assert named == set(charts["themes"]["light"]["style"])


def test_javascript_is_there_once(page: str) -> None:
    assert len(re.findall(r"window\.vegaEmbed\s*=", page)) == 1
    assert len(page) < 2_000_000


def test_a_single_run(tmp_path: Path, make_run: Callable[..., Record]) -> None:
    make_run(tmp_path / "only", num_params=50_000, num_steps=1000)
    page = page_of([tmp_path / "only"], tmp_path)
    assert headings(page) == ["Parameter scale", "Training methods", "Trust"]
    assert list(specs(page)["specs"]) == ["curves", "rate", "scaling"]
    assert "No law has been fitted to them yet." in visible(page)
    assert "Each line is the law" not in visible(page)
    assert "6.25 K" in visible(page)  # 50,000 / 8 in the embedding


def test_a_trunk_is_no_row(tmp_path: Path, make_run: Callable[..., Record]) -> None:
    make_run(tmp_path / "trunk", num_params=50_000, num_steps=1000, cooldown_frac=0.0)
    page = page_of([tmp_path / "trunk"], tmp_path)
    assert list(specs(page)["specs"]) == ["curves", "rate"]


def test_a_killed_ladder(tmp_path: Path, make_run: Callable[..., Record]) -> None:
    make_run(tmp_path / "ladder" / "a", num_params=50_000, num_steps=1000)
    make_run(tmp_path / "ladder" / "b", num_params=90_000, num_steps=1000, status="running", steps_done=400)
    make_run(
        tmp_path / "ladder" / "c", num_params=90_000, num_steps=1000, status="interrupted", steps_done=40
    )
    text = visible(page_of([tmp_path / "ladder"], tmp_path))
    assert "Not finished 2 of 3" in text
    assert "running" in text
    assert "interrupted" in text
    assert "205 K" in text  # 400 steps of 512 tokens


def test_a_run_that_has_not_logged_yet(tmp_path: Path, make_run: Callable[..., Record]) -> None:
    make_run(tmp_path / "new", num_params=50_000, num_steps=1000, status="running", steps_done=1)
    page = page_of([tmp_path / "new"], tmp_path)
    assert specs(page)["specs"] == {}
    assert headings(page) == ["Training methods", "Trust"]


def test_a_forecast_before_its_run(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "s", ignore=shutil.ignore_patterns("target"))
    text = visible(page_of([tmp_path / "s"], tmp_path))
    assert "that model's run has not been measured yet" in text
    assert "Inference efficiency" not in text
    assert "Measured loss – not yet" in text


def test_a_law_without_a_forecast_and_a_plan_without_runs(study: Path, tmp_path: Path) -> None:
    (tmp_path / "law").mkdir()
    shutil.copy(study / "law.json", tmp_path / "law" / "law.json")
    page = page_of([tmp_path / "law" / "law.json"], tmp_path)
    assert list(specs(page)["specs"]) == ["isoflop", "scaling"]
    assert "<title>law · Kleiber</title>" in page
    assert "along the largest size" in visible(page)
    assert "Nothing has been forecast from it yet." in visible(page)
    (tmp_path / "plan").mkdir()
    shutil.copy(study / "plan.json", tmp_path / "plan" / "plan.json")
    text = visible(page_of([tmp_path / "plan"], tmp_path))
    assert "What has been planned. Nothing has run yet." in text
    assert "The whole study, 6 min 42 s." in text


def test_a_floor_that_the_rows_do_not_tell_is_not_printed(study: Path, tmp_path: Path) -> None:
    law = Law.read(study / "law.json")
    known = law.model_copy(update={"e_determined": True})
    unknown = law.model_copy(update={"e_determined": False, "notes": ("Mind the <gap>.",)})
    texts = []
    for number, document in enumerate((known, unknown)):
        (tmp_path / str(number)).mkdir()
        document.write(tmp_path / str(number) / "law.json")
        texts.append(visible(page_of([tmp_path / str(number)], tmp_path)))
    value = f"{law.coefficients['E']:.3g}"
    assert f"L(N, D) = {value} +" in texts[0]
    assert "not determined" not in texts[0]
    assert "E is not determined by these rows" in texts[1]
    assert "L(N, D) = E +" in texts[1]
    assert f" {value} " not in texts[1]
    assert "Mind the <gap>." in texts[1]


def test_a_forecast_changed_afterwards_is_told(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "s")
    said = Forecast.read(study / "forecast.json")
    said.model_copy(update={"loss": 1.0}).write(tmp_path / "s" / "forecast.json")
    assert "The forecast was changed after it was written" in visible(page_of([tmp_path / "s"], tmp_path))
    other = said.model_copy(update={"loss": 1.0})
    other.model_copy(update={"hash": other.expected_hash()}).write(tmp_path / "s" / "forecast.json")
    text = visible(page_of([tmp_path / "s"], tmp_path))
    assert "is not the one that the target's record names" in text


def test_writes_whole_or_not_at_all(study: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    write_report([study], output)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    before = output.read_bytes()
    with pytest.raises(RunFolderError, match="is not a run folder and holds none"):
        write_report([tmp_path / "nowhere"], output)
    assert output.read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_report([study], tmp_path / "file" / "report.html")
    with pytest.raises(UsageError, match="--lang must be one of en, zh"):
        write_report([study], output, lang="fr")  # type: ignore[arg-type]
