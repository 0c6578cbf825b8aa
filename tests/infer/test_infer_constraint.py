"""Text of a given form has it, whoever writes it; what is drawn is otherwise as probable as ever."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.errors import KleiberError, MissingExtraError, UsageError
from kleiber.infer.batching import BatchedText, Pages, Slots, Speaker
from kleiber.infer.batching.torch_rows import TorchRows
from kleiber.infer.decoding.cached_forward import cached_heads
from kleiber.infer.generation import Constraint, Request, Sampling, TextGenerator, probabilities
from kleiber.infer.generation.constraint import Guide
from kleiber.infer.text_model import TextModel, open_text_model
from kleiber.models import save
from kleiber.models.gpt.module import build
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.stored import AS_COMPUTED

llguidance = pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema")

VOCAB, CONTEXT = 272, 256
TOKENIZER = TextTokenizer(train_tokenizer(['{"name": true, "low": 12} ' * 9], VOCAB, source="text:x"))
END = TOKENIZER.end_id


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a model that knows nothing, with its tokenizer."""
    folder = tmp_path_factory.mktemp("wild")
    spec = GPTSpec.from_dial({"depth": 1, "width": 32}, vocab_size=TOKENIZER.vocab_size, context=CONTEXT)
    module = build(spec)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3, generator=generator)
    save(module, spec, folder / "model")
    TOKENIZER.write(folder / "model")
    return folder


@pytest.fixture(scope="module")
def model(folder) -> TextModel:
    """Return it ready to write."""
    return open_text_model(folder, engine="torch", num_threads=1)


@pytest.fixture(scope="module")
def batch(model):
    """Return it ready to write several texts."""
    module = model.decoder._stepper._cached.module
    speaker = Speaker(model.tokenizer, model.start_ids, model.end_ids, CONTEXT)
    slots = Slots(TorchRows(module, cached_heads(module), 3, 1), 3)
    with BatchedText(slots, speaker, max_running=3, max_waiting=100) as batch:
        yield batch


WORDS = st.text('abcé"\\\n☃', max_size=3)
LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, num: {"type": "integer", "minimum": low, "maximum": low + num},
        st.integers(-50, 50), st.integers(0, 99),
    ),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 4)),
    st.just({"type": "string", "pattern": "^[a-c]{1,3}$"}),
    st.lists(st.one_of(WORDS, st.integers(0, 9), st.none()), min_size=1, max_size=3, unique=True).map(
        lambda values: {"enum": values}
    ),
)  # fmt: skip


def _object(named):
    return {
        "type": "object", "properties": dict(named), "required": [name for name, _ in named][:1],
        "additionalProperties": False,
    }  # fmt: skip


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(st.tuples(WORDS, inner), max_size=3, unique_by=lambda one: one[0]).map(_object),
        st.builds(lambda items, most: {"type": "array", "items": items, "maxItems": most}, inner, st.integers(0, 2)),
        st.lists(inner, min_size=1, max_size=2).map(lambda each: {"anyOf": each}),
    ),
    max_leaves=4,
)  # fmt: skip


def written(model, request, prompt="low"):
    """Return the text that a model writes and why it is over."""
    pieces = list(TextGenerator(model).generate([prompt], request))
    return "".join(piece.text for piece in pieces), pieces[-1].finish


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schema=SCHEMAS, seed=st.integers(0, 5), temperature=st.sampled_from([0.0, 0.7, 3.0]))
@example(schema=True, seed=0, temperature=1.0)
def test_a_model_that_knows_nothing_writes_what_its_schema_validates(model, batch, schema, seed, temperature):
    whole = {
        "type": "object",
        "properties": {"it": schema},
        "required": ["it"],
        "additionalProperties": False,
    }
    whole = whole if schema is not True else {"type": "integer", "minimum": 0, "maximum": 9}
    request = Request(
        max_tokens=200,
        seed=seed,
        sampling=Sampling(temperature=temperature),
        constraint=Constraint.json_schema(whole),
    )
    text, finish = written(model, request)
    assert finish == "end"
    jsonschema.validate(json.loads(text), whole)
    assert batch.submit("low", request).text() == text


def test_any_object_is_an_object_and_a_pattern_matches_as_a_whole(model):
    sampling = Sampling(temperature=3.0)
    for seed in range(5):
        text, finish = written(
            model, Request(max_tokens=250, seed=seed, sampling=sampling, constraint=Constraint.json_object())
        )
        assert text.startswith("{")
        if finish == "end":
            assert isinstance(json.loads(text), dict)
        pattern = "(low|high)er[0-9]{1,3}!?"
        text, finish = written(
            model, Request(seed=seed, sampling=sampling, constraint=Constraint.regex(pattern))
        )
        assert finish == "end"
        assert re.fullmatch(pattern, text)


def test_a_text_is_over_as_soon_as_it_is_whole(model):
    pieces = list(TextGenerator(model).generate(["low"], Request(constraint=Constraint.regex("ab"))))
    assert [(piece.text, piece.finish) for piece in pieces] == [("a", None), ("b", "end")]


def test_a_text_that_is_cut_off_says_so(model):
    asked = Constraint.json_schema({"type": "string", "minLength": 50})
    text, finish = written(model, Request(max_tokens=5, constraint=asked))
    assert finish == "length"
    assert text.startswith('"')


@pytest.mark.parametrize("draft", ["lookup", "model"])
def test_drafts_change_no_text_of_a_form(model, folder, draft):
    asked = Constraint.json_schema(
        {"type": "array", "items": {"type": "boolean"}, "minItems": 6, "maxItems": 9}
    )
    request = Request(max_tokens=80, sampling=Sampling(temperature=0), constraint=asked)
    helper = open_text_model(folder, engine="torch") if draft == "model" else "lookup"
    drafted = TextGenerator(model, helper)
    assert "".join(piece.text for piece in drafted.generate(["low"], request)) == written(model, request)[0]
    loose = Request(max_tokens=80, sampling=Sampling(temperature=2.0), constraint=asked)
    for piece in drafted.generate(["low"], loose):
        last = piece
    assert last.finish == "end"


def test_of_the_tokens_that_may_come_each_is_as_probable_as_among_them_alone():
    rng = np.random.default_rng(0)
    logits, allowed = rng.normal(size=(2, 20)) * 2, rng.random((2, 20)) < 0.4
    for sampling in (Sampling(temperature=0.7), Sampling(temperature=1.0, top_k=3, top_p=0.8, min_p=0.05)):
        masked = probabilities(logits, sampling, [[], []], allowed)
        for row in range(2):
            left = np.flatnonzero(allowed[row])
            np.testing.assert_allclose(
                masked[row, left], probabilities(logits[row : row + 1, left], sampling, [[]])[0]
            )
            assert masked[row].sum() == pytest.approx(1)
    greedy = probabilities(logits, Sampling(temperature=0), [[], []], allowed)
    assert [row.argmax() for row in greedy] == [
        max(np.flatnonzero(is_in), key=lambda token: row[token])
        for row, is_in in zip(logits, allowed, strict=True)
    ]


def test_a_guide_allows_what_goes_on_and_numbers_beyond_the_tokenizer_never():
    guide = Guide(Constraint.regex("ab"), TOKENIZER.backend, {END})
    vocab = TOKENIZER.backend.get_vocab()
    allowed = guide.allowed(VOCAB + 40)
    assert allowed.shape == (VOCAB + 40,)
    assert np.flatnonzero(allowed).tolist() == [vocab["a"]]
    guide.add(vocab["a"])
    assert not guide.is_complete
    with pytest.raises(KleiberError, match=r"token \d+ does not fit the form of the text: .*\.$"):
        guide.add(vocab["a"])
    guide = Guide(Constraint.regex("ab?"), TOKENIZER.backend, {END})
    guide.add(vocab["a"])
    assert np.flatnonzero(guide.allowed(VOCAB)).tolist() == sorted([END, vocab["b"]])
    guide.add(END)
    assert guide.is_complete


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ('{"type": ', "the JSON schema is no JSON: Expecting value"),
        ("[1]", r"a JSON schema is an object\. Got \[1\]"),
        ({"type": {1}}, "the JSON schema is no JSON: Object of type set"),
        ({"type": "fruit"}, "the JSON schema cannot be followed: Invalid type: fruit"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "cannot be followed: Unsatisfiable schema"),
        ({"not": {}}, "cannot be followed: Unimplemented keys"),
        ("[" * 100_000, "the JSON schema is nested too deep"),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_followed_is_refused_in_a_sentence(schema, message):
    with pytest.raises(UsageError, match=message):
        Constraint.json_schema(schema)


def test_what_else_cannot_be_given_a_form_is_refused(monkeypatch, folder):
    with pytest.raises(UsageError, match=r"the regular expression cannot be followed: .*unclosed group"):
        Constraint.regex("(")
    words = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "a": 1}))
    with pytest.raises(UsageError, match="its tokenizer is of a kind that llguidance does not read"):
        Guide(Constraint.regex("a"), words, {0})
    pytest.importorskip("openvino_genai")
    spec = GPTSpec.from_dial({"depth": 1, "width": 16}, vocab_size=TOKENIZER.vocab_size, context=48)
    pages = Pages(build(spec).eval(), {}, AS_COMPUTED, max_running=1, num_threads=1)
    with (
        BatchedText(pages, Speaker(TOKENIZER, (), frozenset({END}), 48), max_running=1) as batch,
        pytest.raises(UsageError, match="openvino gives text no form when it writes for many"),
    ):
        batch.submit("low", Request(constraint=Constraint.regex("a")))
    monkeypatch.setattr("kleiber.infer.generation.constraint.importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="Text of a given form needs the package 'llguidance'"):
        Constraint.json_object()
