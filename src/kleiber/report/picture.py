"""The main picture for a README or a paper: rungs, law, forecast and truth, as PNG or SVG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kleiber.errors import UsageError
from kleiber.report.drawing import PICTURE_FONT, png_of, svg_of
from kleiber.report.scaling_chart import scaling_chart
from kleiber.report.sources import read_sources
from kleiber.report.theme import DARK, LIGHT, chart_config
from kleiber.report.words import Language, read_words
from kleiber.runs.files import write_bytes

__all__ = ["write_picture"]

_WIDTH, _HEIGHT = 760, 400


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
    writers: dict[str, Callable[[dict[str, Any]], bytes]] = {".png": png_of, ".svg": svg_of}
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
    config = chart_config(palette, num_sizes=len(sources.size_labels), font=PICTURE_FONT)
    config |= {"background": palette.card, "padding": 20}
    chart |= {"width": _WIDTH, "height": _HEIGHT, "config": config, "autosize": "pad"}
    write_bytes(output, writers[output.suffix](chart))
    return output
