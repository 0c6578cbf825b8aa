from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from exporting import TEXT, byte_tokenizer, character_tokenizer, gpt_folder, llama_folder
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.errors import RecipeError
from kleiber.infer.decoding.llamacpp_stepper import tokenize
from kleiber.infer.export.gguf import write_gguf
from kleiber.infer.export.gguf.vocabulary import PRE_TOKENIZERS, Vocabulary, vocabulary_of
from kleiber.models import load

BYTES, CHARACTERS = byte_tokenizer(), character_tokenizer()
TEXTS = st.text("the lowrn \u00e9\u6c34\n", max_size=30) | st.text(max_size=8)


def joined_by_rank(vocabulary: Vocabulary, word: str) -> list[int]:
    """Join the letters of a word as llama.cpp does in the kind gpt2: the pair of the lowest rank first, leftmost of equals."""
    ranks = {tuple(pair.split(" ")): rank for rank, pair in enumerate(vocabulary.merges)}
    parts = list(word)
    while len(parts) > 1:
        found = [(ranks[pair], at) for at, pair in enumerate(itertools.pairwise(parts)) if pair in ranks]
        if not found:
            break
        at = min(found)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [vocabulary.tokens.index(part) for part in parts]


def joined_by_score(vocabulary: Vocabulary, text: str) -> list[int]:
    """Join the characters of a text as llama.cpp does in the kind llama: what makes the token of the highest score first."""
    numbers = {token: number for number, token in enumerate(vocabulary.tokens)}
    parts = list(text.replace(" ", "\u2581"))
    while len(parts) > 1:
        found = [
            (-vocabulary.scores[numbers[one + other]], at)
            for at, (one, other) in enumerate(itertools.pairwise(parts))
            if one + other in numbers
        ]
        if not found:
            break
        at = min(found)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    said: list[int] = []
    for part in parts:
        said += [numbers[part]] if part in numbers else [numbers[f"<0x{byte:02X}>"] for byte in part.encode()]
    return said


@settings(max_examples=60)
@given(TEXTS)
def test_ranks_join_bytes_as_the_tokenizer_does(text: str) -> None:
    vocabulary = vocabulary_of(BYTES, 272)
    words = BYTES.backend.pre_tokenizer.pre_tokenize_str(text)
    ours = BYTES.backend.encode(text, add_special_tokens=False).ids
    assert [token for word, _ in words for token in joined_by_rank(vocabulary, word)] == ours


@settings(max_examples=60)
@given(TEXTS.filter(lambda text: "<" not in text))
@example("her other mother")  # either he or er can be joined, and not both
def test_scores_join_characters_as_the_tokenizer_does(text: str) -> None:
    vocabulary = vocabulary_of(CHARACTERS, 290)
    assert vocabulary.adds_space
    ours = CHARACTERS.backend.encode(text, add_special_tokens=False).ids
    assert joined_by_score(vocabulary, f" {text}" if text else "") == ours


def test_what_is_said_of_the_tokens() -> None:
    vocabulary = vocabulary_of(BYTES, 274)
    assert (vocabulary.model, vocabulary.pre) == ("gpt2", "gpt-2")
    assert vocabulary.tokens[0] == "<|endoftext|>"
    assert vocabulary.tokens[-2:] == ("[UNUSED272]", "[UNUSED273]")
    assert (vocabulary.types[0], vocabulary.types[1], vocabulary.types[-1]) == (3, 1, 5)
    assert vocabulary.special_ids == {"bos": 0, "eos": 0, "padding": 0}
    assert [vocabulary.adds_bos, vocabulary.adds_eos, vocabulary.adds_space] == [False] * 3
    characters = vocabulary_of(CHARACTERS, 290)
    assert characters.types[:4] == (2, 3, 3, 6)
    assert characters.special_ids == {"bos": 1, "eos": 2, "unknown": 0, "padding": 2}


def test_a_tokenizer_that_joins_nothing_has_a_pair_that_never_comes_up() -> None:
    raw = json.loads(BYTES.backend.to_str())
    raw["model"]["merges"] = []
    raw["model"]["vocab"] = {token: n for token, n in raw["model"]["vocab"].items() if n < 257}
    bare = TextTokenizer(Tokenizer.from_str(json.dumps(raw)))
    vocabulary = vocabulary_of(bare, 257)
    assert vocabulary.merges == ("<|endoftext|> <|endoftext|>",)


def changed(tokenizer: TextTokenizer, **parts: object) -> TextTokenizer:
    raw = json.loads(tokenizer.backend.to_str())
    for key, value in parts.items():
        if isinstance(value, dict) and isinstance(raw[key], dict):
            raw[key] |= value
        else:
            raw[key] = value
    return TextTokenizer(Tokenizer.from_str(json.dumps(raw)), tokenizer.given, "theirs")


@pytest.mark.parametrize("name", ["qwen2", "llama-bpe"])
def test_the_words_of_published_models_are_known(name: str) -> None:
    split = {
        "type": "Split",
        "pattern": {"Regex": PRE_TOKENIZERS[name]},
        "behavior": "Isolated",
        "invert": False,
    }
    bytes_only = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    theirs = changed(
        BYTES,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [split, bytes_only]},
        model={"ignore_merges": name == "llama-bpe"},
    )
    assert vocabulary_of(theirs, 272).pre == name


@pytest.mark.parametrize(
    ("tokenizer", "parts", "reason"),
    [
        (BYTES, {"normalizer": {"type": "NFC"}}, "it changes texts first, by NFC"),
        (BYTES, {"model": {"ignore_merges": True}}, "it cuts words in another way than those known, gpt-2"),
        (BYTES, {"pre_tokenizer": {"add_prefix_space": True}}, "it cuts words in another way"),
        (CHARACTERS, {"model": {"byte_fallback": False}}, "it reads neither bytes nor characters"),
        (CHARACTERS, {"normalizer": None}, "it treats spaces otherwise than sentencepiece"),
    ],
)
def test_what_llamacpp_has_no_tokenizer_for(
    tokenizer: TextTokenizer, parts: dict[str, object], reason: str
) -> None:
    with pytest.raises(RecipeError, match=rf"no tokenizer that reads as theirs does: {reason}"):
        vocabulary_of(changed(tokenizer, **parts), 300)


def test_pairs_in_another_order_than_their_tokens_are_refused() -> None:
    raw = json.loads(CHARACTERS.backend.to_str())
    merges = raw["model"]["merges"]
    # "the" is made of t and he, or of th and e where "th" were a token: here it is joined later than "ow".
    one = next(at for at, pair in enumerate(merges) if "".join(pair) == "\u2581the")
    theirs = changed(CHARACTERS, model={"merges": merges[:one] + merges[one + 1 :]})
    with pytest.raises(
        RecipeError, match="its pairs are not joined in the order of the tokens that they make"
    ):
        vocabulary_of(theirs, 290)


def test_words_and_frames_that_gguf_has_no_word_for() -> None:
    raw = json.loads(BYTES.backend.to_str())
    raw["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}] * 2
        + [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
    }
    framed = TextTokenizer(Tokenizer.from_str(json.dumps(raw)), None, "theirs")
    with pytest.raises(RecipeError, match=r"it puts the tokens \(0, 0\) before a text and \(\) after it"):
        vocabulary_of(framed, 272)
    words = Tokenizer.from_str(
        json.dumps(
            {
                **raw,
                "post_processor": None,
                "model": {"type": "WordLevel", "vocab": {"<|endoftext|>": 0, "a": 1}, "unk_token": "a"},
            }
        )
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(RecipeError, match="its kind is WordLevel, not BPE"):
        vocabulary_of(TextTokenizer(words, None, "theirs"), 2)


def test_llamacpp_itself_reads_real_text_alike(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    pytest.importorskip("gguf")
    texts = [
        TEXT,
        " the low",
        "low\n\n  the\tthe",
        "\u00e9\u6c34 <|endoftext|></s>",
        "don't 1234 we'LL",
        "her other",
    ]
    for name, make, tokenizer in (("gpt", gpt_folder, BYTES), ("llama", llama_folder, CHARACTERS)):
        module, spec = load(make(tmp_path / name))
        path = tmp_path / f"{name}.gguf"
        write_gguf(path, module, spec, tokenizer)
        tokenizer.backend.encode_special_tokens = True
        for text in texts:
            assert tokenize(path, text) == tokenizer.backend.encode(text, add_special_tokens=False).ids
