from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from kleiber.data import open_data, save_tokenizer
from kleiber.data.given_tokenizer import open_tokenizer
from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.token_bytes import covered_num_bytes
from kleiber.data.tokenizer import train_tokenizer
from kleiber.errors import DataError
from kleiber.runs import TaskRecipe
from kleiber.runs.recipe import DataRecipe

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "##ly", "film", "pad", "sep", "[", "]"]
CLASSIFY = TaskRecipe(name="classification")


def bert_like() -> Tokenizer:
    words = {word: number for number, word in enumerate(VOCAB)}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(VOCAB[:5])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def bytes_of_letters() -> Tokenizer:
    """A tokenizer of bytes that ends texts with its last token and names none."""
    tokenizer = Tokenizer(
        models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    folder = tmp_path / "bert"
    folder.mkdir()
    bert_like().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "pad_token_id": 0}))
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> str:
    rows = [f"{'good' if i % 2 else 'badly'} film{' film' * (i // 2)}\t{i % 2}" for i in range(24)]
    (tmp_path / "texts.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    return f"csv:{tmp_path / 'texts.tsv'}"


def test_special_tokens_are_found_where_folders_have_them(bert: Path) -> None:
    found = open_tokenizer(str(bert))
    assert (found.vocab_size, found.pad_id, found.end_id, found.prefix, found.suffix) == (
        13,
        0,
        3,
        (2,),
        (3,),
    )
    assert open_tokenizer(str(bert / "config.json")).hash == found.hash
    (bert / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "[MASK]"}}))
    assert open_tokenizer(str(bert)).pad_id == 4
    (bert / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[UNK]", "mask_token": "<none>"}))
    assert open_tokenizer(str(bert)).special == {"pad_token": "[UNK]"}
    for name in ("special_tokens_map.json", "tokenizer_config.json", "config.json"):
        (bert / name).unlink()
    assert open_tokenizer(str(bert)).special == {"pad_token": "[SEP]"}, "what ends a text pads it"
    padded = bert_like()
    padded.enable_padding(pad_id=4, pad_token="[MASK]", length=9)  # noqa: S106 - no password
    padded.enable_truncation(3)
    padded.save(str(bert / "tokenizer.json"))
    found = open_tokenizer(str(bert))
    assert found.pad_id == 4
    assert found.backend.encode("good bad film good").ids == [2, 5, 6, 8, 5, 3], "neither cut nor padded"


def test_the_end_of_text_pads_where_nothing_else_does(tmp_path: Path) -> None:
    bytes_of_letters().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="names no token that pads texts, and none that ends them"):
        open_tokenizer(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"eos_token_id": [256, 3]}}))
    found = open_tokenizer(str(tmp_path))
    assert (found.pad_id, found.end_id, found.prefix, found.suffix) == (256, 256, (), ())
    assert found.encode(["a<|endoftext|>", ""], separator=256).ends.tolist() == [14, 15], "typed text is text"
    (tmp_path / "config.json").write_text(json.dumps({"pad_token_id": 256}))
    with pytest.raises(DataError, match="has no token that ends a text"):
        open_tokenizer(str(tmp_path)).end_id  # noqa: B018 - it raises


def test_older_files_are_read_by_transformers(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(VOCAB) + "\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    found = open_tokenizer(str(tmp_path))
    assert (found.vocab_size, found.pad_id, found.prefix, found.suffix) == (13, 0, (2,), (3,))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (
        found.backend.encode("Goodly film!").ids == theirs("Goodly film!")["input_ids"] == [2, 5, 7, 8, 1, 3]
    )


def test_what_is_no_tokenizer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(
        DataError, match=r"data.tokenizer '.*empty' holds no tokenizer. Got \['config.json'\]"
    ):
        open_tokenizer(str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"data.tokenizer '.*nowhere' is no folder here\."):
        open_tokenizer(str(tmp_path / "nowhere"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        DataError, match=r"'nobody/has-this' is no folder here, and the hub did not give it: "
    ):
        open_tokenizer("nobody/has-this")
    (tmp_path / "empty" / "vocab.json").write_text("{")
    with pytest.raises(
        DataError, match=r"data.tokenizer '.*empty' holds no vocabulary that a BertTokenizer reads"
    ):
        open_tokenizer(str(tmp_path / "empty"))
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(DataError, match=r"data.tokenizer '.*empty' cannot be read: "):
        open_tokenizer(str(tmp_path / "empty"))
    (tmp_path / "empty" / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer.json is not a tokenizer"):
        open_tokenizer(str(tmp_path / "empty"))
    bert_like().save(str(tmp_path / "empty" / "tokenizer.json"))
    (tmp_path / "empty" / "special_tokens_map.json").write_text("{")
    with pytest.raises(
        DataError, match=r"special_tokens_map.json, which names special tokens, is not valid JSON"
    ):
        open_tokenizer(str(tmp_path / "empty"))


def test_another_tokenizer_is_another_preparation(bert: Path, texts: str, tmp_path: Path) -> None:
    recipe = DataRecipe(source=texts, field="text", tokenizer=str(bert), context=8, val_frac=0.2)
    cache = tmp_path / "cache"
    first = open_data(recipe, seed=0, task=CLASSIFY, cache=cache)
    assert len(list((cache / "texts").iterdir())) == 1
    same = open_data(recipe.model_copy(update={"context": 6}), seed=0, task=CLASSIFY, cache=cache)
    assert len(list((cache / "texts").iterdir())) == 1
    rows = next(iter(first.batches("val", 0, 100))).tokens
    cut = next(iter(same.batches("val", 0, 100))).tokens
    assert {len(row) for row in cut} == {6}
    assert (cut[rows[:, 6] == 8, -1] == 3).all(), "a text that is cut still ends"
    changed = json.loads((bert / "tokenizer.json").read_text())
    changed["normalizer"]["lowercase"] = False
    (bert / "tokenizer.json").write_text(json.dumps(changed))
    other = open_data(recipe, seed=0, task=CLASSIFY, cache=cache)
    assert len(list((cache / "texts").iterdir())) == 2
    assert other.meta.tokenizer_hash != first.meta.tokenizer_hash
    (bert / "config.json").write_text(json.dumps({"pad_token_id": 4}))
    assert open_data(recipe, seed=0, task=CLASSIFY, cache=cache).meta.shape.pad_id == 4


def test_it_is_saved_as_transformers_loads_it(bert: Path, texts: str, tmp_path: Path) -> None:
    recipe = DataRecipe(source=texts, field="text", tokenizer=str(bert), context=8, val_frac=0.2)
    data = open_data(recipe, seed=0, task=CLASSIFY, cache=tmp_path / "cache")
    save_tokenizer(data, tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text((bert / "config.json").read_text())
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    read = theirs(["goodly film", "bad " * 20], truncation=True, padding="max_length")["input_ids"]
    assert read == [[2, 5, 7, 8, 3, 0, 0, 0], [2, 6, 6, 6, 6, 6, 6, 3]]


def test_columns_and_images_have_no_use_for_one(bert: Path, texts: str, tmp_path: Path) -> None:
    for source in ("digits", texts):
        with pytest.raises(DataError, match=r"data\.tokenizer has no effect on"):
            open_data(DataRecipe(source=source, tokenizer=str(bert)), seed=0, task=CLASSIFY, cache=tmp_path)


@settings(max_examples=60)
@given(texts=st.lists(st.text(st.characters(codec="utf-8")), max_size=4))
def test_tokens_and_ends_stand_for_all_bytes(texts: list[str]) -> None:
    for backend in (bert_like(), bytes_of_letters()):
        tokenizer = TextTokenizer(backend, {"eos_token": backend.id_to_token(3)})
        encoded = tokenizer.encode(texts, separator=3)
        counts = covered_num_bytes(backend, texts)
        assert counts.shape == encoded.tokens.shape
        assert counts.min(initial=0) >= 0
        sums = [part.sum() for part in np.split(counts, encoded.ends + 1)]
        assert sums == [*(len(text.encode()) for text in texts), 0]


def test_bytes_are_counted_where_they_stand() -> None:
    # "  Bad," and the space and "filmly" by their ends, in bytes: an a with an accent has two.
    counts = covered_num_bytes(bert_like(), ["  Bád filmly ", ""])
    assert counts.tolist() == [6, 5, 2, 1, 0]
    ours = train_tokenizer(["low lower lowest " * 3], 260, source="text:low.txt")
    encoded = TextTokenizer(ours).encode(["low é"], separator=0)
    assert TextTokenizer(ours).num_bytes(["low é"], encoded.tokens).tolist() == [3, 1, 1, 1, 0]
    assert covered_num_bytes(ours, ["low é"]).tolist() == [3, 1, 2, 0, 0], (
        "the first of a character counts it"
    )
