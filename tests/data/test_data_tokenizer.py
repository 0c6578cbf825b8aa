from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from kleiber.data import tokenizer as tokenizer_module
from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.token_bytes import token_num_bytes
from kleiber.data.tokenizer import (
    END_OF_TEXT_ID,
    encode_texts,
    load_tokenizer,
    tokenizer_hash,
    train_tokenizer,
)
from kleiber.errors import DataError


@pytest.fixture(scope="module")
def tokenizer(modules_folder: Path) -> Tokenizer:
    return train_tokenizer([(modules_folder / "datetime.py").read_text()], 400, source="text:x")


def test_the_vocabulary_is_exact_and_covers_every_byte(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == 400
    assert tokenizer.token_to_id("<|endoftext|>") == END_OF_TEXT_ID == 0
    assert tokenizer.decode(tokenizer.encode("中文 😀\0\x7f").ids) == "中文 😀\0\x7f"


@given(texts=st.lists(st.one_of(st.text(), st.just("a<|endoftext|>b")), max_size=4))
def test_tokens_give_the_texts_back(tokenizer: Tokenizer, texts: list[str]) -> None:
    texts = [text.encode(errors="ignore").decode() for text in texts]
    tokens = encode_texts(tokenizer, texts).tokens
    assert tokens.dtype == np.uint16
    ends = np.flatnonzero(tokens == END_OF_TEXT_ID)
    assert len(ends) == len(texts)  # a text that spells the token does not make one
    parts = np.split(tokens, ends + 1)[:-1]
    assert [tokenizer.decode(part[:-1].tolist()) for part in parts] == texts
    assert token_num_bytes(tokenizer)[tokens].sum() == sum(len(text.encode()) for text in texts)


def test_a_long_text_is_encoded_in_pieces_without_a_seam(
    modules_folder: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [(modules_folder / name).read_text() for name in ("textwrap.py", "calendar.py")]
    whole = encode_texts(tokenizer, texts).tokens
    monkeypatch.setattr(tokenizer_module, "_CHARS_A_PIECE", 2000)
    monkeypatch.setattr(tokenizer_module, "_CHARS_A_BATCH", 5000)
    pieces = encode_texts(tokenizer, texts).tokens
    assert tokenizer.decode(pieces.tolist()) == tokenizer.decode(whole.tolist()) == "".join(texts)
    assert (pieces == END_OF_TEXT_ID).sum() == 2
    assert len(whole) <= len(pieces) < 1.02 * len(whole)


@given(text=st.text(alphabet="ab's1,;中 \t\n\u3000\x1c"), num_chars=st.integers(0, 9))
def test_a_text_is_counted_in_pieces_without_a_seam(text: str, num_chars: int) -> None:
    split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_module, "_CHARS_A_COUNT", num_chars)
        pieces = list(tokenizer_module._between_words(text))
    assert "".join(pieces) == text
    assert [word for piece in pieces for word, _ in split(piece)] == [word for word, _ in split(text)]


def test_a_text_is_counted_in_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "_CHARS_A_COUNT", 5)
    assert list(tokenizer_module._between_words("one two  three\n\nfour")) == [
        "one two",
        "  three",
        "\n\nfour",
    ]


def test_a_large_vocabulary_takes_four_bytes_a_token(
    monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
) -> None:
    large = Tokenizer.from_str(tokenizer.to_str())
    large.add_tokens([f"<{number}>" for number in range(70_000)])
    assert encode_texts(large, ["a<69999>"]).tokens.tolist()[1] == 400 + 69_999


def test_a_short_text_cannot_fill_the_vocabulary() -> None:
    with pytest.raises(
        DataError, match=r"data.vocab_size 400 is too large for 'text:x': .* of 23 characters"
    ) as caught:
        train_tokenizer(["hello hello hello world"], 400, source="text:x")
    hint = str(caught.value.hint)
    size = int(hint.partition("=")[2].partition(" ")[0])
    assert train_tokenizer(["hello hello hello world"], size, source="text:x").get_vocab_size() == size


def test_the_merges_do_not_depend_on_threads(modules_folder: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from kleiber.data.tokenizer import tokenizer_hash, train_tokenizer\n"
        "texts = [p.read_text() for p in sorted(pathlib.Path(sys.argv[1]).glob('*.py'))]\n"
        "print(tokenizer_hash(train_tokenizer(texts, 700, source='x')))\n"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script, str(modules_folder)],
            env={**os.environ, **threads},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for threads in (
            {"TOKENIZERS_PARALLELISM": "false"},
            {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "2"},
            {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "3"},
        )
    }
    assert len(hashes) == 1
    assert len(hashes.pop().strip()) == 16


def test_a_saved_tokenizer_loads_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    TextTokenizer(tokenizer).write(tmp_path, context=32)
    assert tokenizer_hash(load_tokenizer(tmp_path)) == tokenizer_hash(tokenizer)


def test_transformers_loads_it_beside_a_qwen3_config(tokenizer: Tokenizer, tmp_path: Path) -> None:
    TextTokenizer(tokenizer).write(tmp_path, context=32)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own deprecations at import
        from transformers import AutoTokenizer  # noqa: PLC0415

        loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "def year(self):\n    return  self._year  # <|endoftext|> 中文 don't 12345\n"
    assert loaded(text)["input_ids"] == tokenizer.encode(text).ids
    assert loaded.decode(tokenizer.encode("a , b").ids) == "a , b"
    assert (loaded.eos_token_id, loaded.model_max_length) == (END_OF_TEXT_ID, 32)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_truncated_tokenizer_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str()[:1000])
    with pytest.raises(DataError, match=r"tokenizer\.json is not a tokenizer: .*EOF"):
        load_tokenizer(tmp_path)
