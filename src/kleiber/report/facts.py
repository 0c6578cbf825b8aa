"""The answer in figures, and where everything came from: name, value and note as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from kleiber.report.measures import format_measure, measure_name
from kleiber.report.sources import RunView, Sources
from kleiber.report.tables import EMPTY, format_frac
from kleiber.report.words import Words
from kleiber.runs import LedgerEntry, Result
from kleiber.units import format_accuracy, format_count, format_flops, format_loss, format_seconds

__all__ = ["Fact", "answer", "environment_facts", "figures", "order_proof", "provenance"]


@dataclass(frozen=True)
class Fact:
    """One named value with a note in small print, and its tone as a table's cell has it."""

    name: str
    value: str
    note: str = ""
    tone: str = ""


def _scored(sources: Sources) -> LedgerEntry | None:
    """Return the ledger's line of the loss, or of the accuracy, as the law forecast it."""
    scored = ("val_loss", "val_accuracy")
    return next((e for e in sources.ledger if e.quantity in scored and e.method == "law"), None)


def answer(sources: Sources, words: Words) -> str:
    """Return the answer as a sentence, as far as the study has come."""
    count = len(sources.law.rows) if sources.law else len(sources.ladder)
    if sources.forecast and sources.law:
        scored, ratio = _scored(sources), f"{_ratio(sources):.1f}".removesuffix(".0")
        if scored is None:
            return words("answer_forecast", count=count, ratio=ratio)
        return words("answer_verified", count=count, ratio=ratio, error=format_frac(abs(scored.error_frac)))
    if sources.law:
        return words("answer_law", count=count)
    return words("answer_runs" if sources.runs else "answer_plan")


def _ratio(sources: Sources) -> float:
    """Return the target's compute over that of the largest row, by N·D where FLOPs were not counted."""
    if sources.law is None or sources.forecast is None:
        return 1.0
    rows, forecast = sources.law.rows, sources.forecast
    if sources.target and all(row.train_flops for row in rows):
        return sources.target.record.train_flops / max(row.train_flops or 0 for row in rows)
    convention = sources.law.convention
    largest = max(row.num_params.by(convention) * row.num_tokens for row in rows)
    return forecast.num_params * forecast.num_tokens / largest


def figures(sources: Sources, words: Words) -> list[Fact]:
    """Return the figures of the first screen."""
    if sources.forecast:
        return [*_forecast_figures(sources, words), *_cost_figure(sources, words)]
    return list(_run_figures(sources, words))


def _forecast_figures(sources: Sources, words: Words) -> Iterator[Fact]:
    scored, forecast = _scored(sources), sources.forecast
    if forecast is None:
        return
    shown = format_accuracy if forecast.loss_unit == "accuracy" else format_loss
    low, high = (shown(bound) for bound in forecast.interval_80)
    between = words("note_interval", low=low, high=high)
    yield Fact(words("figure_forecast"), shown(forecast.loss), between, "accent")
    if scored is None:
        yield Fact(words("figure_measured"), EMPTY, words("not_measured"))
        return
    of = _bits(sources, words) if forecast.loss_unit == "nats/token" else words("note_nats")
    yield Fact(words("figure_measured"), shown(scored.measured), of, "truth")
    yield Fact(words("figure_error"), format_frac(scored.error_frac, signed=True), words("note_error"))
    if scored.skill is not None:
        yield Fact(words("figure_skill"), f"{scored.skill:.2f}", words("note_skill"))
    if scored.is_inside is not None:
        tone, note = ("good", "note_held") if scored.is_inside else ("bad", "note_missed")
        yield Fact(words("figure_held"), words("held" if scored.is_inside else "missed"), words(note), tone)


def _bits(sources: Sources, words: Words) -> str:
    result = sources.target.record.result if sources.target else None
    bits = result.val_metrics.get("bits_per_byte") if result else None
    return (
        words("note_bits", bits=format_measure("bits_per_byte", bits.value)) if bits else words("note_nats")
    )


def _cost_figure(sources: Sources, words: Words) -> Iterator[Fact]:
    target, ladder = sources.target, sources.ladder
    if target is None or not ladder:
        return
    share = sum(run.spent_flops for run in ladder) / target.record.train_flops
    flops = format_flops(target.record.train_flops)
    note = words("note_cost", flops=flops)
    if target.record.result:
        spent, own = (format_seconds(_core_seconds(runs)) for runs in (ladder, [target]))
        note = words("note_cost_time", flops=flops, ladder=spent, target=own)
    yield Fact(words("figure_cost"), format_frac(share), note)


def _core_seconds(runs: Iterable[RunView]) -> float:
    done = ((run.record.result, run.record.environment.num_threads) for run in runs)
    return sum(result.total_time_s * threads for result, threads in done if result)


def _run_figures(sources: Sources, words: Words) -> Iterator[Fact]:
    results = [run.record.result for run in sources.runs if run.record.result]
    if sources.runs:
        yield Fact(words("figure_num_runs"), str(len(sources.runs)))
    if results:
        best = min(results, key=lambda result: result.val_loss)
        yield Fact(words("figure_best_loss"), format_loss(best.val_loss), words("note_nats"), "truth")
    yield from _measure_figure(results, words)
    if unfinished := sum(run.record.status != "finished" for run in sources.runs):
        note = words("note_of_runs", count=len(sources.runs))
        yield Fact(words("figure_unfinished"), str(unfinished), note, "accent")


def _measure_figure(results: list[Result], words: Words) -> Iterator[Fact]:
    """Yield what the only run reaches by its task's own measure, on the test split where there is one."""
    if len(results) != 1 or not results[0].val_metrics:
        return
    is_test = bool(results[0].test_metrics)
    key, reached = next(iter((results[0].test_metrics if is_test else results[0].val_metrics).items()))
    low, high = (format_measure(key, bound) for bound in (reached.low, reached.high))
    note = words("note_test" if is_test else "note_validation", low=low, high=high)
    name = measure_name(key, words)
    yield Fact(name[:1].upper() + name[1:], format_measure(key, reached.value), note, "truth")


def environment_facts(sources: Sources, words: Words) -> list[Fact]:
    """Return where the runs ran and from which data; values that differ between runs are all listed."""
    records = [run.record for run in sources.runs]

    def every(value: Callable[[RunView], object]) -> str:
        return ", ".join(dict.fromkeys(str(value(run)) for run in sources.runs))

    data = [
        words("env_documents", documents=meta.num_documents, train=format_count(meta.num_train_tokens),
              val=format_count(meta.num_val_tokens), test=format_count(meta.num_test_tokens))
        for meta in {record.data.corpus_hash: record.data for record in records}.values()
    ]  # fmt: skip
    return [
        Fact(words("env_data"), every(lambda run: run.record.data.source), "; ".join(data)),
        *_library_fact(sources, words),
        Fact(words("env_python"), every(lambda run: run.record.environment.python)),
        Fact(words("env_torch"), every(lambda run: run.record.environment.torch)),
        Fact(words("env_kleiber"), every(lambda run: run.record.environment.kleiber)),
        Fact(words("env_platform"), every(lambda run: run.record.environment.platform)),
        Fact(words("env_cores"), every(_cores)),
        Fact(words("env_seeds"), ", ".join(map(str, sorted({record.seed for record in records})))),
    ]


def _library_fact(sources: Sources, words: Words) -> Iterator[Fact]:
    """Yield whose library was learnt from, where it was."""
    versions = [run.record.data.python_version for run in sources.runs if run.record.data.source == "stdlib"]
    if versions:
        yield Fact(words("env_corpus_python"), ", ".join(dict.fromkeys(versions)))


def _cores(run: RunView) -> str:
    return f"{run.record.environment.num_cores} · {run.record.environment.num_threads}"


def provenance(sources: Sources, words: Words) -> list[Fact]:
    """Return the hashes by which anyone can check that nothing was changed afterwards."""
    data = {run.record.data.corpus_hash: run.record.data for run in sources.runs}.values()
    facts = [
        Fact(words(f"hash_{name}"), value)
        for meta in data
        for name, value in (
            ("corpus", meta.corpus_hash),
            ("tokenizer", meta.tokenizer_hash),
            ("eval", meta.eval_hash),
        )
        if value is not None
    ]
    facts += [Fact(words("hash_law"), sources.law.hash)] if sources.law else []
    if sources.forecast:
        facts += [Fact(words("hash_forecast_law"), sources.forecast.law_hash)]
        facts += [Fact(words("hash_forecast"), sources.forecast.hash)]
    if sources.target:
        named = sources.target.record.predicted.forecast_hash or EMPTY
        facts += [Fact(words("hash_in_record"), named)]
        facts += [Fact(words("hash_recipe"), sources.target.record.recipe_hash)]
    return facts


def order_proof(sources: Sources, words: Words) -> Fact | None:
    """Return whether the forecast is whole and is the one that the target's record named when its run began."""
    if sources.forecast is None or sources.target is None:
        return None
    forecast, record = sources.forecast, sources.target.record
    is_whole = forecast.hash == forecast.expected_hash()
    if is_whole and record.predicted.forecast_hash == forecast.hash:
        times = {"written": _moment(forecast.created_at), "started": _moment(record.started_at)}
        return Fact("", words("order_proven", **times), tone="good")
    return Fact("", words("order_broken" if is_whole else "seal_broken"), tone="bad")


def _moment(iso: str) -> str:
    """Return a time as people write it, to the second."""
    return f"{iso[:19].replace('T', ' ')} UTC"
