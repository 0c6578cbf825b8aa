from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

import kleiber.report
from kleiber.errors import UsageError
from kleiber.report.words import read_words
from kleiber.runs import CONVENTIONS, LedgerEntry, Record
from kleiber.runs.receipt import EngineRatio
from kleiber.scaling import COEFFICIENTS

ROOM = Path(kleiber.report.__file__).parent
SOURCES = "\n".join(path.read_text() for path in [*ROOM.glob("*.py"), *ROOM.glob("*.j2")])
LITERALS = set(re.findall(r"""["'](\w+)["']""", SOURCES))
CALLED = set(re.findall(r"""\b(?:words|t)\(\s*["'](\w+)["']""", SOURCES))
PREFIXES = set(re.findall(r"""words\(f"(\w+_)\{""", SOURCES))
VALUES = {
    *get_args(LedgerEntry.model_fields["quantity"].annotation),
    *get_args(Record.model_fields["status"].annotation),
    *CONVENTIONS,
    *COEFFICIENTS,
    *get_args(EngineRatio.model_fields["workload"].annotation),
    "forms",
    "law",
    "plan",
}


MEASURES = (
    "accuracy", "macro_f1", "auc", "r2", "mean_absolute_error", "perplexity", "bits_per_byte", "bleu",
    "image_to_text_recall_at_1", "image_to_text_recall_at_5", "text_to_image_recall_at_1", "text_to_image_recall_at_5",
)  # fmt: skip


BASELINES = ("linear_model", "gradient_boosted_trees", "5_gram_with_Kneser_Ney_back_off")


def is_used(key: str) -> bool:
    key = key.removesuffix("_of_samples").removesuffix("_of_accuracies")
    rests = [key.removeprefix(prefix) for prefix in [*PREFIXES, "method_"] if key.startswith(prefix)]
    return key in LITERALS or any(rest in LITERALS | VALUES | {*MEASURES, *BASELINES} for rest in rests)


def test_languages_have_the_same_keys_and_blanks() -> None:
    en, zh = read_words("en").texts, read_words("zh").texts
    assert list(en) == list(zh)
    for key, text in en.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", zh[key])), key


def test_every_key_is_used_and_every_used_key_is_there() -> None:
    texts = read_words("en").texts
    assert [key for key in texts if not is_used(key)] == []
    assert [key for key in CALLED if key not in texts] == []
    assert not is_used("col_nothing_of_the_kind")


def test_what_counts_samples_replaces_what_counts_tokens() -> None:
    for lang in ("en", "zh"):
        words = read_words(lang)
        own = [key for key in words.texts if key.endswith("_of_samples")]
        assert len(own) == 12
        assert all(key.removesuffix("_of_samples") in words.texts for key in own)
        assert words.counting("token").texts == words.texts
    assert read_words("zh").counting("sample")("col_tokens") == "样本"
    assert read_words("en").counting("sample")("col_run") == "run"


def test_a_law_of_accuracies_is_written_about_as_one() -> None:
    for lang in ("en", "zh"):
        words = read_words(lang)
        own = [key for key in words.texts if key.endswith("_of_accuracies")]
        assert len(own) == 13
        assert all(key.removesuffix("_of_accuracies") in words.texts for key in own)
        assert words.measuring("nats/token").texts == words.texts
    assert read_words("zh").measuring("accuracy")("loss_axis") == "准确率"
    # What is counted and what is measured are told apart.
    both = read_words("en").counting("sample").measuring("accuracy")
    assert (both("loss_axis"), both("col_tokens")) == ("accuracy", "samples")


def test_values_of_documents_have_a_text() -> None:
    texts = read_words("en").texts
    statuses = get_args(Record.model_fields["status"].annotation)
    quantities = get_args(LedgerEntry.model_fields["quantity"].annotation)
    wanted = [f"status_{status}" for status in statuses] + [f"quantity_{quantity}" for quantity in quantities]
    wanted += [f"law_source_convention_{name}" for name in CONVENTIONS]
    wanted += [f"meaning_{name}" for name in COEFFICIENTS]
    assert len(wanted) == 4 + 7 + 3 + 5
    wanted += [f"measure_{name}" for name in MEASURES]
    assert [key for key in wanted if key not in texts] == []


def test_blanks_are_filled_and_other_languages_are_refused() -> None:
    assert read_words("zh")("num_runs", count=3) == "3 次运行"
    with pytest.raises(UsageError, match=r"--lang must be one of en, zh\. Got 'fr'"):
        read_words("fr")
