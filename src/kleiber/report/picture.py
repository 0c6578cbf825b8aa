"""The main picture for a README or a paper: rungs, law, forecast and truth, as PNG or SVG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import vl_convert

from kleiber.errors import UsageError
from kleiber.report.scaling_chart import scaling_chart
from kleiber.report.sources import read_sources
from kleiber.report.theme import DARK, LIGHT, chart_config
from kleiber.report.words import Language, read_words
from kleiber.runs.files import write_bytes

__all__ = ["write_picture"]

_WIDTH, _HEIGHT, _PIXELS_PER_POINT = 760, 400, 2.0
_FONT = "sans-serif"
"""The converter knows the fonts of the system it runs on by family."""


def write_picture(study: Path, output: Path, *, lang: Language = "en", dark: bool = False) -> Path:
    """Write loss against compute with the law, the forecast and the truth of a study.

    Args:
        study: The study's folder.
        output: A `.png` or `.svg` file.
        lang: Language of the text.
        dark: Colours for a dark background instead of a light one.

    Returns:
        `output`.

    Raises:
        UsageError: Another suffix, or a study that has neither finished runs nor a forecast.
        RunFolderError: The folder holds no run, or a document in it does not parse.
    """
    writers: dict[str, Callable[[dict[str, Any]], bytes]] = {".png": _png, ".svg": _svg}
    if output.suffix not in writers:
        raise UsageError("A picture is written as .png or .svg.", got=output.name, hint="picture.png")
    sources = read_sources([study])
    words = read_words(lang).counting(sources.unit)
    chart = scaling_chart(sources, words)
    if chart is None:
        raise UsageError(
            f"{study} has no finished run to draw.", hint=f"kleiber ladder run {study}/ladder.yaml"
        )
    palette = DARK if dark else LIGHT
    config = chart_config(palette, num_sizes=len(sources.size_labels), font=_FONT)
    config |= {"background": palette.card, "padding": 20}
    chart |= {"width": _WIDTH, "height": _HEIGHT, "config": config, "autosize": "pad"}
    write_bytes(output, writers[output.suffix](chart))
    return output


def _png(chart: dict[str, Any]) -> bytes:
    png: bytes = vl_convert.vegalite_to_png(chart, scale=_PIXELS_PER_POINT)
    return png


def _svg(chart: dict[str, Any]) -> bytes:
    return str(vl_convert.vegalite_to_svg(chart)).encode()
