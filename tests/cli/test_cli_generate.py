"""`generate`, on models of a moment."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.models import build, save
from kleiber.models.gpt import GPTSpec
from kleiber.models.seq2seq import Seq2SeqSpec
from kleiber.runs import DataShape

VOCAB, CONTEXT = 262, 48
TEXT = "banana bandana "
TOKENIZER = TextTokenizer(train_tokenizer([TEXT * 20], VOCAB, source="text:test"))


def write_model(folder: Path, spec, seed: int = 0) -> Path:
    module = build(spec)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    save(module, spec, folder)
    TOKENIZER.write(folder, context=CONTEXT)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a model, one with other tokens, and one that translates."""
    folder = tmp_path_factory.mktemp("generate")
    write_model(folder / "model", gpt(2))
    shape = DataShape(inputs="pairs", vocab_size=VOCAB, context=12)
    write_model(folder / "translation", Seq2SeqSpec.of_size({"depth": 1, "width": 16}, shape))
    write_model(folder / "other", gpt(1))
    TextTokenizer(train_tokenizer(["quite another " * 9], VOCAB, source="text:test")).write(folder / "other")
    (folder / "prompt.txt").write_text("bana")
    (folder / "latin.txt").write_bytes(b"\xe9")
    (folder / "lines.txt").write_text("a\nban\n")
    schema = {"type": "object", "properties": {"ripe": {"type": "boolean"}}, "required": ["ripe"]}
    (folder / "schema.json").write_text(json.dumps(schema | {"additionalProperties": False}))
    (folder / "torn.json").write_text('{"type": ')
    (folder / "unknown.json").write_text('{"type": "fruit"}')
    return folder


def gpt(depth: int) -> GPTSpec:
    return GPTSpec.from_dial({"depth": depth, "width": 32}, vocab_size=VOCAB, context=CONTEXT)


@pytest.fixture
def at(cli, place, monkeypatch):
    monkeypatch.chdir(place)
    return lambda *arguments: cli("generate", *arguments)


MODEL = ("model", "--engine", "torch", "--max-tokens", "8")


def test_it_continues_the_prompt(at):
    arguments = [*MODEL, "--prompt", "bana", "--seed", "3"]
    shown, document = at(*arguments).stdout, at(*arguments, "--json").document
    assert set(document) == {"run", "engine", "precision", "texts", "num_tokens", "tokens_per_s"}
    assert (document["run"], document["engine"], document["precision"]) == ("model", "torch", "fp32")
    (text,) = document["texts"]
    assert set(text) == {"prompt", "text", "num_tokens", "finish"}
    printed = "".join(char for char in text["text"] if char.isprintable() or char in "\n\t")
    assert shown == f"bana{printed}\n"
    assert document["num_tokens"] == text["num_tokens"] <= 8
    assert document["tokens_per_s"] > 0
    assert at(*arguments[:-1], "4", "--json").document["texts"] != document["texts"]


def test_the_precision_is_asked(at):
    document = at(*MODEL, "--prompt", "bana", "--precision", "fp32", "--json").document
    assert document["precision"] == "fp32"
    rounded = at(
        *MODEL, "--prompt", "bana", "--temperature", "0", "--logprobs", "0", "--precision", "int4", "--json"
    )
    whole = at(*MODEL, "--prompt", "bana", "--temperature", "0", "--logprobs", "0", "--json")
    first = [ran.document["texts"][0]["tokens"][0]["logprob"] for ran in (rounded, whole)]
    assert first[0] != first[1]


def test_prompts_come_from_files_and_stdin(at, monkeypatch):
    typed = at(*MODEL, "--prompt", "bana", "--json").document["texts"]
    assert at(*MODEL, "--prompt-file", "prompt.txt", "--json").document["texts"] == typed
    monkeypatch.setattr("sys.stdin", io.StringIO("bana"))
    assert at(*MODEL, "--prompt-file", "-", "--json").document["texts"] == typed


def test_several_texts_are_printed_one_after_the_other(at):
    arguments = [*MODEL, "--prompt", "bana", "--prompt", "dan", "--num-samples", "2"]
    texts = at(*arguments, "--json").document["texts"]
    assert [text["prompt"] for text in texts] == ["bana", "bana", "dan", "dan"]
    assert len({text["text"] for text in texts}) == 4
    shown = at(*arguments).stdout
    places = [shown.index(f"--- {number} of 4\n{texts[number - 1]['prompt']}") for number in (1, 2, 3, 4)]
    assert places == sorted(places)


def test_logprobs_are_told(at):
    arguments = [*MODEL, "--prompt", "bana", "--logprobs", "2"]
    (text,) = at(*arguments, "--json").document["texts"]
    for token in text["tokens"]:
        assert token["logprob"] <= token["likeliest"][0]["logprob"] < 0
        assert TOKENIZER.backend.decode([token["token"]], skip_special_tokens=False) == token["text"]
        assert len(token["likeliest"]) == 2
    assert len(text["tokens"]) == text["num_tokens"]
    shown = at(*arguments).stdout
    assert "log-probability" in shown
    assert f"{text['tokens'][0]['logprob']:.3f}" in shown


def test_a_stop_string_ends_the_text(at):
    whole = at(*MODEL, "--prompt", "bana", "--json").document["texts"][0]["text"]
    stop = whole[3:5]
    (text,) = at(*MODEL, "--prompt", "bana", "--stop", "nowhere", "--stop", stop, "--json").document["texts"]
    assert (text["text"], text["finish"]) == (whole[: whole.index(stop)], "stop")


@pytest.mark.parametrize("draft", ["lookup", "model"])
def test_a_draft_changes_no_greedy_text(at, monkeypatch, draft):
    # A draft as slow as the model would never be tried.
    monkeypatch.setattr("kleiber.infer.generation.speculation.draft_model._times_s", lambda _: (0.0, 0.0))
    arguments = [*MODEL[:3], "--prompt", "banabana", "--temperature", "0", "--max-tokens", "60", "--json"]
    alone, drafted = at(*arguments).document, at(*arguments, "--draft", draft).document
    assert drafted["texts"] == alone["texts"]
    speculation = drafted["speculation"]
    assert set(speculation) == {"num_rounds", "num_rounds_drafted", "num_drafted", "num_kept"}
    assert speculation["num_drafted"] >= speculation["num_kept"] > 0


def test_how_tokens_are_drawn_is_asked(at):
    def text(*options):
        return at(*MODEL, "--prompt", "bana", "--json", *options).document["texts"][0]["text"]

    greedy = text("--temperature", "0")
    assert text("--top-p", "1e-6") == text("--top-k", "1") == text("--min-p", "1") == greedy
    assert text("--temperature", "5", "--seed", "3") != greedy
    assert text("--temperature", "0", "--repetition-penalty", "50") != greedy


def test_text_takes_the_form_of_a_schema(at):
    pytest.importorskip("llguidance")
    asked = ("--prompt", "ban", "--json-schema", "schema.json", "--num-samples", "3")
    document = at(*MODEL, "--max-tokens", "40", *asked, "--json").document
    for text in document["texts"]:
        assert text["finish"] == "end"
        assert set(json.loads(text["text"])) == {"ripe"}
    cut = at(*MODEL, "--max-tokens", "2", *asked)
    assert "3 of 3 texts ended before the form was whole; --max-tokens gives them more." in cut.stderr


def test_it_translates(at):
    arguments = ["translation", "--prompt", "ban", "--prompt", "a"]
    ran = at(*arguments, "--beams", "3")
    document = at(*arguments, "--beams", "3", "--json").document
    assert (document["run"], document["beams"]) == ("translation", 3)
    assert [text["prompt"] for text in document["texts"]] == ["ban", "a"]
    assert len(ran.stdout.splitlines()) == 2
    assert at("translation", "--prompt", "ban", "--json").document["beams"] == 1
    lines = at("translation", "--prompt-file", "lines.txt", "--json").document["texts"]
    assert [text["prompt"] for text in lines] == ["a", "ban"]


ONE = "error: a prompt is typed with --prompt, or read with --prompt-file; one of both."


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["model"], ONE),
        (["model", "--prompt", "a", "--prompt-file", "prompt.txt"], ONE),
        (["model", "--prompt-file", "none.txt"], "error: --prompt-file none.txt cannot be read: No such file"),
        (["model", "--prompt-file", "latin.txt"], "error: --prompt-file latin.txt cannot be read: it is not UTF-8"),
        (["model", "--prompt", ""], "error: the prompt is empty: "),
        (["model", "--prompt", "q" * 49], "error: the prompt is 49 tokens long; the model reads at most 48."),
        (["model", "--prompt", "a", "--max-tokens", "0"], "error: --max-tokens must be a whole number from 1 to 1000000. Got '0'."),
        (["model", "--prompt", "a", "--temperature", "-1"], "error: --temperature must be from 0 to 100. Got '-1'."),
        (["model", "--prompt", "a", "--top-k", "x"], "error: --top-k must be a whole number from 0 to "),
        (["model", "--prompt", "a", "--top-p", "1.1"], "error: --top-p must be from 0 to 1. Got '1.1'."),
        (["model", "--prompt", "a", "--top-p", "0"], "error: top_p must be above 0 and at most 1. Got 0.0."),
        (["model", "--prompt", "a", "--min-p", "2"], "error: --min-p must be from 0 to 1. Got '2'."),
        (["model", "--prompt", "a", "--repetition-penalty", "0"], "error: repetition_penalty must be above 0; 1 is none. Got 0"),
        (["model", "--prompt", "a", "--num-samples", "0"], "error: --num-samples must be a whole number from 1 to "),
        (["model", "--prompt", "a", "--logprobs", "-1"], "error: --logprobs must be a whole number from 0 to "),
        (["model", "--prompt", "a", "--seed", "-1"], "error: --seed must be a whole number from 0 to "),
        (["model", "--prompt", "a", "--stop", ""], "error: a stop string must have a character."),
        (["model", "--prompt", "a", "--beams", "2"], "error: --beams is of models that write a text from a text, and model goes on from one."),
        (["model", "--prompt", "a", "--draft", "other"], "error: other cannot draft for model: their tokenizers are not the same."),
        (["model", "--prompt", "a", "--prompt", "b", "--draft", "lookup"], "error: a draft helps one text at a time. Got '2 texts'."),
        (["model", "--prompt", "a", "--engine", "tensorrt"], "error: unknown engine 'tensorrt'."),
        (["model", "--prompt", "a", "--precision", "int3"], "error: unknown precision 'int3'."),
        (["model", "--prompt", "a", "--json-schema", "none.json"], "error: --json-schema none.json cannot be read: No such file"),
        (["model", "--prompt", "a", "--json-schema", "torn.json"], "error: the JSON schema is no JSON: Expecting value"),
        (["model", "--prompt", "a", "--json-schema", "unknown.json"], "error: the JSON schema cannot be followed: Invalid type: fruit."),
        (["translation", "--prompt", "a", "--top-k", "5"], "error: --top-k has no effect on a model that writes a text from a text"),
        (["translation", "--prompt", "a", "--draft", "lookup"], "error: --draft has no effect on a model that writes"),
        (["translation", "--prompt", "a", "--stop", "x"], "error: --stop has no effect on a model that writes"),
        (["translation", "--prompt", "a", "--beams", "0"], "error: --beams must be a whole number from 1 to 1000. Got '0'."),
        (["translation", "--prompt", "q" * 13], "error: the prompt is 13 tokens long; the model reads at most 12."),
        (["nothing", "--prompt", "a"], "error: nothing is neither a run nor a folder with a config.json."),
    ],
)  # fmt: skip
def test_it_refuses(at, arguments, text):
    engine = [] if {"translation", "--engine"} & set(arguments) else ["--engine", "torch"]
    ran = at(*arguments, *engine)
    assert (ran.code, ran.stdout, ran.stderr[: len(text)]) == (2, "", text)
