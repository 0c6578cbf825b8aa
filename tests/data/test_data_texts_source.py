"""Labelled texts and pairs of texts, from a file to batches."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.data import load_tokenizer, open_data
from kleiber.data.prepared import MappedSamples
from kleiber.data.sample_data import SampleData
from kleiber.data.source import Source
from kleiber.data.table import table
from kleiber.data.table.sources import open_pairs, open_rows
from kleiber.data.texts.padded import PaddedTexts
from kleiber.errors import DataError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

ADJECTIVES = ("good", "bad", "dull", "fine", "great", "awful", "bright", "grim")
NOUNS = ("film", "play", "book", "song", "tale")
REVIEWS = [
    (f"what a {adjective} {noun} it was", rank % 2)
    for noun in NOUNS
    for rank, adjective in enumerate(ADJECTIVES)
]


def write_reviews(folder: Path, *more: tuple[str, str, object]) -> str:
    rows = [("train", text, label) for text, label in REVIEWS] + [*more]
    path = folder / "reviews.tsv"
    path.write_text(
        "part\ttext\tlabel\n" + "".join(f"{part}\t{text}\t{label}\n" for part, text, label in rows)
    )
    return str(path)


def source_of(
    path: str, cache: Path, task: str = "classification", kind: str = "csv", **keys: object
) -> Source:
    recipe = DataRecipe.model_validate({"source": f"{kind}:{path}", "vocab_size": 280, "context": 12, **keys})
    opener = open_pairs if kind == "pairs" else open_rows
    return opener(
        recipe, TaskRecipe.model_validate({"name": task}), path, cache=cache, on_progress=lambda _: None
    )


def texts_of(source: Source, split: str, role: str = "tokens") -> list[str]:
    assert source.tokenizer_path is not None
    tokenizer = load_tokenizer(source.tokenizer_path.parent)
    part = source.parts[split]
    rows = part.samples.gather(np.arange(len(part)))[role]
    return [tokenizer.decode([token for token in row if token]) for row in rows.tolist()]


def test_texts_become_tokens_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "CHUNK_ROWS", 7)
    path = write_reviews(tmp_path, ("valid", "a film like no other film", 1), ("test", "ein 好 film", 0))
    source = source_of(path, tmp_path, field="text", target="label", split_field="part", context=40)
    assert texts_of(source, "train") == [text for text, _ in REVIEWS]
    assert texts_of(source, "val") == ["a film like no other film"]
    assert texts_of(source, "test") == ["ein 好 film"]
    assert source.train.labels is not None
    assert source.train.labels.tolist() == [label for _, label in REVIEWS]
    rows = source.train.samples.gather(np.array([3]))["tokens"]
    assert (rows.shape, rows.dtype) == ((1, 40), np.int64)
    assert source.train.lengths is not None
    assert source.train.lengths[3] == np.count_nonzero(rows)
    assert np.all(np.diff(rows[0] == 0) >= 0), "padding stands at the end"
    assert source.shape.model_dump(exclude_defaults=True) == {
        "inputs": "tokens",
        "vocab_size": 280,
        "context": 40,
        "num_outputs": 2,
    }


def test_another_context_needs_no_other_preparation(tmp_path: Path) -> None:
    path = write_reviews(tmp_path)
    long = source_of(path, tmp_path, field="text")
    short = source_of(path, tmp_path, field="text", context=4)
    assert len(list((tmp_path / "texts").iterdir())) == 1
    chosen = np.arange(5)
    np.testing.assert_array_equal(
        short.train.samples.gather(chosen)["tokens"], long.train.samples.gather(chosen)["tokens"][:, :4]
    )
    assert short.notes == ("100.0% of the texts are cut to data.context 4",)


@settings(max_examples=40)
@given(
    texts=st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=5), context=st.integers(2, 9)
)
def test_rows_are_the_texts_cut_or_padded(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[int]], context: int
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    np.save(folder / "a.npy", np.array([token for text in texts for token in [*text, 0]], np.uint16))
    np.save(folder / "a_ends.npy", np.cumsum([len(text) + 1 for text in texts]) - 1)
    stored = {
        name: folder / f"a{name.removeprefix('source').removeprefix('target')}.npy"
        for name in ("source", "source_ends", "target", "target_ends")
    }
    padded = PaddedTexts(MappedSamples(stored), context)
    order = np.arange(len(texts))[::-1]
    rows = pickle.loads(pickle.dumps(padded)).gather(order)  # noqa: S301 - our own
    plain = [[*text, *[0] * context][:context] for text in texts[::-1]]
    framed = [[0, *text, *[0] * context][:context] for text in texts[::-1]]
    assert rows["source"].tolist() == plain
    assert rows["target"].tolist() == framed
    assert len(padded) == len(texts)
    assert padded.num_tokens["target"].tolist() == [len(text) for text in texts]


def test_pairs_share_a_tokenizer_and_targets_begin_and_end(tmp_path: Path) -> None:
    rows = [
        {"en": f"the {noun} is {adjective}", "de": f"{noun} ist {adjective}"}
        for noun in NOUNS
        for adjective in ADJECTIVES
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    source = source_of(str(path), tmp_path, "seq2seq", "pairs", context=20)
    assert source.shape.model_dump(exclude_defaults=True) == {
        "inputs": "pairs",
        "vocab_size": 280,
        "context": 20,
    }
    assert texts_of(source, "train", "source") == [row["en"] for row in rows]
    assert texts_of(source, "train", "target") == [row["de"] for row in rows]
    target = source.train.samples.gather(np.array([0]))["target"][0].tolist()
    end = target.index(0, 1)
    assert target[0] == 0
    assert 0 not in target[1:end]
    assert set(target[end:]) == {0}
    assert source.train.labels is None
    assert source.train.values is None
    other_way = source_of(str(path), tmp_path, "seq2seq", "pairs", context=20, field="de", target="en")
    assert texts_of(other_way, "train", "source") == [row["de"] for row in rows]


def test_numbers_may_be_predicted_of_texts(tmp_path: Path) -> None:
    source = source_of(
        write_reviews(tmp_path), tmp_path, "regression", field="text", target="label", split_field="part"
    )
    assert source.train.values is not None
    assert source.train.values[:3].tolist() == [[0], [1], [0]]
    assert source.shape.num_outputs == 1


def test_near_duplicates_are_held_out_together_and_removed(tmp_path: Path) -> None:
    copies = [("train", f"What a GOOD {noun}, it was!", 0) for noun in NOUNS]
    path = write_reviews(tmp_path, *copies)
    recipe = DataRecipe(
        source=f"csv:{path}", field="text", target="label", split_field="part", vocab_size=280, context=40,
        val_frac=0.2, test_frac=0.2, duplicates="near",
    )  # fmt: skip
    data = open_data(recipe, seed=0, task=TaskRecipe(name="classification"), cache=tmp_path)
    assert isinstance(data, SampleData)
    groups = {name: set(part.groups.tolist()) for name, part in data.parts.items() if part.groups is not None}
    assert set(groups) == {"train", "val", "test"}
    assert not groups["train"] & (groups["val"] | groups["test"])
    assert data.meta.num_duplicates is not None
    assert data.meta.num_duplicates > 0
    assert len(groups["train"]) == len(data.parts["train"]), "one of each is left"


@pytest.mark.parametrize(("split", "is_seen"), [("train", True), ("test", False)])
def test_the_tokenizer_sees_the_training_texts_alone(tmp_path: Path, split: str, is_seen: bool) -> None:
    path = write_reviews(tmp_path, *[(split, f"zyzzyva zyzzyva zyzzyva {noun}", 0) for noun in NOUNS])
    source = source_of(path, tmp_path, field="text", target="label", split_field="part")
    assert source.tokenizer_path is not None
    vocabulary = load_tokenizer(source.tokenizer_path.parent).get_vocab()
    assert any("zy" in token for token in vocabulary) == is_seen


def test_the_shortest_and_the_longest_are_told_by_tokens(tmp_path: Path) -> None:
    path = write_reviews(tmp_path, ("train", "grim", 1), ("train", "what " * 9 + "a film", 0))
    for selection, text in (("shortest", "grim"), ("longest", "what " * 9 + "a film")):
        recipe = DataRecipe.model_validate(
            {"source": f"csv:{path}", "field": "text", "target": "label", "split_field": "part", "vocab_size": 280,
             "context": 40, "max_samples": 1, "selection": selection}
        )  # fmt: skip
        data = open_data(recipe, seed=0, task=TaskRecipe(name="classification"), cache=tmp_path)
        row = next(data.batches("train", 0, 1)).arrays["tokens"][0]
        assert data.tokenizer_path is not None
        decoded = load_tokenizer(data.tokenizer_path.parent).decode(
            [token for token in row.tolist() if token]
        )
        assert decoded == text.strip()


def test_the_quality_filter_leaves_out_training_texts_alone(tmp_path: Path) -> None:
    path = write_reviews(tmp_path, ("train", "=== | ===", 0), ("test", "=== | ===", 0), ("valid", "fine", 1))
    keys = {"field": "text", "target": "label", "split_field": "part"}
    source = source_of(path, tmp_path, has_quality_filter=True, **keys)
    assert (len(source.train), texts_of(source, "test")) == (len(REVIEWS), ["=== | ==="])
    assert source.notes[0] == "the quality filter left out 1 of 41 training texts: 1 has hardly any words"
    assert source.num_bad_samples == 0
    assert len(source_of(path, tmp_path, **keys).train) == len(REVIEWS) + 1


def test_rows_without_a_text_are_left_out_on_request(tmp_path: Path) -> None:
    path = write_reviews(tmp_path, ("train", " ", 1), ("train", "no answer", ""), ("test", "fine", 1))
    keys = {"field": "text", "target": "label", "split_field": "part"}
    source = source_of(path, tmp_path, skips_bad_samples=True, **keys)
    assert (source.num_bad_samples, len(source.train), texts_of(source, "test")) == (
        2,
        len(REVIEWS),
        ["fine"],
    )


def refused(
    path: str, cache: Path, message: str, task: str = "classification", kind: str = "csv", **keys: object
) -> None:
    with pytest.raises(DataError, match=message):
        source_of(path, cache, task, kind, **keys)


def test_a_row_without_a_text_is_named(tmp_path: Path) -> None:
    path = write_reviews(tmp_path, ("train", " ", 1))
    refused(
        path,
        tmp_path,
        r"column 'text' of .* must hold a text, and it is empty at line 42 of .*reviews\.tsv\.\n  try: .*skips_bad_samples=true",
        field="text",
    )


@pytest.mark.parametrize(
    ("cell", "message"),
    [("7", "it holds a int at line 1"), ('"\\ud800"', "it holds half of a surrogate pair, which is no character, at line 1"),
     ("null", "it is empty at line 1")],
)  # fmt: skip
def test_what_is_no_text_is_named(tmp_path: Path, cell: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        f'{{"text": {cell}, "y": 0}}\n' + '{"text": "fine", "y": 1}\n{"text": "so", "y": 0}\n' * 3
    )
    refused(
        str(path), tmp_path, f"column 'text' .* must hold a text, and {message}", kind="jsonl", field="text"
    )


def test_a_column_without_a_single_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "", "y": 0}\n{"text": null, "y": 1}\n')
    refused(
        str(path),
        tmp_path,
        "has no row with a text in 'text'",
        kind="jsonl",
        field="text",
        skips_bad_samples=True,
    )


def test_a_vocabulary_that_is_too_large_says_what_works(tmp_path: Path) -> None:
    path = write_reviews(tmp_path)
    refused(
        path,
        tmp_path,
        r"data\.vocab_size 1000 is too large .* gives (\d+) entries\.\n  try: --set data\.vocab_size=\1 ",
        field="text",
        vocab_size=1000,
        split_field="part",
    )


def test_a_filter_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,y\n=== | ===,0\n--- | ---,1\n")
    refused(
        str(path),
        tmp_path,
        r"has_quality_filter would leave no training text .*Got \{'has hardly any words': 2\}",
        field="text",
        has_quality_filter=True,
    )


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        ("csv", {"field": "txt"}, r"data\.field: .* has no column 'txt'\. Did you mean 'text'\?"),
        (
            "csv",
            {"field": "label"},
            r"data\.field must not be the column to predict, which is 'label'\.\n  try: --set data\.target=part",
        ),
        ("csv", {"field": "text", "columns": ["part"]}, r"data\.columns has no effect"),
        (
            "pairs",
            {},
            r"has more columns than two: data\.field must name .* Got \['part', 'text', 'label'\]\.\n  try: --set data\.field=part --set data\.target=label",
        ),
        ("pairs", {"field": "text", "target": "text"}, r"data\.field and data\.target must be two columns"),
        ("pairs", {"field": "text", "target": "lable"}, r"data\.target: .* has no column 'lable'"),
        ("pairs", {"columns": ["text"]}, r"data\.columns has no effect"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    tmp_path: Path, kind: str, keys: dict[str, object], message: str
) -> None:
    refused(
        write_reviews(tmp_path),
        tmp_path,
        message,
        "seq2seq" if kind == "pairs" else "classification",
        kind,
        **keys,
    )
