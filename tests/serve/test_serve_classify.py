"""`/v1/classify` answers as the classifier does, and whatever else it is given is refused in a sentence."""

from __future__ import annotations

import base64
import io
import json
import struct
import sys
import zlib

import httpx
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from running_server import running
from small_models import RATE, digits_run, images_run, opened_classifier, rows_run, sounds_run, texts_run

from kleiber.infer.classification.reading import inputs_in
from kleiber.serve import ServeSettings

SETTINGS = ServeSettings(max_inputs=40, max_text_chars=1000, max_image_pixels=10_000, max_sound_s=60)
MAKERS = {
    "reviews": texts_run,
    "people": rows_run,
    "digits": digits_run,
    "pets": images_run,
    "noises": sounds_run,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory, cache, make_record):
    root = tmp_path_factory.mktemp("classifiers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLEIBER_CACHE", str(cache))
        return {name: opened_classifier(make(root, make_record)) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def client(models):
    with running(models, SETTINGS) as address, httpx.Client(base_url=address, timeout=30) as opened:
        yield opened


def asked(client, model, value, **more):
    return client.post("/v1/classify", json={"model": model, "input": value, **more})


def sent(client, *files, **fields):
    parts = [("file", (name, content)) for name, content in files]
    return client.post("/v1/classify", files=parts, data=fields)


def probs(answer):
    """Return what an answer says, a dictionary an input."""
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert [one["index"] for one in document["data"]] == list(range(len(document["data"])))
    return [{one["class"]: one["prob_frac"] for one in found["top"]} for found in document["data"]]


def refused(answer, sentence, status=400, param="input"):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert sentence in error["message"], error["message"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def png(side=16, seed=0):
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def sound(num_samples=RATE // 2, rate=RATE, form="WAV"):
    out = io.BytesIO()
    soundfile.write(out, np.zeros(num_samples, np.int16) + 9, rate, format=form)
    return out.getvalue()


WAVE = sound()


def data_url(content, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def expected(model, path):
    """Return what the classifier says of a file, as the command line reads it."""
    (answer,) = model.classifier.answers(
        [sample.array for sample in inputs_in(model.classifier.reader, [path])]
    )
    return dict(answer.top(len(answer.classes)))


@pytest.mark.parametrize(("name", "file"), [("pets", "a.png"), ("noises", "a.wav"), ("reviews", "a.txt")])
def test_files_and_json_are_answered_as_the_command_line_does(client, models, tmp_path, name, file):
    content = {"a.png": png(), "a.wav": sound(), "a.txt": b"a lovely film"}[file]
    (tmp_path / file).write_bytes(content)
    wanted = expected(models[name], tmp_path / file)
    value = content.decode() if file == "a.txt" else data_url(content)
    for answer in (
        sent(client, (file, content), model=name),
        asked(client, name, value),
        asked(client, name, [value]),
    ):
        assert probs(answer) == [pytest.approx(wanted, abs=1e-6)]
    assert sum(wanted.values()) == pytest.approx(1)


def test_rows_and_arrays(client, models, tmp_path):
    (tmp_path / "one.csv").write_text("age,sex\n7,f\n")
    wanted = expected(models["people"], tmp_path / "one.csv")
    assert probs(asked(client, "people", {"age": 7, "sex": "f"})) == [pytest.approx(wanted, abs=1e-6)]
    several = probs(
        asked(client, "people", [{"age": None, "sex": "new"}, {"age": 7, "sex": "f", "kind": "a"}])
    )
    assert several[1] == pytest.approx(wanted, abs=1e-6)
    assert several[0] != pytest.approx(wanted, abs=1e-6)

    digit = np.random.default_rng(0).integers(0, 16, (1, 8, 8)).tolist()
    np.save(tmp_path / "digit.npy", np.array(digit, np.float32))
    wanted = expected(models["digits"], tmp_path / "digit.npy")
    assert probs(asked(client, "digits", digit)) == [pytest.approx(wanted, abs=1e-6)]
    assert len(probs(asked(client, "digits", [digit] * 3))) == 3
    assert len(probs(asked(client, "pets", np.zeros((2, 3, 8, 8)).tolist()))) == 2


def test_many_inputs_keep_their_order_and_top_k_cuts(client):
    texts = ["good film", "dull plot", "bad"] * 13
    whole = probs(asked(client, "reviews", texts))
    assert whole == [pytest.approx(one, abs=1e-5) for one in (whole[0], whole[1], whole[2])] * 13
    assert whole[0] != pytest.approx(whole[1], abs=1e-3)
    first = asked(client, "reviews", texts, top_k=1).json()["data"][0]
    assert first["top"] == [{"class": first["predicted"], "prob_frac": first["confidence_frac"]}]
    assert len(probs(sent(client, ("a.png", png()), ("b.png", png(seed=1)), model="pets", top_k="1"))) == 2


def test_what_each_classifier_reads(client):
    found = {one["id"]: one for one in client.get("/v1/classifiers").json()["data"]}
    kinds = {name: one["reads"] for name, one in found.items()}
    assert kinds == {
        "reviews": "text",
        "people": "row",
        "digits": "numbers",
        "pets": "image",
        "noises": "sound",
    }
    assert found["people"]["columns"] == {"age": "number", "sex": ["f", "m"]}
    assert found["pets"]["classes"] == ["cat", "dog"]


def huge_png(width, height):
    """Return a small file whose header promises many pixels, and whose data would fill them."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("pets", huge_png(20_000, 4_000), "'x': it is 20,000 x 4,000 pixels, and at most 10,000 pixels are read."),
        ("pets", huge_png(60_000, 60_000), "could be decompression bomb"),
        ("pets", png()[:-40], "the file 'x': "),
        ("pets", b"", "the file 'x': it is not an image that Pillow knows."),
        ("pets", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is not an image that Pillow knows"),
        ("noises", sound(3600 * RATE, form="FLAC"), "the file 'x' lasts 3,600 s, and at most 60 s are read."),
        ("noises", sound(rate=44_100), "must have 8,000 samples a second, as the run's sounds had. Got 44100."),
        ("noises", sound(0), "the file 'x' is empty: there is no sound to classify."),
        ("noises", b"RIFF\0\0\0\0WAVEjunk", "the file 'x' cannot be decoded"),
        ("noises", png(), "the file 'x' cannot be decoded"),
        ("reviews", b"\xff\xfe", "the file 'x' is not text in UTF-8."),
        ("reviews", b"  ", "the file 'x' is empty: there is no text to classify."),
        ("reviews", b"good " * 201, "the file 'x' is 1,005 characters long; at most 1,000 are read."),
        ("people", b"age,sex\n1,f", "this classifier reads an object, such as"),
        ("digits", b"\x93NUMPY", "this classifier reads an array of numbers"),
    ],
)  # fmt: skip
def test_bad_files(client, name, content, sentence):
    refused(sent(client, ("x", content), model=name), sentence)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("reviews", "", "the input is empty: there is no text to classify."),
        ("reviews", 5, "the input must be a text. Got 'int'."),
        ("reviews", ["good", None], "input 2 must be a text. Got 'NoneType'."),
        ("reviews", [], "there is no input."),
        ("reviews", ["good"] * 41, "a request has at most 40 inputs."),
        ("pets", "cat.png", "the input must be an image in base64, such as"),
        ("pets", "http://localhost/cat.png", "nothing is fetched. Got 'http://localhost/cat.png'"),
        ("pets", "data:image/png;base64,%%%", "the input is not valid base64."),
        ("pets", {"a": 1}, "the input must be an image in base64"),
        ("pets", data_url(huge_png(200, 60)), "the input: it is 200 x 60 pixels"),
        ("people", {"age": 7}, "the input must have the column 'sex', which the run learnt from."),
        ("people", {"age": "old", "sex": "f"}, "column 'age' must hold numbers, and it does not at row 1 of the input."),
        ("people", {"age": [1], "sex": "f"}, "the cell 'age' must be a finite number, a text, true, false or null."),
        ("people", {"age": 10**400, "sex": "f"}, "the cell 'age' must be a finite number"),
        ("people", ["f"], "the input must be an object, such as"),
        ("people", dict.fromkeys(map(str, range(10_001)), 1), "the input has more than 10,000 cells. Got 10001."),
        ("digits", [[1, 2], [3]], "the input must be an array of numbers, its rows of one length."),
        ("digits", ["1", "2"], "the input must be an array of numbers"),
        ("digits", 10**30, "the input must be an array of numbers"),
        ("digits", [10**30], "the input must be an array of numbers"),
        ("digits", [1.0, 2.0], "the input must hold images of the shape [1, 8, 8], one or several along the first axis. Got [2]."),
        ("digits", np.zeros((41, 1, 8, 8)).tolist(), "a request has at most 40 inputs."),
    ],
)  # fmt: skip
def test_bad_input(client, name, value, sentence):
    refused(asked(client, name, value), sentence)


def test_bad_requests(client):
    refused(asked(client, "nobody", "x"), "the model 'nobody' is not served here", status=404, param="model")
    refused(client.post("/v1/classify", json={"model": "pets"}), "'input' is missing", param="input")
    refused(
        asked(client, "pets", "x", top_k=0),
        "top_k: input should be greater than or equal to 1",
        param="top_k",
    )
    refused(asked(client, "pets", "x", top_k=True), "top_k: input should be a valid integer", param="top_k")
    refused(asked(client, "pets", "x", topk=1), "the field 'topk' is not known", param="topk")
    refused(sent(client, ("x", png()), model="pets", top_k="many"), "top_k: input should be", param="top_k")
    refused(
        sent(client, ("x", png()), model="pets", other="1"), "the field 'other' is not known", param="other"
    )
    refused(sent(client, ("x", png()), model="pets", input="1"), "'input' has no effect beside files.")
    refused(
        client.post("/v1/classify", files={"model": (None, "pets")}), "'file' must hold a file", param="file"
    )
    refused(client.post("/v1/classify", content=b"x", headers={"Content-Type": "text/plain"}),
            "a body must be of the type application/json or multipart/form-data. Got 'text/plain'", 415, None)  # fmt: skip
    for body in (b"", b"{", b"[" * 100_000, b'{"input": NaN}', b'{"input": "\\ud800"}', b"\xff"):
        answer = client.post("/v1/classify", content=body, headers={"Content-Type": "application/json"})
        refused(answer, "the body is not valid JSON", param=None)
    for body in (b"[]", b"null", b'"a"'):
        answer = client.post("/v1/classify", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
    broken = client.post(
        "/v1/classify", content=b"--b\r\nno", headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert broken.status_code == 400
    assert (
        client.post("/v1/classify", content=b"", headers={"Content-Type": "multipart/form-data"}).status_code
        == 400
    )


def test_inputs_are_counted_and_a_classifier_neither_writes_nor_embeds(client):
    before = client.get("/metrics").text
    asked(client, "reviews", ["good"] * 3)
    counted = [
        float(line.rpartition(" ")[2])
        for text in (before, client.get("/metrics").text)
        for line in text.splitlines()
        if line.startswith('kleiber_inputs_total{model="reviews"}')
    ]
    assert counted[-1] - (counted[0] if len(counted) > 1 else 0) == 3
    refused(
        client.post("/v1/embeddings", json={"model": "reviews", "input": "x"}),
        "the model 'reviews' classifies",
        param="model",
    )
    assert json.loads(client.get("/openapi.json").text)["paths"]["/v1/classify"]["post"]["requestBody"]["content"].keys() == {
        "application/json", "multipart/form-data",
    }  # fmt: skip


def test_an_error_repeats_little_of_what_was_sent(client):
    answer = asked(client, "people", dict.fromkeys(("x" * 1000 + str(index) for index in range(50)), 1))
    refused(answer, "the input must have the column 'age'")
    assert len(answer.content) < 1000


def test_an_answer_that_is_not_finite_is_an_error_of_the_server(client, models):
    parameter = next(models["digits"].classifier.module.parameters())
    kept = parameter.detach().clone()
    with torch.no_grad():
        parameter.fill_(float("nan"))
        answer = asked(client, "digits", np.zeros((1, 8, 8)).tolist())
        parameter.copy_(kept)
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "the model 'digits' gave an answer that is not finite."


def test_a_package_that_is_missing_is_an_error_of_the_server(client, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    answer = asked(client, "noises", data_url(WAVE, "audio/wav"))
    assert answer.status_code == 500
    assert "Reading sound needs the package 'soundfile'" in answer.json()["error"]["message"]
