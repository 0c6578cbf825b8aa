"""Charts as files: pictures for a paper, and a page that opens with no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from kleiber.errors import UsageError
from kleiber.report.offline import TEMPLATES, bundle, content_policy, read_asset, style_sheet
from kleiber.runs.files import write_bytes

__all__ = ["PICTURE_FONT", "Panel", "chart_page", "png_of", "svg_of", "write_drawing"]

PICTURE_FONT = "sans-serif"
"""The converter knows the fonts of the system it runs on by family."""
_PIXELS_PER_POINT = 2.0


@dataclass(frozen=True)
class Panel:
    """A chart of a page."""

    name: str
    title: str
    spec: dict[str, Any]
    """Vega-Lite, without colours."""


def svg_of(chart: dict[str, Any]) -> bytes:
    """Return a chart as SVG."""
    return str(vl_convert.vegalite_to_svg(chart)).encode()


def png_of(chart: dict[str, Any]) -> bytes:
    """Return a chart as PNG, two pixels a point."""
    png: bytes = vl_convert.vegalite_to_png(chart, scale=_PIXELS_PER_POINT)
    return png


def write_drawing(
    path: Path,
    picture: Callable[[], dict[str, Any]],
    page: Callable[[], bytes],
    *,
    refusal: str,
    hint: str,
) -> Path:
    """Write a chart as its file's suffix says: a `.svg` or `.png` picture, or a `.html` page; whole or not at all.

    Args:
        path: The file.
        picture: Makes the chart, with colours.
        page: Makes the page that opens with no network.
        refusal: What is said of another suffix.
        hint: A line that would work.

    Returns:
        `path`.

    Raises:
        UsageError: Another suffix.
        StorageError: The file cannot be written.
    """
    writers: dict[str, Callable[[], bytes]] = {
        ".svg": lambda: svg_of(picture()),
        ".png": lambda: png_of(picture()),
        ".html": page,
    }
    if path.suffix not in writers:
        raise UsageError(refusal, got=path.name, hint=hint)
    write_bytes(path, writers[path.suffix]())
    return path


def chart_page(panels: Sequence[Panel], themes: Mapping[str, dict[str, Any]], **said: Any) -> bytes:
    """Return a page of charts with everything it needs inside.

    Args:
        panels: In order.
        themes: Colours of the charts, `light` and `dark`.
        said: What the template says besides: `title`, `about`, `lead`, `figures`, `roles`, `assumptions`.
    """
    script = read_asset("page.js")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    page = environment.get_template("plan.html.j2").render(
        panels=panels,
        themes=themes,
        specs={panel.name: panel.spec for panel in panels},
        version=metadata.version("kleiber"),
        style=Markup(style_sheet()),  # noqa: S704 - our own files, as are the scripts
        bundle=Markup(bundle()),  # noqa: S704
        script=Markup(script),  # noqa: S704
        policy=content_policy(bundle(), script),
        **said,
    )
    return page.encode()
