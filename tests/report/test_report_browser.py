"""The page as a browser shows it, opened from disk with no network."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kleiber.report import write_report
from kleiber.report.theme import DARK, LIGHT

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000", "--enable-logging=stderr",
)  # fmt: skip
CHARTS = ("answer", "scaling", "isoflop", "curves", "rate")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} is installed"),
]


def opened(page: Path, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """Return the elements after the scripts ran, and what the console said."""
    assert BROWSER
    command = [BROWSER, *QUIET, *flags, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def pictures(dom: str) -> dict[str, str]:
    """Return the SVG of each chart."""
    found = re.findall(r'<div id="chart-(\w+)"[^>]*>.*?(<svg.*?</svg>)', dom, re.DOTALL)
    return dict(found)


@pytest.fixture(scope="module")
def page(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([study], tmp_path_factory.mktemp("page") / "report.html")


def test_every_chart_is_drawn_and_the_console_is_silent(page: Path, tmp_path: Path) -> None:
    dom, console = opened(page, tmp_path / "profile", "--window-size=390,844")
    assert console == []
    assert 'data-charts="5"' in dom
    drawn = pictures(dom)
    assert sorted(drawn) == sorted(CHARTS)
    for name, svg in drawn.items():
        assert svg.count("<path") >= 9, name
    assert LIGHT.truth in drawn["scaling"]
    assert "measured 2." in drawn["answer"]
    assert "<img" not in dom.split("</svg>")[-1]


def test_dark_by_the_system_and_by_the_button(page: Path, tmp_path: Path) -> None:
    dom, _ = opened(page, tmp_path / "dark", "--blink-settings=preferredColorScheme=0")
    assert DARK.truth in pictures(dom)["scaling"]
    press = "<script>addEventListener('load', () => document.getElementById('theme').click())</script></body>"
    text = re.sub(r"<meta http-equiv=[^>]+>", "", page.read_text(encoding="utf-8"))
    pressed = tmp_path / "pressed.html"
    pressed.write_text(text.replace("</body>\n</html>", f"{press}</html>"), encoding="utf-8")
    dom, console = opened(pressed, tmp_path / "pressed")
    assert console == []
    assert 'data-theme="dark"' in dom
    assert DARK.truth in pictures(dom)["scaling"]
    assert LIGHT.truth not in pictures(dom)["scaling"]


def test_the_policy_stops_what_slips_through(page: Path, tmp_path: Path) -> None:
    """A script that is not the page's own does not run, and the console says that it was refused."""
    slipped = tmp_path / "slipped.html"
    text = page.read_text(encoding="utf-8")
    slipped.write_text(
        text.replace("</main>", "<script>document.title = 'stolen'</script></main>"), encoding="utf-8"
    )
    dom, console = opened(slipped, tmp_path / "profile")
    assert "<title>stolen</title>" not in dom
    assert any("Content Security Policy" in line for line in console)
    assert 'data-charts="5"' in dom


def test_nothing_is_wider_than_a_phone(page: Path, tmp_path: Path) -> None:
    measure = (
        "<script>addEventListener('load', () => setTimeout(() => document.title = "
        "`wide ${document.documentElement.scrollWidth} of ${innerWidth}`, 5000))</script></body>"
    )
    text = re.sub(r"<meta http-equiv=[^>]+>", "", page.read_text(encoding="utf-8"))
    narrow = tmp_path / "narrow.html"
    narrow.write_text(text.replace("</body>\n</html>", f"{measure}</html>"), encoding="utf-8")
    dom, _ = opened(narrow, tmp_path / "profile", "--window-size=500,900")
    measured = re.search(r"<title>wide (\d+) of (\d+)</title>", dom)
    assert measured
    assert int(measured[1]) <= int(measured[2])
