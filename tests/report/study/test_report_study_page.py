import json
import re
from pathlib import Path
from typing import get_args

import pytest
import vl_convert

import kleiber.report.study
from kleiber.errors import UsageError
from kleiber.report.study import trend_rows, write_study_page
from kleiber.report.study.sentences import finding_of, more_of
from kleiber.report.study.words import read_study_words
from kleiber.study.growing.document import Curve

ROOM = Path(kleiber.report.study.__file__).parent
QUANTITIES = get_args(Curve.model_fields["quantity"].annotation)


def specs_of(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="charts">(.*?)</script>', text, re.DOTALL)[1])


def test_the_page_has_a_finding_and_a_chart_that_draws_for_each_curve(study, tmp_path):
    page = write_study_page(study, tmp_path / "study.html")
    text = page.read_text(encoding="utf-8")
    found = specs_of(page)
    shown = {name for name in QUANTITIES if study.curve(name)} - {
        "packed_bytes",
        "gradient_bytes",
        "packed_gradient_bytes",
    }
    assert set(found["specs"]) == shown
    for name, spec in found["specs"].items():
        assert f'id="chart-{name}"' in text
        drawn = vl_convert.vegalite_to_svg({**spec, "width": 800, "config": found["themes"]["light"]})
        assert "<svg" in drawn
        assert "NaN" not in drawn
    assert "<script src" not in text
    assert "://" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)


def test_what_it_says_follows_from_the_numbers(study):
    words = read_study_words("en")
    finding = {curve.quantity: finding_of(curve, words) for curve in study.curves}
    assert re.fullmatch(
        r"With ten times the parameters the held-out loss falls to 0\.8\d+ of what it was \(95% interval 0\.8\d+ to 0\.8\d+\)\.",
        finding["loss"],
    )
    assert finding["train_flops"].startswith(
        "With ten times the parameters the compute of training is 10 times as large"
    )
    assert finding["highest_rate"].startswith(
        "These 5 sizes show no trend of the highest stable learning rate"
    )
    assert (
        finding["spike_frac"]
        == "It never happened; at each size it is at most 0.40% of the steps (upper end of the 95% interval)."
    )
    assert "changes by +0.4000" in finding["gap"]
    loss = " ".join(more_of(study.curve("loss"), words))
    assert "2.1 + 9.00/N^0.11" in loss
    assert "5-gram" in loss
    step = " ".join(more_of(study.curve("step_time_s"), words))
    assert "Depth and width are not the same here" in step
    assert "10.0% off in the median" in step
    assert "(2 of the sizes)" in " ".join(more_of(study.curve("onset_epoch"), words))


@pytest.mark.parametrize(("baseline", "said"), [(100.0, "every size is better"), (0.1, "no size is better")])
def test_a_baseline_that_all_or_none_beat(study, baseline, said):
    curve = study.curve("loss").model_copy(update={"baseline": baseline, "baseline_method": "trees"})
    assert said in " ".join(more_of(curve, read_study_words("en")))


def test_a_curve_without_a_trend_says_its_range(study):
    curve = study.curve("decode_s").model_copy(update={"trends": ()})
    assert finding_of(curve, read_study_words("en")).startswith(
        "Over these sizes the time to write a token lies between "
    )


def test_the_table_has_a_row_for_each_trend(study):
    head, rows = trend_rows(study)
    assert len(rows) == sum(len(curve.trends) for curve in study.curves)
    assert all(len(row) == len(head) for row in rows)


def test_chinese_has_the_same_keys_and_blanks_and_all_are_used(study, tmp_path):
    en, zh = (
        dict(re.findall(r"^(\w+):(.*(?:\n  .*)*)", (ROOM / "strings" / f"{lang}.yaml").read_text(), re.MULTILINE))
        for lang in ("en", "zh")
    )  # fmt: skip
    assert list(en) == list(zh)
    for key, text in en.items():
        blanks = [sorted(set(re.findall(r"\{\w+\}", one))) for one in (text, zh[key])]
        assert blanks[0] == blanks[1], key
    sources = "".join(path.read_text() for path in [*ROOM.glob("*.py"), *ROOM.glob("*.j2")])
    prefixes = {*re.findall(r"""words\(f"(\w+_)\{""", sources), *re.findall(r"""t\('(\w+_)' \+""", sources)}
    unused = [
        key
        for key in en
        if f'"{key}"' not in sources and f"'{key}'" not in sources and not key.startswith(tuple(prefixes))
    ]
    assert unused == []
    page = write_study_page(study, tmp_path / "zh.html", lang="zh")
    assert 'lang="zh-Hans"' in page.read_text(encoding="utf-8")


def test_another_language_is_refused(study, tmp_path):
    with pytest.raises(UsageError, match="--lang must be one of en, zh"):
        write_study_page(study, tmp_path / "page.html", lang="fr")
