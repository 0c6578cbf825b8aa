from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers

from kleiber.data.tokenizer import train_tokenizer
from kleiber.infer.generation import TextStream

BYTES = train_tokenizer(["def read(path):\n    return path.read_text()\n" * 20], 280, source="text:test")


@pytest.fixture(scope="module")
def llama() -> Tokenizer:
    """Built as those of Llama are: spaces are letters, and what no token spells is bytes."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdef", "▁a", "▁ab"]
    merges = [("▁", "a"), ("▁a", "b")]
    tokenizer = Tokenizer(
        models.BPE({word: i for i, word in enumerate(words)}, merges, byte_fallback=True, unk_token="<unk>")  # noqa: S106
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def streamed(tokenizer: Tokenizer, tokens: list[int], num_before: int = 0) -> str:
    stream = TextStream(tokenizer, tokens[:num_before])
    return "".join([*(stream.push(token) for token in tokens[num_before:]), stream.finish()])


@given(st.text(max_size=40))
@settings(max_examples=100)
def test_streamed_text_is_the_text(text: str) -> None:
    assert streamed(BYTES, BYTES.encode(text).ids) == text


@given(text=st.text("ab 語é😀", max_size=20))
@settings(max_examples=100)
def test_text_of_another_tokenizer_is_the_text_alone_and_after_a_prompt(llama: Tokenizer, text: str) -> None:
    tokens = llama.encode("c" + text).ids
    assert streamed(llama, tokens) == "c" + text
    assert streamed(llama, tokens, len(llama.encode("c").ids)) == text


def test_the_space_before_a_word_stays_where_text_goes_on(llama: Tokenizer) -> None:
    prompt, word = llama.encode("ab").ids, llama.token_to_id("▁ab")
    assert TextStream(llama, prompt).push(word) == " ab"
    assert TextStream(llama).push(word) == "ab"  # as decoding it alone has it


def test_a_character_comes_with_its_last_byte() -> None:
    stream = TextStream(BYTES)
    tokens = BYTES.encode("é語😀").ids
    assert [stream.push(token) for token in tokens] == ["", "é", "", "", "語", "", "", "", "😀"]
    assert stream.finish() == ""


def test_a_character_of_another_tokenizer_comes_with_its_last_byte(llama: Tokenizer) -> None:
    stream = TextStream(llama)
    first, *tokens = llama.encode("語語é").ids
    stream.push(first)
    assert [stream.push(token) for token in tokens] == ["", "", "語", "", "", "語", "", "é"]


def test_a_torn_character_is_replaced(llama: Tokenizer) -> None:
    stream = TextStream(BYTES)
    *first, _ = BYTES.encode("語").ids
    assert "".join(stream.push(token) for token in first) == ""
    assert stream.push(BYTES.encode("a").ids[0]) == "\ufffda"
    assert stream.push(first[0]) + stream.finish() == "\ufffd"
    assert stream.push(first[0]) + stream.push(0) == "\ufffd<|endoftext|>"
    stream = TextStream(llama, [llama.token_to_id("a")])
    assert stream.push(llama.token_to_id("<0xE8>")) + stream.finish() == "\ufffd"


def test_an_added_token_is_spelt_as_it_is() -> None:
    own = Tokenizer.from_str(BYTES.to_str())
    own.add_tokens(["a b"])
    stream = TextStream(own)
    assert stream.push(own.encode("é").ids[0]) + stream.push(own.token_to_id("a b")) == "\ufffda b"
