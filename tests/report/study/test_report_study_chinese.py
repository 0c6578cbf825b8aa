import re
from pathlib import Path

import pytest
import yaml

import kleiber.report.study.words
from kleiber.report.study import write_study_page
from kleiber.report.study.methods import method_text, note_text
from kleiber.report.study.words import read_study_words
from kleiber.study.baseline.estimators import ESTIMATORS

ZH = read_study_words("zh")
HAN = "[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]"


def body_of(page):
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", text, flags=re.DOTALL)
    return re.sub(r"<[^>]+>", "|", text)


def test_no_space_stands_between_chinese_words(study, tmp_path):
    text = body_of(write_study_page(study, tmp_path / "zh.html", lang="zh"))
    assert re.findall(rf"{HAN} +{HAN}.{{0,8}}", text) == []
    strings = Path(kleiber.report.study.words.__file__).parent / "strings" / "zh.yaml"
    texts = yaml.safe_load(strings.read_text(encoding="utf-8"))
    assert [key for key, one in texts.items() if re.search(rf"{HAN} +{HAN}", one)] == []


def test_families_and_methods_are_named_in_chinese(study, tmp_path):
    loss = study.curve("loss").model_copy(update={"baseline_method": "gradient-boosted trees"})
    one = study.model_copy(update={"family": "convnet", "curves": (loss, *study.curves[1:])})
    text = body_of(write_study_page(one, tmp_path / "zh.html", lang="zh"))
    assert "把卷积网络做大会发生什么" in text
    assert "传统方法（梯度提升树）" in text
    assert "gradient-boosted" not in text
    assert "随机波动" in text


@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys())
def test_methods_that_a_study_fits_are_known(estimator):
    assert re.fullmatch(rf"{HAN}+", method_text(estimator.title, ZH))


def test_notes_keep_their_numbers_and_unknown_ones_stay():
    assert (
        note_text("It learnt from 12,755 of 57,000 samples.", ZH) == "它只学了 57,000 个样本中的 12,755 个。"
    )
    assert note_text("By hand.", ZH) == "By hand."
    assert method_text("5-gram with Kneser-Ney back-off", ZH) == "5 元语法，Kneser-Ney 回退"
