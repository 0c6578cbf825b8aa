from __future__ import annotations

import platform
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import kleiber.data
from kleiber.data import TextData, load_tokenizer, open_data, require_tokens, save_tokenizer
from kleiber.errors import DataError, RecipeError
from kleiber.runs import DataRecipe


def with_values(recipe: DataRecipe, **values: object) -> DataRecipe:
    return recipe.model_copy(update=values)


def test_the_meta_describes_the_tokens(small_data: TextData) -> None:
    meta = small_data.meta
    assert (meta.shape.vocab_size, meta.shape.context, meta.num_documents) == (400, 32, 7)
    assert meta.python_version == platform.python_version()
    assert meta.num_train_tokens == len(small_data.train_tokens) > 9 * len(small_data.val_tokens) / 2
    assert meta.num_val_tokens == 2048
    assert int(small_data.train_tokens.max()) == 399
    assert {len(meta.corpus_hash), len(meta.tokenizer_hash), len(meta.eval_hash)} == {16}


def test_train_and_validation_make_up_the_text(small_data: TextData, modules_folder: Path) -> None:
    tokenizer = load_tokenizer(small_data.tokenizer_path.parent)
    num_bytes = sum(
        len(tokenizer.decode(np.asarray(tokens).tolist()).encode())
        for tokens in (small_data.train_tokens, small_data.val_tokens)
    )
    assert num_bytes == sum(path.stat().st_size for path in modules_folder.iterdir())


def test_validation_bytes_are_of_the_targets(small_data: TextData) -> None:
    tokenizer = load_tokenizer(small_data.tokenizer_path.parent)
    num_bytes = sum(
        len(tokenizer.id_to_token(token))
        for batch in small_data.batches("val", 0, 10)
        for token in batch.tokens[:, 1:].ravel().tolist()
        if token
    )
    assert small_data.val_bytes == num_bytes
    assert small_data.meta.val_bytes_per_token == num_bytes / 2048
    assert 1 < small_data.meta.val_bytes_per_token < 4


def test_the_evaluation_set_does_not_depend_on_the_seed(
    small_data: TextData, small_recipe: DataRecipe, small_cache: Path
) -> None:
    other = open_data(small_recipe, seed=1, cache=small_cache)
    assert other.meta == small_data.meta
    for mine, theirs in zip(small_data.batches("val", 0, 7), other.batches("val", 0, 7), strict=True):
        np.testing.assert_array_equal(mine.tokens, theirs.tokens)
    first, second = (next(data.batches("train", 0, 8)).tokens for data in (small_data, other))
    assert (first != second).any()


def test_another_evaluation_set_has_another_hash(
    small_data: TextData, small_recipe: DataRecipe, small_cache: Path
) -> None:
    changes: list[dict[str, object]] = [
        {"context": 16},
        {"val_tokens": 1024},
        {"vocab_size": 300},
        {"val_frac": 0.2},
    ]
    hashes = [
        open_data(with_values(small_recipe, **change), seed=0, cache=small_cache).meta.eval_hash
        for change in changes
    ]
    assert len({small_data.meta.eval_hash, *hashes}) == 5


def test_the_evaluation_set_is_spread_over_all_that_is_held_out(
    small_recipe: DataRecipe, small_cache: Path
) -> None:
    recipe = with_values(small_recipe, val_tokens=160)
    data = open_data(recipe, seed=0, cache=small_cache)
    assert data.meta.num_val_tokens == 160
    assert len(data.val_starts) == 5
    assert data.val_starts[-1] > 0.7 * len(data.val_tokens)
    whole = open_data(with_values(recipe, val_tokens=10**9), seed=0, cache=small_cache)
    assert whole.val_starts.tolist() == list(range(0, len(whole.val_tokens) - 32, 32))


def test_training_resumes_from_a_cursor(small_data: TextData) -> None:
    batches = list(islice(small_data.batches("train", 0, 6), 5))
    resumed = next(small_data.batches("train", batches[2].cursor, 6))
    np.testing.assert_array_equal(resumed.tokens, batches[3].tokens)


@pytest.mark.parametrize(("cursor", "batch_size"), [(-1, 4), (0, 0)])
def test_an_impossible_batch_is_refused(small_data: TextData, cursor: int, batch_size: int) -> None:
    with pytest.raises(RecipeError, match=rf"cursor of 0 or more .* Got \({cursor}, {batch_size}\)"):
        small_data.batches("train", cursor, batch_size)


def test_a_context_longer_than_the_text_is_refused(small_recipe: DataRecipe, small_cache: Path) -> None:
    with pytest.raises(
        DataError, match=r"data\.context 1000000 is too long for .*: its training text has \d+ tokens"
    ):
        open_data(with_values(small_recipe, context=1_000_000), seed=0, cache=small_cache)
    with pytest.raises(DataError, match=r"its held-out text has \d+ tokens") as caught:
        open_data(with_values(small_recipe, context=50_000), seed=0, cache=small_cache)
    context = int(str(caught.value.hint).partition("=")[2].partition(" ")[0])
    assert open_data(
        with_values(small_recipe, context=context), seed=0, cache=small_cache
    ).meta.num_val_tokens


def test_four_epochs_are_allowed_and_no_more(small_data: TextData) -> None:
    num_tokens = small_data.meta.num_train_tokens
    require_tokens(small_data.meta, 4 * num_tokens)
    with pytest.raises(
        DataError, match=rf"is too small: it has {num_tokens:,} training tokens, .* over them 4\.0 times"
    ):
        require_tokens(small_data.meta, 4 * num_tokens + 1)


def test_a_saved_tokenizer_is_the_cached_one(small_data: TextData, tmp_path: Path) -> None:
    save_tokenizer(small_data, tmp_path)
    assert load_tokenizer(tmp_path).to_str() == load_tokenizer(small_data.tokenizer_path.parent).to_str()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


def test_the_room_exports_what_it_lists() -> None:
    assert all(hasattr(kleiber.data, name) for name in kleiber.data.__all__)


def test_opening_imports_neither_torch_nor_datasets(small_recipe: DataRecipe, small_cache: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from kleiber.data import open_data\n"
        "from kleiber.runs import DataRecipe\n"
        "open_data(DataRecipe.model_validate_json(sys.argv[1]), seed=0, cache=pathlib.Path(sys.argv[2]))\n"
        "print({'torch', 'datasets', 'transformers', 'scipy'} & set(sys.modules))\n"
    )
    arguments = [sys.executable, "-c", script, small_recipe.model_dump_json(), str(small_cache)]
    assert subprocess.run(arguments, check=True, capture_output=True, text=True).stdout == "set()\n"


@pytest.fixture(scope="module")
def stdlib_data(tmp_path_factory: pytest.TempPathFactory) -> TextData:
    return open_data(DataRecipe(), seed=0, cache=tmp_path_factory.mktemp("stdlib"))


def five_line_windows(data: TextData, tokens: np.ndarray, *, with_blank_lines: bool) -> list[tuple[str, ...]]:
    tokenizer = load_tokenizer(data.tokenizer_path.parent)
    documents = np.split(np.asarray(tokens), np.flatnonzero(tokens == 0) + 1)
    windows = []
    for text in tokenizer.decode_batch([document.tolist() for document in documents]):
        lines = [line.strip() for line in text.split("\n") if with_blank_lines or line.strip()]
        windows += [tuple(lines[i : i + 5]) for i in range(len(lines) - 4)]
    return windows


@pytest.mark.parametrize("with_blank_lines", [False, True])
def test_validation_on_the_stdlib_is_no_copy_of_train(stdlib_data: TextData, with_blank_lines: bool) -> None:
    train = set(five_line_windows(stdlib_data, stdlib_data.train_tokens, with_blank_lines=with_blank_lines))
    val = five_line_windows(stdlib_data, stdlib_data.val_tokens, with_blank_lines=with_blank_lines)
    assert len(val) > 5000
    assert sum(window in train for window in val) / len(val) < 0.005


def test_the_stdlib_is_large_enough_and_its_share_is_held_out(stdlib_data: TextData) -> None:
    num_train, num_val = len(stdlib_data.train_tokens), len(stdlib_data.val_tokens)
    assert num_train > 2_000_000
    assert 0.04 < num_val / (num_train + num_val) < 0.06
    assert stdlib_data.meta.num_val_tokens == 65_536
