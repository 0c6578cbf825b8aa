"""Models in folders become what is served, and a real one writes what it is asked for."""

from __future__ import annotations

import json
import re

import openai
import pytest
from running_server import running
from small_models import digits_run

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.errors import DataError, RunFolderError, UsageError
from kleiber.models import save
from kleiber.models.gpt.module import build
from kleiber.models.gpt.spec import GPTSpec
from kleiber.runs import Recipe
from kleiber.serve import ServeSettings, open_served
from kleiber.serve.opened import kind_of

LIMITS = ServeSettings(engine="torch", max_running=2, max_waiting=6, num_threads=1)
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["low", "lower"]}, "is_new": {"type": "boolean"}},
    "required": ["kind", "is_new"],
    "additionalProperties": False,
}


def text_folder(folder):
    """Write a small language model with its tokenizer."""
    backend = train_tokenizer(["low lower lowest " * 9], 262, source="text:x")
    spec = GPTSpec.from_dial({"depth": 1, "width": 16}, vocab_size=262, context=96)
    save(build(spec), spec, folder / "model")
    TextTokenizer(backend).write(folder / "model")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return text_folder(tmp_path_factory.mktemp("served") / "small")


@pytest.fixture(scope="module")
def client(folder):
    models = open_served([folder], LIMITS)
    with (
        running(models, LIMITS) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as found,
    ):
        yield found


def test_the_same_seed_writes_the_same_texts_and_another_does_not(client):
    def texts(seed):
        found = client.completions.create(model="small", prompt="low", n=2, seed=seed, max_tokens=12)
        return [choice.text for choice in found.choices]

    assert texts(1) == texts(1)
    assert texts(1)[0] != texts(1)[1]
    assert texts(1) != texts(2)
    assert texts(-1) == texts(-1)


def test_the_likeliest_tokens_are_told_and_the_first_is_taken_at_temperature_0(client):
    told = (
        client.completions.create(model="small", prompt="low", logprobs=3, max_tokens=4, temperature=0)
        .choices[0]
        .logprobs
    )
    for token, logprob, likeliest in zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True):
        assert likeliest[token] == logprob == max(likeliest.values())
        assert len(likeliest) == 3


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
def test_an_answer_has_the_form_that_was_asked_for(client, kind, stream):
    shape = {"type": kind}
    if kind == "json_schema":
        shape["json_schema"] = {"name": "word", "schema": SCHEMA, "strict": True}
    asked = {
        "model": "small",
        "messages": [{"role": "user", "content": "low?"}],
        "response_format": shape,
        "seed": 3,
    }
    if stream:
        chunks = list(client.chat.completions.create(**asked, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        (choice,) = client.chat.completions.create(**asked).choices
        text, reason = choice.message.content, choice.finish_reason
    if kind == "json_object":  # of a model that knows nothing it may take the whole context
        assert text.startswith("{")
        return
    found = json.loads(text)
    assert (set(found), reason) == ({"kind", "is_new"}, "stop")
    assert found["kind"] in ("low", "lower")
    assert isinstance(found["is_new"], bool)


def test_a_completion_matches_an_expression(client):
    found = client.completions.create(
        model="small", prompt="low", max_tokens=20, extra_body={"guided_regex": "[0-9]{3}(ab)?"}
    )
    assert re.fullmatch("[0-9]{3}(ab)?", found.choices[0].text)
    assert found.choices[0].finish_reason == "stop"


def test_a_form_that_cannot_be_followed_names_the_field(client):
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "wrong"}}}
    with pytest.raises(openai.BadRequestError, match="the JSON schema cannot be followed") as caught:
        client.chat.completions.create(
            model="small", messages=[{"role": "user", "content": "a"}], response_format=shape
        )
    assert caught.value.param == "response_format"


def test_models_of_several_kinds_by_their_names(folder, tmp_path, make_record):
    digits = digits_run(tmp_path, make_record)
    models = open_served([folder, digits], LIMITS)
    try:
        assert {name: one.kind for name, one in models.items()} == {"small": "text", "digits": "classifier"}
        assert models["small"].text.context == 96
        with (
            running(models, LIMITS) as address,
            openai.OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0) as client,
        ):
            assert [one.id for one in client.models.list()] == ["small", "digits"]
            with pytest.raises(
                openai.BadRequestError,
                match="the model 'digits' classifies; this asks for one that writes text",
            ):
                client.completions.create(model="digits", prompt="a")
    finally:
        for one in models.values():
            one.close()


def test_a_model_may_be_kept_short(folder):
    models = open_served([folder], LIMITS.model_copy(update={"context": 20}))
    assert models["small"].text.context == 20
    models["small"].close()


def test_two_of_one_name_are_refused(folder):
    with pytest.raises(UsageError, match="two models are named 'small'"):
        open_served([folder, folder], LIMITS)


def test_a_run_for_another_task_is_refused(tmp_path, folder, make_record):
    recipe = Recipe().with_values(["task.name=regression", "model.family=mlp", "data.source=digits"])
    run = text_folder(tmp_path / "other")
    make_record(recipe=recipe).write(run / "record.json")
    with pytest.raises(
        UsageError, match="was trained for the task regression; served are models that write text"
    ):
        kind_of(run)


@pytest.mark.parametrize(
    ("file", "error"),
    [("config.json", RunFolderError), ("model.safetensors", RunFolderError), ("tokenizer.json", DataError)],
)
def test_a_folder_with_a_missing_file_is_refused_and_what_was_open_is_closed(
    tmp_path, folder, monkeypatch, file, error
):
    broken = text_folder(tmp_path / "broken")
    (broken / "model" / file).unlink()
    closed = []
    monkeypatch.setattr(
        "kleiber.serve.opened.Opened.close", lambda self: (closed.append(self.name), self.text.close())
    )
    with pytest.raises(error, match=str(broken)):
        open_served([folder, broken], LIMITS)
    assert closed == ([] if file == "config.json" else ["small"])
