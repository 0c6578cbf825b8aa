from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.errors import DataError, KleiberError, RunFolderError, UsageError
from kleiber.infer import Sampling, TextStream, TorchEngine, generate, pick
from kleiber.models import build, save
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.module import GPT

TEXT = "def read(path):\n    return path.read_text()\n" * 20
CONTEXT = 16


def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], 280, source="text:test")


def random_module(context: int = CONTEXT) -> GPT:
    spec = GPTSpec.from_dial({"depth": 2, "width": 32, "num_kv_heads": 1}, vocab_size=280, context=context)
    module = build(spec, seed=1)
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)) * 0.2)
    return module


ENGINE = TorchEngine(random_module(), tokenizer())


def full_logits(tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        return ENGINE.module(torch.tensor([tokens]))[0].numpy()


@given(st.lists(st.integers(0, 279), min_size=1, max_size=CONTEXT), st.integers(1, CONTEXT))
@settings(max_examples=40, deadline=None)
def test_cached_decode_equals_full_forward(tokens: list[int], num_prefilled: int) -> None:
    num_prefilled = min(num_prefilled, len(tokens))
    full = full_logits(tokens)
    assert np.allclose(ENGINE.prefill(tokens[:num_prefilled]), full[num_prefilled - 1], atol=2e-5)
    for index in range(num_prefilled, len(tokens)):
        assert np.allclose(ENGINE.decode(tokens[index]), full[index], atol=2e-5)


def test_greedy_text_is_the_argmax_of_the_full_forward() -> None:
    tokens = ENGINE.tokenizer.encode("def ").ids
    expected = []
    for _ in range(8):
        expected.append(int(full_logits(tokens + expected)[-1].argmax()))
    text = "".join(generate(ENGINE, "def ", max_tokens=8, temperature=0))
    assert text == ENGINE.tokenizer.decode(expected, skip_special_tokens=False)


def test_the_seed_decides_the_text() -> None:
    def text(seed: int) -> str:
        return "".join(generate(ENGINE, "def ", max_tokens=10, temperature=1, top_k=50, top_p=0.9, seed=seed))

    assert text(3) == text(3)
    assert len({text(seed) for seed in range(5)}) > 1


def test_text_goes_on_past_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kleiber.infer.generation.END_OF_TEXT", "a word that is no token")
    pieces = list(generate(ENGINE, "def read", max_tokens=3 * CONTEXT, temperature=0.5, seed=1))
    assert 3 * CONTEXT <= len(pieces) <= 3 * CONTEXT + 1


class Scripted:
    """An engine that always says the same tokens, and what it was asked."""

    def __init__(self, script: list[int], context: int = 8) -> None:
        self.tokenizer, self.context = tokenizer(), context
        self.script, self.calls = script, []

    def _next(self) -> np.ndarray:
        logits = np.zeros(280, np.float32)
        logits[self.script.pop(0)] = 9.0
        return logits

    def prefill(self, tokens: list[int]) -> np.ndarray:
        self.calls.append(list(tokens))
        return self._next()

    def decode(self, token: int) -> np.ndarray:
        self.calls.append(token)
        return self._next()


def test_it_ends_with_the_end_of_text_token() -> None:
    engine = Scripted([65, 66, 0, 67])
    assert len(list(generate(engine, "d", max_tokens=10, temperature=0))) == 2


def test_the_last_token_is_not_read_for_nothing() -> None:
    engine = Scripted([65, 66, 67])
    list(generate(engine, "d", max_tokens=3, temperature=0))
    assert engine.calls[1:] == [65, 66]


def test_a_full_context_starts_from_its_later_half() -> None:
    engine = Scripted([65, 66, 67, 68, 69], context=4)
    list(generate(engine, "d", max_tokens=5, temperature=0))
    prompt = engine.tokenizer.encode("d").ids
    assert engine.calls == [prompt, 65, 66, 67, [67, 68]]


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("", {}, "the prompt is empty"),
        ("abcdefgh" * CONTEXT, {}, f"the prompt is 96 tokens long; the model reads at most {CONTEXT}"),
        ("a", {"max_tokens": 0}, "max_tokens must be 1 or more. Got 0"),
        ("a", {"temperature": -1}, "temperature must be 0 or more. Got -1"),
        ("a", {"temperature": float("nan")}, "temperature must be 0 or more"),
        ("a", {"top_k": -5}, "top_k must be 0"),
        ("a", {"top_p": 0}, "top_p must be above 0"),
        ("a", {"top_p": 1.1}, "top_p must be above 0"),
    ],
)
def test_what_cannot_be_generated_is_refused_at_once(
    prompt: str, options: dict[str, float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        generate(ENGINE, prompt, **options)


def test_engine_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(UsageError, match="the prompt is empty"):
        ENGINE.prefill([])
    with pytest.raises(UsageError, match=f"reads at most {CONTEXT} tokens"):
        ENGINE.prefill([1] * (CONTEXT + 1))
    ENGINE.prefill([1] * CONTEXT)
    with pytest.raises(UsageError, match=f"reads at most {CONTEXT} tokens"):
        ENGINE.decode(1)
    with pytest.raises(UsageError, match="prefill comes before decode"):
        TorchEngine(random_module(), tokenizer()).decode(1)


def test_typed_text_never_is_the_end_of_text() -> None:
    assert 0 not in ENGINE.tokenizer.encode("<|endoftext|>").ids


def test_an_engine_loads_a_run_and_a_model_folder(tmp_path: Path) -> None:
    module = random_module()
    save(module, module.spec, tmp_path / "run" / "model")
    TextTokenizer(tokenizer()).write(tmp_path / "run" / "model", context=CONTEXT)
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        engine = TorchEngine.load(folder)
        assert np.array_equal(engine.prefill([5, 6]), ENGINE.prefill([5, 6]))
    with pytest.raises(UsageError, match=r"precision must be one of fp32\. Got 'int4'"):
        TorchEngine.load(tmp_path / "run", precision="int4")
    (tmp_path / "run" / "model" / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"holds no tokenizer\.json"):
        TorchEngine.load(tmp_path / "run")


def test_folders_without_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"is neither a run nor a folder with a config\.json"):
        TorchEngine.load(tmp_path / "nothing")
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(RunFolderError, match="has no model yet"):
        TorchEngine.load(tmp_path)


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_streamed_text_is_the_text(text: str) -> None:
    stream = TextStream(ENGINE.tokenizer)
    pieces = [stream.push(token) for token in ENGINE.tokenizer.encode(text).ids]
    assert "".join(pieces) + stream.finish() == text


def test_a_character_comes_with_its_last_byte() -> None:
    stream = TextStream(ENGINE.tokenizer)
    tokens = ENGINE.tokenizer.encode("é語😀").ids
    assert [stream.push(token) for token in tokens] == ["", "é", "", "", "語", "", "", "", "😀"]
    assert stream.finish() == ""


def test_a_torn_character_is_replaced() -> None:
    stream = TextStream(ENGINE.tokenizer)
    *first, _ = ENGINE.tokenizer.encode("語").ids
    assert "".join(stream.push(token) for token in first) == ""
    assert stream.push(ENGINE.tokenizer.encode("a").ids[0]) == "�a"
    assert stream.push(first[0]) + stream.finish() == "�"
    assert stream.push(first[0]) + stream.push(0) == "�<|endoftext|>"


def test_an_added_token_is_spelt_as_it_is() -> None:
    own = tokenizer()
    own.add_tokens(["a b"])
    stream = TextStream(own)
    assert stream.push(own.encode("é").ids[0]) + stream.push(own.token_to_id("a b")) == "�a b"


LOGITS = np.log(np.array([0.1, 0.5, 0.15, 0.25], np.float32))


def counts(**options: float) -> Counter[int]:
    rng = np.random.default_rng(0)
    return Counter(pick(LOGITS, Sampling(**options), rng) for _ in range(4000))


def test_sampling_follows_the_probabilities() -> None:
    drawn = counts(temperature=1.0)
    assert [drawn[token] / 4000 for token in range(4)] == pytest.approx([0.1, 0.5, 0.15, 0.25], abs=0.025)
    # at temperature 0.5 probabilities are squared: 0.25 of 0.345 in all
    assert counts(temperature=0.5)[1] / 4000 == pytest.approx(0.25 / 0.345, abs=0.025)


def test_top_k_and_top_p_keep_the_likeliest() -> None:
    assert set(counts(temperature=1.0, top_k=2)) == {1, 3}
    assert set(counts(temperature=1.0, top_k=1)) == {1}
    assert set(counts(temperature=1.0, top_p=0.7)) == {1, 3}
    assert set(counts(temperature=1.0, top_p=0.3)) == {1}
    assert set(counts(temperature=1.0, top_p=0.95)) == {0, 1, 2, 3}
    assert set(counts(temperature=0)) == {1}


def test_weights_that_diverged_are_refused() -> None:
    with pytest.raises(KleiberError, match="not finite"):
        pick(np.array([0.0, np.nan]), Sampling(), np.random.default_rng(0))
