"""`kleiber serve` says where it is, and stops when it is asked to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from kleiber.cli.main import main
from kleiber.cli.serve import _keys
from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.models import save
from kleiber.models.gpt.module import build
from kleiber.models.gpt.spec import GPTSpec


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve") / "small"
    backend = train_tokenizer(["low lower lowest " * 9], 262, source="text:x")
    spec = GPTSpec.from_dial({"depth": 1, "width": 16}, vocab_size=262, context=4000)
    save(build(spec), spec, folder / "model")
    TextTokenizer(backend).write(folder / "model")
    return folder


def test_a_server_says_where_it_is_and_finishes_a_stream_when_it_is_stopped(run):
    command = [
        sys.executable,
        "-m",
        "kleiber",
        "serve",
        str(run),
        "--port",
        "0",
        "--engine",
        "torch",
        "--json",
    ]
    environment = os.environ | {"KLEIBER_API_KEYS": "one,two"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            told = json.loads(server.stdout.readline())
            assert told["pid"] == server.pid
            assert told["models"] == [
                {"name": "small", "kind": "text", "engine": "torch", "precision": "fp32"}
            ]
            body = {"prompt": "low", "max_tokens": 100, "stream": True, "guided_regex": "[a-z ]{1000}"}
            headers = {"Authorization": "Bearer two"}
            with httpx.stream(
                "POST", f"{told['address']}/v1/completions", json=body, headers=headers, timeout=30
            ) as answer:
                lines = (line for line in answer.iter_lines() if line)
                first = json.loads(next(lines).removeprefix("data: "))
                assert first["choices"][0]["finish_reason"] is None
                server.send_signal(signal.SIGTERM)
                *_, last, done = lines
            assert json.loads(last.removeprefix("data: "))["choices"][0]["finish_reason"] in (
                "length",
                "stop",
            )
            assert done == "data: [DONE]"
            said = server.communicate(timeout=30)[1]
            assert server.returncode == 0
        finally:
            server.kill()
    assert f"Serving at {told['address']}" in said
    assert f"try: curl {told['address']}/v1/completions -H 'Authorization: Bearer KEY'" in said
    assert said.endswith("stopped.\n")
    assert "Traceback" not in said


def test_a_port_that_is_taken_is_refused_before_a_model_is_opened(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", str(tmp_path / "no-model"), "--port", port]) == 2
    assert capsys.readouterr().err == (
        f"error: --port {port} of 127.0.0.1 is taken: another server listens there.\n  try: --port 0   takes a free one\n"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--host", "203.0.113.1"], "--host 203.0.113.1 is no address of this machine."),
        (["--host", "a" * 300], "is no address: it is no name of a machine."),
        (["--port", "70000"], "--port must be a whole number from 0 to 65535. Got '70000'."),
        (["--max-running", "0"], "--max-running must be a whole number from 1 to 1024. Got '0'."),
        (["--timeout", "-1"], "--timeout must be a positive number. Got '-1'."),
        (["--drain", "x"], "--drain must be a whole number from 0 to 86400. Got 'x'."),
        (["--context", "0"], "--context must be a whole number from 1"),
        (["--port", "0", "--engine", "tensorrt"], "unknown engine 'tensorrt' for many requests at once."),
        (["--port", "0", "--precision", "int3"], "unknown precision 'int3'."),
        (
            ["--port", "0", "--context", "5000"],
            "a text of this model has 1 to 4000 tokens with its prompt. Got 5000.",
        ),
        (
            ["--api-key-file", "nothing.txt"],
            "--api-key-file nothing.txt cannot be read: No such file or directory.",
        ),
    ],
)
def test_what_cannot_be_served_so_is_said_in_a_sentence(run, words, sentence, capsys):
    assert main(["serve", str(run), *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_folder_without_a_model_is_refused(tmp_path, capsys):
    assert main(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "is neither a run nor a folder with a config.json." in capsys.readouterr().err


def test_keys_are_read_of_a_file_or_the_environment(tmp_path, monkeypatch):
    assert _keys(None) == ()
    monkeypatch.setenv("KLEIBER_API_KEYS", " one, two,")
    assert _keys(None) == ("one", "two")
    file = tmp_path / "keys.txt"
    file.write_text("three\n\n four \n")
    assert _keys(file) == ("three", "four")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "holds no key."), ("\n \n", "holds no key."), ("a\nb c\n", "key 2 of"), ("schlüssel", "key 1 of")],
)
def test_keys_that_are_none_are_refused_and_not_shown(run, tmp_path, text, sentence, capsys):
    file = tmp_path / "keys.txt"
    file.write_text(text, encoding="utf-8")
    assert main(["serve", str(run), "--api-key-file", str(file)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "b c" not in said
    assert "schlüssel" not in said


@pytest.mark.parametrize(
    ("keys", "note"), [((), "EVERYBODY who reaches it may use it"), (("one",), "keys travel unencrypted")]
)
def test_an_address_that_others_reach_is_warned_of(capsys, keys, note):
    from kleiber.cli.output import Output  # noqa: PLC0415 - as the command imports it
    from kleiber.cli.serve import _greet  # noqa: PLC0415
    from kleiber.serve import Opened, ServeSettings  # noqa: PLC0415

    model = Opened("small", None, "classifier", "torch", "fp32")
    everywhere = ServeSettings(host="192.0.2.1", api_keys=keys)
    _greet(Output(False), "http://192.0.2.1:1", {"small": model}, everywhere)
    told = capsys.readouterr()
    assert note in told.err
    assert "small: a classifier model, in torch at fp32." in told.out
    _greet(Output(False), "http://127.0.0.1:1", {"small": model}, ServeSettings(api_keys=keys))
    assert capsys.readouterr().err == ""


def test_a_missing_package_is_said_to_be_of_an_extra(run, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("kleiber.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve", str(run), "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert "kleiber serve needs the package 'fastapi', which is not installed." in said
    assert "pip install 'kleiber[serve]'" in said
