"""What a page carries with it so that it opens with no network: charts' scripts, style, and a policy that holds it to that."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

import vl_convert

from kleiber.report.theme import DARK, LIGHT, css_variables

__all__ = ["TEMPLATES", "bundle", "content_policy", "read_asset", "style_sheet"]

TEMPLATES = Path(__file__).parent
"""Where the pages' templates are."""


def read_asset(name: str) -> str:
    """Return a file of this room, such as `page.js`."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def bundle() -> str:
    """Return Vega, Vega-Lite and vega-embed in one script; no tag in it may end the script's element."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace(
        "</script", "<\\/script"
    )


def style_sheet() -> str:
    """Return the style of every page with the colours of both themes."""
    light, dark = css_variables(LIGHT), css_variables(DARK)
    themes = (
        f":root {{ {light} color-scheme: light; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ {dark} color-scheme: dark; }} }}\n"
        f":root[data-theme=dark] {{ {dark} color-scheme: dark; }}\n"
    )
    return themes + read_asset("style.css")


def content_policy(*scripts: str) -> str:
    """Return a policy under which the page runs these scripts and nothing else, and fetches nothing at all.

    Were a text to slip through the escaping, the browser would still not run it.
    """
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
    )
