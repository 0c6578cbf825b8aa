"""The page as a person uses it, in headless Chromium."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile
from encoder_folders import write_bert
from PIL import Image
from running_server import running
from scripted_texts import BROKEN, alphabet_model, until
from small_models import RATE, images_run, opened_classifier, opened_encoder, rows_run, sounds_run, texts_run

from kleiber.serve import ServeSettings

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
WRITTEN = "document.getElementById('written').textContent"
ENDED = "document.getElementById('stop').disabled"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} is installed"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from devtools import page  # noqa: PLC0415 - where there is no browser, there may be no websockets either

    with page(BROWSER, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def backend_and_models(tmp_path_factory, cache, make_record):
    root = tmp_path_factory.mktemp("page")
    writer, backend = alphabet_model(root, step_s=0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLEIBER_CACHE", str(cache))
        classifiers = [
            opened_classifier(make(root, make_record))
            for make in (images_run, sounds_run, texts_run, rows_run)
        ]
    encoder = opened_encoder(write_bert(root / "bert"))
    return backend, {model.name: model for model in (writer, *classifiers, encoder)}


@pytest.fixture(scope="module")
def address(backend_and_models):
    with running(backend_and_models[1], ServeSettings(max_running=4)) as found:
        yield found


@pytest.fixture
def page(browser, address):
    """Return the page, opened anew; at the end nothing may have been complained of."""
    browser.complaints.clear()
    browser.look(width=1280)
    browser.open(f"{address}/")
    browser.wait("document.getElementById('model').options.length")
    yield browser
    assert browser.complaints == []


def test_text_streams_in_with_its_pace(page):
    assert page.text("about") == "Writes text · alphabet · fp32 · 400 tokens of context"
    page.run(
        "window.lengths = []; new MutationObserver(() => lengths.push("
        f"{WRITTEN}.length)).observe(document.getElementById('written'), {{childList: true}})"
    )
    page.run("document.getElementsByName('max_tokens')[0].value = 30")
    page.type("prompt", "Once upon <b>a</b> time")
    page.click("#write")
    page.wait(f"{WRITTEN}.length === 30 && {ENDED}")
    assert page.text("sheet") == "Once upon <b>a</b> timeabcdefghijklmnopqrstuvwxyzabcd"
    # It came in parts, and not at the end.
    assert len(page.run("lengths.filter((n, i) => n !== lengths[i - 1])")) > 5
    assert (page.text("count"), page.text("finish")) == ("30", "length")
    assert page.text("first").endswith((" ms", " s"))
    assert 10 < float(page.text("rate")) < 200


def test_stop_ends_it_and_frees_its_place(page, backend_and_models):
    page.run("document.getElementsByName('max_tokens')[0].value = 390")
    page.type("prompt", "go")
    page.press("Enter", modifiers=2)
    page.wait(f"{WRITTEN}.length > 3")
    page.press("Escape")
    page.wait(ENDED)
    assert page.text("finish") == "you"
    assert len(page.run(WRITTEN)) < 390
    assert until(lambda: not backend_and_models[0].jobs, within_s=5)


def test_a_talk_keeps_what_was_said(page, backend_and_models):
    page.click("input[value=chat] + span")
    page.run("document.getElementsByName('max_tokens')[0].value = 3")
    for num, question in enumerate(("Hello", "And then?"), start=1):
        page.type("prompt", question)
        page.click("#write")
        page.wait(f"document.querySelectorAll('#talk .assistant').length === {num} && {ENDED}")
    said = page.run("[...document.querySelectorAll('#talk p')].map(one => [one.className, one.textContent])")
    assert said == [["user", "Hello"], ["assistant", "abc"], ["user", "And then?"], ["assistant", "abc"]]
    heard = "".join(map(chr, backend_and_models[0].asked[-1].writing.tokens))
    assert heard.index("Hello") < heard.index("abc") < heard.index("And then?")
    page.click("#clear")
    assert page.text("talk") == ""


def test_an_engine_that_fails_says_so_and_the_next_text_is_written(page):
    page.run("document.getElementsByName('max_tokens')[0].value = 3")
    page.type("prompt", BROKEN)
    page.click("#write")
    page.wait(f"{ENDED} && !document.getElementById('error').hidden")
    assert page.text("error") == "the alphabet is broken."
    page.complaints.clear()  # of the browser itself, where the answer's status says it
    page.click("#clear")
    page.type("prompt", "go")
    page.click("#write")
    page.wait(f"{WRITTEN} === 'abc' && {ENDED}")
    assert not page.is_shown("error")


def test_a_question_without_an_answer_is_given_back(page, backend_and_models):
    backend = backend_and_models[0]
    page.click("input[value=chat] + span")
    backend.go.clear()
    try:
        page.type("prompt", "Hello?")
        page.click("#write")
        page.wait("document.querySelectorAll('#talk .user').length === 1")
        page.press("Escape")
        page.wait(ENDED)
    finally:
        backend.go.set()
    assert page.run("document.getElementById('prompt').value") == "Hello?"
    assert page.text("talk") == ""


def test_a_dropped_image_shows_bars(page, tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "pet.png")
    page.choose("model", "pets")
    assert page.text("about") == "Classifies images into 2 classes · torch · fp32"
    page.drop("#drop", tmp_path / "pet.png")
    page.wait("document.querySelectorAll('#bars li').length === 2")
    shares = page.run(
        "[...document.querySelectorAll('#bars .share')].map(one => parseFloat(one.textContent))"
    )
    assert sum(shares) == pytest.approx(100, abs=0.11)
    widths = page.run("[...document.querySelectorAll('#bars i')].map(one => parseFloat(one.style.width))")
    assert widths == pytest.approx(shares, abs=0.051)
    assert sorted(page.run("[...document.querySelectorAll('#bars .name')].map(one => one.textContent)")) == [
        "cat",
        "dog",
    ]
    assert page.wait("document.querySelector('#shown img').naturalWidth") == 60


def test_a_dropped_sound_can_be_heard_and_shows_bars(page, tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, RATE)
    soundfile.write(tmp_path / "noise.wav", samples, RATE)
    page.choose("model", "noises")
    assert page.text("drop-what") == "Drop a sound here"
    page.drop("#drop", tmp_path / "noise.wav")
    page.wait("document.querySelectorAll('#bars li').length === 2")
    assert page.wait("document.querySelector('#shown audio').duration") == pytest.approx(1)


def test_what_is_wrong_is_said(page, tmp_path):
    page.choose("model", "pets")
    (tmp_path / "no.png").write_bytes(b"no image")
    page.drop("#drop", tmp_path / "no.png")
    page.wait("document.getElementById('error').textContent")
    assert page.text("error") == "the file 'no.png': it is not an image that Pillow knows."
    assert page.is_shown("error")
    # The browser itself says in the console that the answer's status was 400.
    assert [one["source"] for one in page.complaints] == ["network"]
    page.complaints.clear()
    page.choose("model", "alphabet")
    assert not page.is_shown("error")


def test_texts_and_rows_are_classified(page):
    page.choose("model", "reviews")
    page.type("input", "a lovely film")
    page.press("Enter", modifiers=2)
    page.wait("document.querySelectorAll('#bars li').length === 2")
    page.choose("model", "people")
    assert page.run("document.querySelectorAll('#bars li').length") == 0
    page.run(
        "document.querySelector('#columns input').value = 7; document.querySelector('#columns select').value = 'f'"
    )
    page.click("#classify-row button")
    page.wait("document.querySelectorAll('#bars li').length === 2")


def test_likeness_of_two_texts(page):
    page.choose("model", "bert")
    page.type("one", "river stone")
    page.type("other", "river stone")
    page.click("#compare button")
    page.wait("document.getElementById('compared').textContent")
    assert page.run("document.querySelector('#likeness .share').textContent") == "1.000"
    assert page.text("compared").startswith("32 numbers a text · 8 tokens")


@pytest.mark.parametrize("name", ["alphabet", "pets", "people", "bert"])
def test_nothing_is_wider_than_a_phone(page, name):
    page.look(width=390, height=844)
    page.choose("model", name)
    assert page.run("document.documentElement.scrollWidth") <= 390


def test_dark_by_the_system_and_by_the_button(page):
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.run(paper) == "rgb(250, 249, 246)"
    page.look(width=1280, is_dark=True)
    assert page.run(paper) == "rgb(20, 24, 27)"
    page.click("#theme")
    assert page.run(paper) == "rgb(250, 249, 246)"


def test_all_of_it_is_reached_by_keyboard(page):
    page.run("document.getElementById('model').focus()")
    reached = []
    for _ in range(20):
        page.press("Tab")
        reached.append(
            page.run(
                "document.activeElement.id || document.activeElement.name || document.activeElement.tagName"
            )
        )
    wanted = ["theme", "how", "prompt", "write", "clear", "temperature", "max_tokens", "seed", "stop"]
    assert [one for one in wanted if one not in reached] == []


def test_a_key_is_asked_for(browser, backend_and_models):
    encoder = {"bert": backend_and_models[1]["bert"]}
    with running(encoder, ServeSettings(api_keys=("right",))) as address:
        browser.complaints.clear()
        browser.open(f"{address}/")
        browser.wait("document.getElementById('error').textContent")
        assert "an API key is needed" in browser.text("error")
        browser.type("key-value", "right")
        browser.click("#key button")
        browser.wait("document.getElementById('model').options.length")
        assert not browser.is_shown("key")
        assert not browser.is_shown("error")
