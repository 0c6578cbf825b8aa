"""The page: one HTML file with everything in it, from template, style, script and charts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from kleiber.report import facts, tables
from kleiber.report.answer_chart import answer_chart
from kleiber.report.backtest_chart import backtest_panels
from kleiber.report.backtest_table import backtest_views
from kleiber.report.compare_chart import compare_panels, crossing_says
from kleiber.report.data_tables import balance_tables, data_notes
from kleiber.report.isoflop_chart import isoflop_chart
from kleiber.report.law_points import BUDGET_TOLERANCE
from kleiber.report.law_table import law_view
from kleiber.report.offline import TEMPLATES, bundle, content_policy, read_asset, style_sheet
from kleiber.report.predictions import prediction_groups
from kleiber.report.receipts import receipt_views
from kleiber.report.run_charts import curves_chart, rate_chart
from kleiber.report.run_tables import measures_table, runs_table
from kleiber.report.scaling_chart import scaling_chart
from kleiber.report.sources import RunView, Sources, read_sources
from kleiber.report.theme import DARK, LIGHT, Palette, chart_config, compared_styles
from kleiber.report.tried_chart import tried_charts
from kleiber.report.words import Language, Words, read_words
from kleiber.runs import now
from kleiber.runs.files import write_text
from kleiber.units import format_seconds

__all__ = ["write_report"]

_MAX_SAMPLES = 6
"""Samples shown of a run."""


def write_report(paths: Sequence[Path], output: Path, *, lang: Language = "en") -> Path:
    """Write one HTML file about the runs in `paths`, which opens from disk with no network.

    Args:
        paths: A study folder, folders of runs or run folders; `law.json`, `forecast.json` and `plan.json` in
            them or beside them are read too.
        output: The file to write, whole or not at all.
        lang: Language of the text.

    Returns:
        `output`.

    Raises:
        RunFolderError: A path holds no run, a document does not parse, or the paths hold two studies.
        UsageError: There is no such language.
        StorageError: The file cannot be written.
    """
    known = read_words(lang)
    sources = read_sources(paths, output=output)
    words = known.counting(sources.unit)
    name = _name(paths, output)
    charts, num_budgets = _charts(sources, words)
    context = _frame(sources, words, name) | _scale(sources, words) | _training(sources, words)
    context |= _inference(sources, words) | _trust(sources, words)
    themes = {
        name: _config(palette, sources, num_budgets) for name, palette in (("light", LIGHT), ("dark", DARK))
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    template = environment.get_template("template.html.j2")
    parts = _parts(context, charts)
    write_text(output, template.render(context, charts=charts, parts=parts, themes=themes))
    return output


def _config(palette: Palette, sources: Sources, num_budgets: int) -> dict[str, Any]:
    config = chart_config(palette, num_sizes=len(sources.size_labels), num_budgets=num_budgets)
    own = compared_styles(palette) if sources.backtest or sources.comparison else {}
    return config | {"style": config["style"] | own}


def _name(paths: Sequence[Path], output: Path) -> str:
    """Return what the page is about: the folder that was given, or the one that the report stands in."""
    only = paths[0].resolve() if len(paths) == 1 else output.resolve()
    return only.name if only.is_dir() else only.parent.name


def _charts(sources: Sources, words: Words) -> tuple[dict[str, Any], int]:
    """Return the charts that have something to show, and the number of budgets in the isoFLOP view."""
    of_law = words.measuring(sources.measured_unit)
    isoflop, num_budgets = isoflop_chart(sources, of_law) or (None, 1)
    panels = [
        *(backtest_panels(sources.backtest, words) if sources.backtest else []),
        *(compare_panels(sources.comparison, words) if sources.comparison else []),
    ]
    charts = {
        "answer": answer_chart(sources, of_law),
        "scaling": scaling_chart(sources, of_law),
        "isoflop": isoflop,
        **{panel.name: panel.spec for panel in panels},
        "curves": curves_chart(sources, words),
        "rate": rate_chart(sources, words),
        **tried_charts(sources, words),
    }
    return {name: chart for name, chart in charts.items() if chart}, num_budgets


def _parts(context: dict[str, Any], charts: dict[str, Any]) -> list[str]:
    """Return the parts that have content, in the order every page has."""
    content = {
        "scale": context["law"]
        or context["plan"]
        or context["backtests"]
        or context["comparisons"]
        or "scaling" in charts,
        "training": context["runs"],
        "inference": context["receipts"] or context["sample_groups"] or context["predictions"],
        "trust": context["ledger"] or context["hashes"],
    }
    return [part for part, filled in content.items() if filled]


def _frame(sources: Sources, words: Words, name: str) -> dict[str, Any]:
    script = read_asset("page.js")
    return {
        "t": words,
        "name": name,
        "style": Markup(style_sheet()),  # noqa: S704 - our own files, as are the scripts
        "bundle": Markup(bundle()),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "policy": content_policy(bundle(), script),
        "answer": facts.answer(sources, words.measuring(sources.measured_unit)),
        "figures": facts.figures(sources, words.measuring(sources.measured_unit)),
        "written_at": f"{now()[:16].replace('T', ' ')} UTC",
        "version": metadata.version("kleiber"),
    }


def _scale(sources: Sources, words: Words) -> dict[str, Any]:
    table, total = tables.plan_table(sources.plan, words), sources.plan.get("total_time_s")
    caption = words("prediction_caption")
    if isinstance(total, int | float):
        caption = f"{caption} {words('prediction_total', total=format_seconds(total))}"
    return {
        "of_law": words.measuring(sources.measured_unit),
        "law": law_view(sources.law, words) if sources.law else None,
        "backtests": backtest_views(sources.backtest, words),
        "comparisons": _comparisons(sources, words),
        "comparison": sources.comparison,
        "has_forecast": sources.forecast is not None,
        "is_measured": bool(sources.target and sources.target.record.result),
        "tolerance": f"{BUDGET_TOLERANCE:.0%}",
        "plan": {"table": table, "caption": caption} if table else None,
    }


def _comparisons(sources: Sources, words: Words) -> list[dict[str, str]]:
    """Return of each pair of ladders its titles, the names of its charts and where the two cross."""
    if sources.comparison is None:
        return []
    panels = compare_panels(sources.comparison, words)
    return [
        {
            "loss_title": panels[2 * k].title,
            "loss": panels[2 * k].name,
            "title": panels[2 * k + 1].title,
            "difference": panels[2 * k + 1].name,
            "axis": words("compare_axis", first=pair.first, second=pair.second),
            "says": crossing_says(pair, words),
        }
        for k, pair in enumerate(sources.comparison.pairs)
    ]


def _training(sources: Sources, words: Words) -> dict[str, Any]:
    failed = [run.record for run in sources.runs if run.record.error]
    return {
        "runs": runs_table(sources, words),
        "measures": measures_table(sources, words),
        "balances": balance_tables(sources, words),
        "data_notes": data_notes(sources, words),
        "recipes": [(run.record.run, run.record.recipe.to_yaml()) for run in sources.runs],
        "failures": [words("failed_because", run=record.run, error=record.error) for record in failed],
    }


def _inference(sources: Sources, words: Words) -> dict[str, Any]:
    shown = [sources.target] if sources.target and sources.target.samples else list(sources.runs)
    return {
        "receipts": receipt_views(sources, words),
        "sample_groups": [_sample_group(run, sources, words) for run in shown if run.samples],
        "predictions": prediction_groups(sources, words),
    }


def _sample_group(run: RunView, sources: Sources, words: Words) -> tuple[str, list[dict[str, str]]]:
    """Return a title and samples whose text is what follows the prompt, whether it was stored with it or not."""
    samples = [
        (str(sample.get("prompt") or ""), str(sample.get("text") or ""))
        for sample in run.samples[:_MAX_SAMPLES]
    ]
    title = (
        words("samples_title") if run is sources.target else words("samples_title_run", run=run.record.run)
    )
    return title, [{"prompt": prompt, "text": text.removeprefix(prompt)} for prompt, text in samples]


def _trust(sources: Sources, words: Words) -> dict[str, Any]:
    owner = sources.target or (sources.runs[0] if sources.runs else None)
    counted_as = words("flops_convention", convention=owner.record.flops_convention) if owner else None
    return {
        "ledger": tables.ledger_table(sources.ledger, words),
        "counted": tables.counted_table(sources, words),
        "flops_convention": counted_as,
        "environment": facts.environment_facts(sources, words) if sources.runs else [],
        "hashes": facts.provenance(sources, words),
        "proof": facts.order_proof(sources, words),
    }
