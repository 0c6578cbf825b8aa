import json
import math

import numpy as np
import pytest

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.errors import KleiberError, UsageError
from kleiber.infer.sampled_text import sampled_text


class Chain:
    """A model whose next token depends on the last alone: a, then b or c, then the end."""

    context = 30

    def __init__(self, tokenizer, share=0.75):
        a, b, c = (tokenizer.backend.token_to_id(letter) for letter in "abc")
        self._next = {0: {a: 1.0}, a: {b: share, c: 1 - share}, b: {0: 1.0}, c: {0: 1.0}}
        self._size, self.length, self.firsts = tokenizer.vocab_size, 0, []

    def prefill(self, tokens):
        self.length = 1
        self.firsts += tokens[:, 0].tolist()
        return self._logits(tokens[:, -1])

    def decode(self, tokens):
        self.length += 1
        return self._logits(tokens)

    def _logits(self, last):
        logits = np.full((len(last), self._size), -1e9, np.float32)
        for row, token in enumerate(last):
            for after, share in self._next[int(token)].items():
                logits[row, after] = math.log(share)
        return logits


@pytest.fixture
def tokenizer():
    return TextTokenizer(train_tokenizer(["abc " * 3], 257, source="text:a.txt"))


def texts_in(path):
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_texts_are_spread_as_the_model_says_and_end_where_it_ends_them(tokenizer, tmp_path):
    chain = Chain(tokenizer)
    sampled_text(chain, tokenizer, tmp_path / "a.jsonl", 3000, seed=1)
    texts = texts_in(tmp_path / "a.jsonl")
    assert set(texts) == {"ab", "ac"}
    assert len(texts) == 1000  # each with the token that ends it
    assert texts.count("ab") / len(texts) == pytest.approx(0.75, abs=0.05)
    assert set(chain.firsts) == {tokenizer.end_id}


def test_the_seed_says_which_and_a_file_that_is_there_stays(tokenizer, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        sampled_text(Chain(tokenizer), tokenizer, tmp_path / f"{name}.jsonl", 300, seed=seed)
    assert texts_in(tmp_path / "a.jsonl") == texts_in(tmp_path / "b.jsonl") != texts_in(tmp_path / "c.jsonl")
    before = texts_in(tmp_path / "a.jsonl")
    sampled_text(Chain(tokenizer, share=0.01), tokenizer, tmp_path / "a.jsonl", 900)
    assert texts_in(tmp_path / "a.jsonl") == before


def test_a_low_temperature_keeps_to_the_likeliest(tokenizer, tmp_path):
    sampled_text(Chain(tokenizer), tokenizer, tmp_path / "a.jsonl", 900, temperature=0.05)
    assert set(texts_in(tmp_path / "a.jsonl")) == {"ab"}


@pytest.mark.parametrize("options", [{"num_tokens": 0}, {"num_tokens": 9, "temperature": 0.0}])
def test_what_is_out_of_range_is_refused(tokenizer, options, tmp_path):
    with pytest.raises(UsageError, match=r"takes 1 token or more and a temperature above 0\. Got \("):
        sampled_text(Chain(tokenizer), tokenizer, tmp_path / "a.jsonl", **options)


def test_a_damaged_model_writes_nothing(tokenizer, tmp_path):
    chain = Chain(tokenizer, share=0.75)
    chain._logits = lambda last: np.full((len(last), 257), np.nan, np.float32)
    with pytest.raises(KleiberError, match=r"output is not finite"):
        sampled_text(chain, tokenizer, tmp_path / "a.jsonl", 9)
    assert not (tmp_path / "a.jsonl").exists()
