"""A report of laws of every form: their equation, their charts, and accuracies called accuracies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kleiber.report.facts import figures
from kleiber.report.isoflop_chart import isoflop_chart
from kleiber.report.law_points import Exchange, size_curve
from kleiber.report.law_table import typeset
from kleiber.report.page import write_report
from kleiber.report.scaling_chart import scaling_chart
from kleiber.report.sources import read_sources
from kleiber.report.words import read_words
from kleiber.runs import ParamCount, Row
from kleiber.scaling import Law, fit, fit_auto, forecast

EN = read_words("en")
SIZES, HORIZONS = (30_000, 100_000, 300_000, 1_000_000, 3_000_000), (1e6, 4e6, 1.6e7, 6.4e7)


def rows_of(value: Callable[[float, float], float]) -> list[Row]:
    random = np.random.default_rng(5)
    return [
        Row(run=f"{n}-{d:g}", trunk=f"{n}-{d:g}", num_tokens=d, num_params=ParamCount(embedding=0, body=n, head=0),
            loss=float(value(n, d) * np.exp(random.normal(0, 0.002))))
        for n in SIZES for d in HORIZONS
    ]  # fmt: skip


LOSSES = rows_of(lambda n, d: 1.7 + 120 / n**0.3 + 300 / d**0.35)
ACCURACIES = rows_of(lambda n, d: 0.1 + 0.9 / (1 + np.exp(-(2.5 - 60 / n**0.3 - 200 / d**0.35))))


@pytest.fixture(scope="module")
def accuracy_law() -> Law:
    return fit(ACCURACIES, form="accuracy", chance=0.1, num_bootstrap=100)


@pytest.mark.parametrize("form", ["tied", "kaplan", "quadratic", "power_C", "auto"])
def test_every_form_has_its_page(form: str, tmp_path: Path) -> None:
    law = fit_auto(LOSSES, num_bootstrap=100) if form == "auto" else fit(LOSSES, form=form, num_bootstrap=100)
    law.write(tmp_path / "law.json")
    page = write_report([tmp_path], tmp_path / "report.html").read_text(encoding="utf-8")
    sources = read_sources([tmp_path])
    assert scaling_chart(sources, EN) is not None
    weighs_size = {"N", "D"} <= set(law.shape.inputs)
    assert (isoflop_chart(sources, EN) is not None) == weighs_size
    assert ('id="chart-isoflop"' in page) == weighs_size
    if law.form != "chinchilla":
        assert f'<p class="formula">{typeset(law.shape.equation)}</p>' in page


def test_the_line_of_an_average_is_what_it_foretells(tmp_path: Path) -> None:
    law = fit_auto(LOSSES, num_bootstrap=100)
    assert law.average is not None
    # As though two members shared the weight, so that the average is not its heaviest member.
    other = law.average.members[0].model_copy(
        update={"coefficients": {**law.average.members[0].coefficients, "E": 0.5}, "weight": 0.5}
    )
    halved = law.average.members[0].model_copy(update={"weight": 0.5})
    mixed = law.model_copy(update={"average": law.average.model_copy(update={"members": (halved, other)})})
    curve = size_curve(mixed, Exchange((0.0,), (6.0,)), 1e6, (1e7, 1e8), "1 M")
    assert curve[0]["loss"] == pytest.approx(mixed.predict(1e6, 1e7).loss)
    assert curve[0]["loss"] < law.predict(1e6, 1e7).loss


def test_an_undetermined_coefficient_is_no_number(tmp_path: Path) -> None:
    law = fit(LOSSES, form="tied", num_bootstrap=100)
    shown = f"{law.coefficients['alpha']:.3g}"
    for unknown, is_there in (((), True), (("alpha",), False)):
        law.model_copy(update={"undetermined": unknown}).write(tmp_path / "law.json")
        page = write_report([tmp_path], tmp_path / "report.html").read_text(encoding="utf-8")
        assert (f">{shown}</td>" in page) is is_there


@pytest.mark.parametrize(("lang", "said"), [("en", "Forecast accuracy"), ("zh", "预测准确率")])
def test_an_accuracy_is_called_one_and_is_a_percentage(
    accuracy_law: Law, tmp_path: Path, lang: str, said: str
) -> None:
    accuracy_law.write(tmp_path / "law.json")
    foretold = forecast(accuracy_law, 1e7, 3e8)
    foretold.write(tmp_path / "forecast.json")
    page = write_report([tmp_path], tmp_path / "report.html", lang=lang).read_text(encoding="utf-8")  # type: ignore[arg-type]
    assert said in page
    assert f"{foretold.loss:.2%}" in page
    words = read_words(lang)
    assert words("figure_forecast") not in page
    assert words("scaling_title_of_accuracies") in page
    charts: dict[str, Any] = json.loads(page.partition('id="charts">')[2].partition("</script>")[0])["specs"]
    assert charts["scaling"]["title"] == words("loss_axis_of_accuracies")
    assert charts["isoflop"]["title"] == words("loss_axis_of_accuracies")


def test_the_best_size_of_a_budget_has_the_highest_accuracy(accuracy_law: Law, tmp_path: Path) -> None:
    accuracy_law.write(tmp_path / "law.json")
    found = isoflop_chart(read_sources([tmp_path]), EN.measuring("accuracy"))
    assert found is not None
    data = found[0]["datasets"]
    assert data["best"]
    for best in data["best"]:
        line = [row["loss"] for row in data["law"] if row["budget"] == best["budget"]]
        assert best["loss"] == max(line)


def test_a_forecast_of_an_accuracy_has_its_figure(accuracy_law: Law, tmp_path: Path) -> None:
    accuracy_law.write(tmp_path / "law.json")
    forecast(accuracy_law, 1e7, 3e8).write(tmp_path / "forecast.json")
    first, *_ = figures(read_sources([tmp_path]), EN.measuring("accuracy"))
    assert first.name == "Forecast accuracy"
    assert first.value.endswith("%")
    assert "% and " in first.note


def test_equations_are_typeset() -> None:
    assert typeset("L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D") == (
        "L = ((N<sub>c</sub>/N)<sup>α<sub>N</sub>/α<sub>D</sub></sup> + D<sub>c</sub>/D)<sup>α<sub>D</sub></sup>"
    )
    assert typeset("G/(S^delta N^gamma), N'^2 < 3") == (
        "G/(S<sup>δ</sup> N<sup>γ</sup>), N&#39;<sup>2</sup> &lt; 3"
    )
