from __future__ import annotations

import errno
import hashlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from kleiber.data import corpus as corpus_module
from kleiber.data.corpus import Corpus, open_corpus, source_files
from kleiber.data.tokenizer import train_tokenizer
from kleiber.errors import DataError, StorageError
from kleiber.runs import DataRecipe


def opened(recipe: DataRecipe, cache: Path) -> tuple[Corpus, list[str]]:
    stages: list[str] = []
    return open_corpus(recipe, cache, stages.append), stages


def test_the_second_call_finds_what_the_first_prepared(small_recipe: DataRecipe, tmp_path: Path) -> None:
    first, stages = opened(small_recipe, tmp_path)
    assert stages == ["reading the text", "grouping near-duplicates", "training the tokenizer", "encoding"]
    second, stages = opened(small_recipe, tmp_path)
    assert stages == []
    assert second.meta == first.meta
    assert isinstance(second.train_tokens, np.memmap)
    assert first.meta.num_train_tokens == len(second.train_tokens) == len(first.train_tokens)


def test_another_context_or_evaluation_size_shares_the_tokens(
    small_recipe: DataRecipe, tmp_path: Path
) -> None:
    opened(small_recipe, tmp_path)
    assert opened(small_recipe.model_copy(update={"context": 64, "val_tokens": 99}), tmp_path)[1] == []
    assert opened(small_recipe.model_copy(update={"vocab_size": 300}), tmp_path)[1] != []


def test_a_touched_file_costs_a_preparation_but_stays_the_same_corpus(
    small_recipe: DataRecipe, modules_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(modules_folder, copy)
    recipe = small_recipe.model_copy(update={"source": f"text:{copy}"})
    first, _ = opened(recipe, tmp_path / "cache")
    os.utime(copy / "ast.py", ns=(1, 1))
    # The tokenizer's cache is of the text, so it is not trained again.
    monkeypatch.setattr(corpus_module, "train_tokenizer", None)
    second, stages = opened(recipe, tmp_path / "cache")
    assert stages != []
    assert second.folder != first.folder
    assert second.meta == first.meta
    np.testing.assert_array_equal(second.train_tokens, first.train_tokens)


def test_a_changed_file_is_another_corpus(
    small_recipe: DataRecipe, modules_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(modules_folder, copy)
    recipe = small_recipe.model_copy(update={"source": f"text:{copy}"})
    first, _ = opened(recipe, tmp_path / "cache")
    with (copy / "ast.py").open("a") as stream:
        stream.write("# one line more\n")
    second, _ = opened(recipe, tmp_path / "cache")
    assert second.meta.corpus_hash != first.meta.corpus_hash


def test_a_corpus_is_what_it_was(tmp_path: Path) -> None:
    """Records of runs hold its hash, and their losses are of its tokens."""
    (tmp_path / "a.txt").write_text(
        "".join(f"{n} apples\n\nand {n * n} pears\n" + "<|endoftext|>\n" * (n % 7 == 0) for n in range(200))
    )
    (tmp_path / "b.txt").write_text("".join(f"{n} bears;{' honey' * (n % 5)}\n\n" for n in range(300)))
    recipe = DataRecipe(source=f"text:{tmp_path}", vocab_size=300, context=32, val_frac=0.1, val_tokens=64)
    corpus, _ = opened(recipe, tmp_path / "cache")
    tokens = hashlib.sha256(corpus.train_tokens.tobytes() + corpus.val_tokens.tobytes()).hexdigest()
    found = (corpus.meta.corpus_hash, corpus.meta.num_val_passages, tokens[:16])
    assert found == ("d7e7e5113176ba0d", 7, "a1502bc27bacc547")


def test_two_caches_agree_to_the_byte(small_recipe: DataRecipe, tmp_path: Path) -> None:
    folders = [opened(small_recipe, tmp_path / name)[0].folder for name in ("a", "b")]
    names = sorted(path.name for path in folders[0].iterdir())
    assert names == [
        "meta.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "train.npy",
        "val.npy",
        "val_num_bytes.npy",
    ]
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_processes_may_prepare_the_same_corpus_at_once(small_recipe: DataRecipe, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from kleiber.data.corpus import open_corpus\n"
        "from kleiber.runs import DataRecipe\n"
        "recipe = DataRecipe.model_validate_json(sys.argv[1])\n"
        "print(open_corpus(recipe, pathlib.Path(sys.argv[2]), print).meta.corpus_hash)\n"
    )
    arguments = [sys.executable, "-c", script, small_recipe.model_dump_json(), str(tmp_path)]
    processes = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert len({output[-1] for output in outputs}) == 1
    assert len(list((tmp_path / "corpora").iterdir())) == 1  # no temporary folder is left


def test_a_full_disk_leaves_nothing_behind(
    small_recipe: DataRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", refuse)
    with pytest.raises(StorageError, match=r"cannot write .*: No space left on device"):
        opened(small_recipe, tmp_path)
    assert list((tmp_path / "corpora").iterdir()) == []


@pytest.fixture
def fill_disk() -> Iterator[Callable[[], None]]:
    """From its call on no file may grow beyond 2,000 bytes: to a program the same as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_text_that_does_not_fit_on_the_disk_is_said(
    small_recipe: DataRecipe, tmp_path: Path, fill_disk: Callable[[], None]
) -> None:
    fill_disk()
    with pytest.raises(StorageError, match=r"cannot write .*: File too large"):
        opened(small_recipe, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_does_not_fit_on_the_disk_is_said(
    small_recipe: DataRecipe,
    tmp_path: Path,
    fill_disk: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train_and_fill(*args: Any, **options: Any) -> Tokenizer:
        tokenizer = train_tokenizer(*args, **options)
        fill_disk()
        return tokenizer

    monkeypatch.setattr(corpus_module, "train_tokenizer", train_and_fill)
    with pytest.raises(StorageError, match=r"cannot write .*tokenizer\.json: File too large"):
        opened(small_recipe, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["meta.json", "train.npy", "val_num_bytes.npy"])
def test_a_damaged_cache_says_what_to_remove(small_recipe: DataRecipe, tmp_path: Path, name: str) -> None:
    folder = opened(small_recipe, tmp_path)[0].folder
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(
        DataError, match=rf"the prepared corpus {folder} is damaged: .*\n  try: rm -r {folder}"
    ):
        opened(small_recipe, tmp_path)


@pytest.mark.parametrize("source", ["stdlb", "wikitext", "text", "stdlib:x"])
def test_an_unknown_source_is_refused(source: str) -> None:
    with pytest.raises(DataError, match=rf"data\.source must be stdlib or text:PATH\. .* Got '{source}'"):
        source_files(DataRecipe(source=source))


def test_a_field_of_the_stdlib_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.field names a column .*, and 'stdlib' has none\. Got 'text'"):
        source_files(DataRecipe(field="text"))
