import re

import pytest

from kleiber.cli.output import Output
from kleiber.cli.study import _print
from kleiber.models import BROUGHT, FAMILIES
from kleiber.report.study import write_study_page
from kleiber.report.study.about import counts_of, grows_of, lead_of, name_of
from kleiber.report.study.words import read_study_words

EN = read_study_words("en")


def body_of(page):
    text = page.read_text(encoding="utf-8")
    return re.sub(r"<(script|style)[^>]*>.*?</\1>", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_family_that_has_a_dial_has_its_words(study, lang):
    words = read_study_words(lang)
    for family in FAMILIES.keys() - BROUGHT:
        one = study.model_copy(update={"family": family})
        assert name_of(one, words)
        assert counts_of(one, words)


def test_the_lead_says_which_sizes_the_headlines_are_of(study):
    lead = lead_of(study, EN)
    assert lead.startswith("15 sizes of a gpt from 18.0 K to 714 K parameters (1.6 decades)")
    assert "use the 5 sizes that grow in depth and width together; the other 10 change one" in lead
    both = tuple(one for one in study.members if one.lines == ("both",))
    assert "headlines" not in lead_of(study.model_copy(update={"members": both}), EN)


def test_compute_grows_as_parameters_only_where_matrices_hold_them(study):
    assert "about as N" in grows_of(study, EN)
    assert "about as N" not in grows_of(study.model_copy(update={"family": "convnet"}), EN)


def test_a_search_that_ended_at_its_edge_is_said_before_the_first_chart(study, tmp_path):
    warning = EN("how_rate_edge")
    assert warning not in body_of(write_study_page(study, tmp_path / "inside.html"))
    at_edge = study.model_copy(update={"is_rate_at_edge": True})
    text = body_of(write_study_page(at_edge, tmp_path / "edge.html"))
    assert text.count(warning) == 1
    assert text.index("</dl>") < text.index(warning) < text.index('id="chart-')


def test_the_terminal_says_too_that_the_search_ended_at_its_edge(study, capsys):
    for is_at_edge in (False, True):
        _print(Output(False), study.model_copy(update={"is_rate_at_edge": is_at_edge}))
        said = " ".join("".join(capsys.readouterr()).split())
        assert ("The search of the learning rate ended at its edge" in said) is is_at_edge
        assert "grows by" in said
