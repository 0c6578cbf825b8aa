"""The page of a study: one HTML file with everything in it."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from kleiber.report.offline import TEMPLATES, bundle, content_policy, read_asset, style_sheet
from kleiber.report.study.about import (
    counts_of,
    grows_of,
    how_of,
    lead_of,
    name_of,
    sizes_of,
    units_of,
    workers_of,
)
from kleiber.report.study.charts import BYTES, bytes_chart, curve_chart
from kleiber.report.study.cues import cue_of
from kleiber.report.study.sentences import finding_of, more_of, tenfold_figure
from kleiber.report.study.trends_table import trend_rows
from kleiber.report.study.values_table import values_table
from kleiber.report.study.words import read_study_words
from kleiber.report.theme import DARK, LIGHT, Palette, chart_config
from kleiber.report.words import Language, Words
from kleiber.runs.files import write_text
from kleiber.study.growing.document import Curve, Quantity, Study
from kleiber.study.growing.overfit import EPOCHS
from kleiber.study.growing.spikes import SPIKE_DEVIATIONS, SPIKE_WINDOW

__all__ = ["write_study_page"]

_PARTS: dict[str, tuple[Quantity, ...]] = {
    "quality": ("loss", "error_frac", "mean_absolute_error"),
    "compute": ("train_flops", "step_time_s"),
    "memory": ("peak_memory_bytes",),
    "bytes": BYTES,
    "latency": ("decode_s", "forward_s"),
    "overfitting": ("gap", "onset_epoch"),
    "stability": ("highest_rate", "noise_scale", "spike_frac"),
    "seeds": ("seed_sd",),
}
"""Parts of the page, and what each shows."""
_HEADLINES: tuple[Quantity, ...] = (
    "error_frac", "loss", "train_flops", "step_time_s", "peak_memory_bytes", "stored_bytes", "decode_s", "forward_s",
    "highest_rate",
)  # fmt: skip
"""Whose tenfold stands on the first screen."""
_MAX_HEADLINES = 6
_TERMS = (
    "power_law", "decade", "interval", "held_out", "nat", "seed", "flop", "resident", "deflate", "epoch", "bracket", "robust",
    "poisson", "noise", "jackknife",
)  # fmt: skip
"""Of the glossary, in the order in which the page uses them."""
_POWER = re.compile(r"\^(-?[0-9.]*[0-9]|-?[a-zα])")


def write_study_page(study: Study, output: Path, *, lang: Language = "en") -> Path:
    """Write what a study found as one HTML file, which opens from disk with no network.

    Args:
        study: What was found.
        output: The file to write, whole or not at all.
        lang: Language of the text.

    Returns:
        `output`.

    Raises:
        UsageError: There is no such language.
        StorageError: The file cannot be written.
    """
    words = read_study_words(lang)
    charts: dict[str, dict[str, Any]] = {}
    parts = [part for name in _PARTS if (part := _part(name, study, words, charts))]
    script = read_asset("page.js")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    head, rows = trend_rows(study, words)
    page = environment.get_template("study/page.html.j2").render(
        t=words,
        raised=_raised,
        name=f"{study.family} · {study.source}",
        title=words("title", family=name_of(study, words)),
        lead=lead_of(study, words),
        figures=_figures(study, words),
        warnings=[words("how_rate_edge")] if study.is_rate_at_edge else [],
        parts=parts,
        charts=charts,
        themes={"light": _config(LIGHT), "dark": _config(DARK)},
        exponents={"head": head, "rows": rows},
        sizes=sizes_of(study, words),
        counts=counts_of(study, words),
        terms=[(words(f"term_{name}"), words(f"means_{name}")) for name in _TERMS],
        how=how_of(study, words),
        written_at=f"{study.created_at[:16].replace('T', ' ')} UTC",
        version=metadata.version("kleiber"),
        style=Markup(style_sheet()),  # noqa: S704 - our own files, as are the scripts
        bundle=Markup(bundle()),  # noqa: S704
        script=Markup(script),  # noqa: S704
        policy=content_policy(bundle(), script),
    )
    write_text(output, page)
    return output


def _part(name: str, study: Study, words: Words, charts: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Return a part's title and its curves, after adding their charts; None where nothing was measured."""
    curves = [curve for quantity in _PARTS[name] if (curve := study.curve(quantity))]
    if not curves:
        return None
    if name == "bytes":
        charts["stored_bytes"] = bytes_chart(curves, words)
        first = _shown(curves[0], study, words)
        said = [finding_of(curve, words) for curve in curves[1:]]
        shown = [first | {"more": [*first["more"], *said]}]
        return {"name": name, "curves": shown, "values": values_table(curves, study, words)}
    for curve in curves:
        charts[curve.quantity] = curve_chart(curve, study, words)
    shown = [_shown(curve, study, words) for curve in curves]
    return {"name": name, "curves": shown, "values": values_table(curves, study, words)}


def _shown(curve: Curve, study: Study, words: Words) -> dict[str, Any]:
    about = {
        "units": units_of(
            study, study.plan.repeated_batches * study.num_units // study.plan.num_steps, words
        ),
        "epochs": EPOCHS[-1],
        "steps": study.plan.short_steps,
        "deviations": f"{SPIKE_DEVIATIONS:g}",
        "window": SPIKE_WINDOW,
        "workers": workers_of(study, words),
        "seeds": max((point.num_runs for point in curve.points), default=0),
    }
    quantity = curve.quantity
    what = [
        words(f"what_{quantity}", **about),
        *([grows_of(study, words)] if quantity == "train_flops" else []),
    ]
    return {
        "name": quantity,
        "finding": finding_of(curve, words),
        "cue": cue_of(curve, words),
        "what": words("between").join(what),
        "more": more_of(curve, words, num_epochs=study.num_epochs),
        "how": words(f"measured_{quantity}", **about),
        "count": words("how_points", sizes=len(curve.points), runs=curve.num_runs),
        "has_predictions": any(point.predicted for point in curve.points),
    }


def _raised(text: str) -> Markup:
    """Return a sentence with its exponents raised."""
    # A minus sign, at which no line is broken.
    return Markup(_POWER.sub(lambda found: f"<sup>{found[1].replace('-', '−')}</sup>", str(escape(text))))  # noqa: S704 - escaped just now


def _figures(study: Study, words: Words) -> list[dict[str, Any]]:
    """Return what ten times the parameters do to what a reader asks of first."""
    found = []
    for quantity in _HEADLINES:
        curve = study.curve(quantity)
        if curve is not None and (figure := tenfold_figure(curve, words)):
            said = {"name": words(f"name_{quantity}"), "value": figure[0], "note": figure[1]}
            found.append(said | {"cue": cue_of(curve, words)})
    return found[:_MAX_HEADLINES]


def _config(palette: Palette) -> dict[str, Any]:
    """Return the colours of a theme with the styles that only these charts name."""
    config = chart_config(palette, num_sizes=1, num_budgets=4)
    note = {"color": palette.truth, "fontSize": 11.5, "fontWeight": 600}
    styles = {
        "predicted": {
            "color": palette.ink,
            "size": 110,
            "shape": "diamond",
            "strokeWidth": 1.3,
            "opacity": 0.75,
        },
        "baseline": {"color": palette.truth, "strokeWidth": 1.4, "strokeDash": [6, 4]},
        "baseline-note": note,
    }
    return config | {"style": config["style"] | styles}
