from __future__ import annotations

from pathlib import Path

import pytest

from kleiber.data import open_data
from kleiber.data.documents import chosen_documents, cleaned
from kleiber.data.passages import Passage
from kleiber.errors import DataError
from kleiber.runs.recipe import DataRecipe

LINES = [f"fox{number} leaps{number} over{number} hedges{number}" for number in range(30)]
TEXT = "\n".join(LINES)
NEAR = "\n".join([*LINES[:25], *(f"{line}, and on" for line in LINES[25:])])
DOCUMENTS = [
    Passage("a", TEXT), Passage("b", "--- | ---"), Passage("c", TEXT + "\n"), Passage("d", NEAR),
    Passage("e", "A tale of its own."),
]  # fmt: skip


def names(documents: list[Passage]) -> str:
    return "".join(document.document for document in documents)


@pytest.mark.parametrize(
    ("keys", "left", "num_duplicates"),
    [
        ({}, "abcde", None),
        ({"duplicates": "exact"}, "abde", 1),
        ({"duplicates": "near"}, "abe", 2),
        ({"has_quality_filter": True}, "acde", None),
        ({"has_quality_filter": True, "duplicates": "near"}, "ae", 2),
    ],
)
def test_faults_and_copies_are_left_out(
    keys: dict[str, object], left: str, num_duplicates: int | None
) -> None:
    clean = cleaned(DOCUMENTS, DataRecipe.model_validate(keys))
    assert (names(clean.documents), clean.num_duplicates) == (left, num_duplicates)
    note = "the quality filter left out 1 of 5 documents: 1 has hardly any words"
    assert clean.notes == ((note,) if "has_quality_filter" in keys else ())


def test_a_filter_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"would leave no document of 'stdlib'\. Got \{'has hardly any words': 1\}"
    ):
        cleaned([DOCUMENTS[1]], DataRecipe(has_quality_filter=True))


def test_fewer_documents_are_among_more_of_them() -> None:
    train = [Passage(str(number), "x" * number, part) for number in range(1, 30) for part in (0, 1)]
    before: set[Passage] = set()
    for num in (1, 2, 10, 29):
        chosen = chosen_documents(train, DataRecipe(max_samples=num))
        assert len({passage.document for passage in chosen}) == num
        assert before <= set(chosen)
        assert chosen == [passage for passage in train if passage in set(chosen)]
        before = set(chosen)
    assert chosen_documents(train, DataRecipe()) == train


def test_length_is_that_of_the_whole_document() -> None:
    train = [Passage("long", "xx", 0), Passage("long", "xx", 1), Passage("short", "xxx")]
    assert names(chosen_documents(train, DataRecipe(max_samples=1, selection="shortest"))) == "short"
    assert names(chosen_documents(train, DataRecipe(max_samples=1, selection="longest"))) == "longlong"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"max_samples": 6},
            r"data\.max_samples must be at most the 5 training documents of 'stdlib'\. Got 6",
        ),
        ({"selection": "balanced"}, r"data\.selection 'balanced' goes by class"),
        (
            {"selection": "longest"},
            r"data\.selection 'longest' needs data\.max_samples.*\n  try: --set data\.max_samples=2",
        ),
    ],
)
def test_what_cannot_be_chosen_is_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        chosen_documents(DOCUMENTS, DataRecipe.model_validate(keys))


def test_less_text_shares_its_tokenizer_and_what_it_is_measured_on(
    small_recipe: DataRecipe, small_cache: Path
) -> None:
    whole = open_data(small_recipe, seed=0, cache=small_cache)
    less = open_data(small_recipe.model_copy(update={"max_samples": 3}), seed=0, cache=small_cache)
    assert less.meta.num_train_tokens < whole.meta.num_train_tokens
    assert (less.meta.tokenizer_hash, less.meta.eval_hash) == (
        whole.meta.tokenizer_hash,
        whole.meta.eval_hash,
    )
    assert whole.meta.num_duplicates is None


def test_copies_are_counted_in_the_meta(tmp_path: Path, modules_folder: Path) -> None:
    for path in modules_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "copy.py").write_bytes((modules_folder / "ast.py").read_bytes())
    recipe = DataRecipe(
        source=f"text:{tmp_path}", vocab_size=300, duplicates="exact", has_quality_filter=True
    )
    data = open_data(recipe, seed=0, cache=tmp_path / "cache")
    assert (data.meta.num_duplicates, data.meta.num_documents) == (1, 7)
    assert data.meta.notes == ()


@pytest.mark.parametrize(
    "keys",
    [
        {"target": "y"},
        {"test_frac": 0.1},
        {"positive_frac": 0.1},
        {"skips_bad_samples": True},
        {"horizon": 2},
    ],
)
def test_keys_without_effect_on_text_are_refused(keys: dict[str, object]) -> None:
    (key,) = keys
    with pytest.raises(DataError, match=rf"data\.{key} has no effect on 'stdlib'"):
        open_data(DataRecipe.model_validate(keys), seed=0)
