"""The files of the page: nothing of them is loaded from elsewhere, and a browser keeps what has not changed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import kleiber.serve
from kleiber.report.theme import DARK, FONT, LIGHT, SERIF
from kleiber.serve import ServeSettings, create_app

FOLDER = Path(kleiber.serve.__file__).parent / "page"
FILES = sorted(path.name for path in FOLDER.iterdir())
COLOURS = ("paper", "card", "ink", "muted", "line", "accent", "bad")


@pytest.fixture
def client():
    return TestClient(create_app({}, ServeSettings(api_keys=("secret",))), base_url="http://localhost")


def test_every_file_is_served_without_a_key_under_a_policy(client):
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for name in FILES:
        answer = client.get(f"/page/{name}")
        assert answer.content == (FOLDER / name).read_bytes()
        assert answer.headers["content-type"].startswith(kinds[name.rpartition(".")[2]])
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/").content == (FOLDER / "index.html").read_bytes()
    assert client.head("/").status_code == 200
    assert client.get("/v1/models").status_code == 401


def test_what_has_not_changed_is_not_sent_again(client):
    etag = client.get("/page/page.js").headers["etag"]
    again = client.get("/page/page.js", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/page/page.css", headers={"If-None-Match": etag}).status_code == 200


@pytest.mark.parametrize("name", ["other.js", "..%2Fapp.py", "%2e%2e%2fapp.py", "__pycache__"])
def test_nothing_else_is_served(client, name):
    answer = client.get(f"/page/{name}")
    assert answer.status_code in (401, 404)
    assert "error" in answer.json()


def test_no_file_names_another_host_or_writes_markup():
    for name in FILES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`)]*", text))
        assert found <= {"http://www.w3.org/2000/svg"}, name
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "<style",
            " style=",
            "onclick",
        ):
            assert word not in text, (name, word)


def test_its_colours_are_those_of_the_report():
    css = (FOLDER / "page.css").read_text(encoding="utf-8")
    light, by_system, by_button, _ = css.split("\n}\n", 3)
    for part, palette in ((light, LIGHT), (by_system, DARK), (by_button, DARK)):
        named = dict(re.findall(r"--(\w+): ([^;]+);", part))
        for colour in COLOURS:
            assert named[colour] == getattr(palette, colour)
    named = dict(re.findall(r"--(\w+): ([^;]+);", light))
    assert (named["sans"], named["serif"]) == (FONT, SERIF)
