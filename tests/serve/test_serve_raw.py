"""Requests that no client of OpenAI's makes."""

from __future__ import annotations

import json
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_texts import serving

from kleiber.serve import ServeSettings

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("raw")) as found:
        yield found


def told(answer, status):
    """Return the error of an answer, which has all that OpenAI's API says of one."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is missing."),
        (b"{", "the body is not valid JSON: Expecting property name"),
        (b'{"prompt": "a"} x', "the body is not valid JSON: Extra data"),
        (b"\xff\xfe", "the body is not valid JSON: it is not UTF-8 text."),
        (b'{"prompt": "\\ud800"}', "the body is not valid JSON: it is not UTF-8 text."),
        (b'{"prompt": "a", "temperature": NaN}', "the body is not valid JSON: NaN is no number in JSON."),
        (b"[" * 100_000, "the body is not valid JSON: it is nested too deep."),
        (b'{"prompt": "a", "seed": 1' + b"0" * 5000 + b"}", "the body is not valid JSON: Exceeds the limit"),
        (b'{"prompt": "a", "temperature": 1e999}', "temperature: input should be less than or equal to 2. Got inf."),
        (b"5", "the body: input should be a valid dictionary"),
        (b"{}", "'prompt' is missing."),
        (b'{"prompt": {}}', "prompt: input should be a valid string. Got {}."),
        (b'{"prompt": [1, "a"]}', "prompt.1: input should be a valid integer. Got 'a'."),
        (b'{"prompt": "a", "n": true}', "n: input should be a valid integer. Got True."),
        (b'{"prompt": "a", "model": 5}', "model: input should be a valid string. Got 5."),
        (b'{"prompt": "' + b"a" * 500_000 + b'"}', "the prompt is 500000 tokens long"),
    ],
    ids=lambda value: None if isinstance(value, str) else repr(value[:24]),
)  # fmt: skip
def test_a_body_that_is_none_is_refused_in_a_sentence(server, body, sentence):
    assert told(server.raw.post("/v1/completions", content=body, headers=JSON), 400)["message"].startswith(
        sentence
    )


def test_a_body_of_another_type_is_refused(server):
    message = told(server.raw.post("/v1/completions", content=b'{"prompt": "a"}'), 400)["message"]
    assert message == "the body must be JSON. Try: Content-Type: application/json"


def test_what_is_not_there(server):
    assert told(server.raw.get("/v1/nothing"), 404)["message"] == "GET /v1/nothing: not found."
    assert (
        told(server.raw.get("/v1/completions"), 405)["message"] == "GET /v1/completions: method not allowed."
    )
    found = told(server.raw.post("/v1/completions", json={"model": "x", "prompt": "a"}), 404)
    assert (found["param"], found["code"]) == ("model", "model_not_found")


def test_a_model_need_not_be_named_where_there_is_one(server):
    assert server.raw.post("/v1/completions", json={"prompt": "a"}).json()["model"] == "alphabet"


def test_health_and_the_description_are_open(server):
    assert server.raw.get("/health").json() == {"status": "ok", "models": {"alphabet": "text"}}
    described = server.raw.get("/openapi.json").json()
    answers = described["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert set(answers) == {"200", "4XX", "5XX"}
    assert described["components"]["schemas"]["CompletionBody"]["properties"]["top_k"][
        "description"
    ].startswith("Beyond")


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:99", "[::1]:8000"])
def test_a_server_on_loopback_answers_to_its_own_names(server, host):
    assert server.raw.get("/health", headers={"Host": host}).status_code == 200


def test_a_page_that_gives_its_name_this_address_is_not_answered(server, tmp_path):
    error = told(server.raw.get("/v1/models", headers={"Host": "evil.example:8000"}), 403)
    assert error["code"] == "host_not_allowed"
    assert "--allowed-host evil.example" in error["message"]
    with serving(tmp_path, ServeSettings(allowed_hosts=("llm.example",))) as other:
        assert other.raw.get("/health", headers={"Host": "llm.example"}).status_code == 200


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    limits = ServeSettings(max_running=4, max_body_bytes=2000, max_held_bytes=3000, body_timeout_s=0.3)
    with serving(tmp_path_factory.mktemp("small"), limits) as found:
        yield found


def connect(server):
    host, port = server.address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def received(sent):
    """Return an answer that is an error, whole."""
    answer = b""
    while not answer.endswith(b"}}"):
        answer += sent.recv(1000)
    return answer


def test_a_body_at_the_limit_is_read_and_above_refused(small):
    body = json.dumps({"prompt": "a", "max_tokens": 1}).encode()
    assert small.raw.post("/v1/completions", content=body.ljust(2000), headers=JSON).status_code == 200
    error = told(small.raw.post("/v1/completions", content=body.ljust(2001), headers=JSON), 413)
    assert (error["message"], error["code"]) == ("the body is larger than 2,000 bytes.", "body_too_large")


def test_a_body_is_counted_as_it_comes_where_no_length_is_announced(small):
    pieces = (b"x" * 500 for _ in range(8))
    assert told(small.raw.post("/v1/completions", content=pieces, headers=JSON), 413)


def test_a_length_that_is_announced_is_refused_before_anything_comes(small):
    with connect(small) as sent:
        sent.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000000\r\n\r\n")
        assert sent.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_does_not_come_is_not_waited_for(small):
    with connect(small) as sent:
        sent.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        answer = received(sent)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the body did not arrive within 0.3 s." in answer


def test_bodies_are_held_up_to_a_limit_and_forgotten_after(small):
    with connect(small) as first, connect(small) as second:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1900\r\n\r\n"
        first.sendall(head + b"x" * 1800)
        time.sleep(0.05)
        second.sendall(head + b"x" * 1800)
        answer = received(second)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1" in answer.lower()
        assert first.recv(1000).startswith(b"HTTP/1.1 408 ")
    for _ in range(5):
        assert small.raw.post("/v1/completions", content=b"x" * 1900, headers=JSON).status_code == 400


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = (
    "prompt", "messages", "n", "max_tokens", "temperature", "top_p", "seed", "stop", "stream", "stream_options", "logprobs",
    "top_logprobs", "response_format", "guided_json", "guided_regex", "echo", "tools", "model", "logit_bias", "top_k",
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/v1/completions", "/v1/chat/completions"]),
    asked=st.dictionaries(st.sampled_from(_FIELDS), _VALUES, max_size=3),
)
def test_no_body_makes_the_server_fail(server, path, asked):
    base = {"prompt": "a", "max_tokens": 2} if path == "/v1/completions" else {
        "messages": [{"role": "user", "content": "a"}], "max_tokens": 2
    }  # fmt: skip
    answer = server.raw.post(path, content=json.dumps(base | asked).encode(), headers=JSON)
    assert answer.status_code in (200, 400, 404), answer.text
    if answer.status_code != 200:
        told(answer, answer.status_code)
