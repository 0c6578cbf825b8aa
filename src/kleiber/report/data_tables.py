"""What runs learnt from: how many samples of each class, and what a reader should know of them."""

from __future__ import annotations

from collections.abc import Iterator

from kleiber.report.sources import Sources
from kleiber.report.tables import Table, format_frac, table_of
from kleiber.report.words import Words
from kleiber.runs import DataMeta
from kleiber.units import format_count

__all__ = ["balance_tables", "data_notes"]


def _metas(sources: Sources) -> Iterator[DataMeta]:
    """Yield each data set that runs learnt from, once."""
    seen = []
    for run in sources.runs:
        if run.record.data not in seen:
            seen.append(run.record.data)
            yield run.record.data


def balance_tables(sources: Sources, words: Words) -> list[tuple[str, Table]]:
    """Return the training samples of each class, the most frequent first, with the name of the data."""
    tables = ((meta.source, _balance_table(meta, words)) for meta in _metas(sources))
    return [(source, table) for source, table in tables if table]


def _balance_table(meta: DataMeta, words: Words) -> Table | None:
    total = sum(meta.class_counts) or 1
    counted = sorted(zip(meta.classes, meta.class_counts, strict=False), key=lambda pair: -pair[1])
    rows = ((name, format_count(count), format_frac(count / total)) for name, count in counted)
    return table_of(words, ("class", "samples", "share"), rows)


def data_notes(sources: Sources, words: Words) -> list[str]:
    """Return what was left out of the data and what its sources say of themselves."""
    notes = []
    for meta in _metas(sources):
        if meta.num_duplicates is not None:
            notes.append(words("note_duplicates", source=meta.source, count=meta.num_duplicates))
        if meta.num_bad_samples:
            notes.append(words("note_bad_samples", source=meta.source, count=meta.num_bad_samples))
        notes += [f"{meta.source}: {note}" for note in meta.notes]
    return list(dict.fromkeys(notes))
