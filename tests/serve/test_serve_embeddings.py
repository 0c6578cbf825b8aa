"""`/v1/embeddings` through OpenAI's own client, and what it refuses."""

from __future__ import annotations

import base64

import httpx
import numpy as np
import openai
import pytest
from encoder_folders import write_bert
from running_server import running
from small_models import opened_encoder

from kleiber.serve import ServeSettings

TEXTS = ["river", "stone cloud green winter songs", "house, bread"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return opened_encoder(write_bert(tmp_path_factory.mktemp("served") / "bert"))


@pytest.fixture(scope="module")
def address(encoder):
    with running({"bert": encoder}, ServeSettings(max_inputs=70, max_text_chars=300)) as found:
        yield found


@pytest.fixture(scope="module")
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def expected(encoder, texts):
    return encoder.embedder.embed([encoder.embedder.tokens_of(text) for text in texts])


def test_the_openai_client_gets_what_the_embedder_gives(client, encoder):
    # The client asks for base64 by itself, and reads fp32 out of it.
    answer = client.embeddings.create(model="bert", input=TEXTS)
    found = np.array([one.embedding for one in answer.data])
    np.testing.assert_allclose(found, expected(encoder, TEXTS), atol=1e-6)
    assert [one.index for one in answer.data] == [0, 1, 2]
    assert (answer.model, answer.object) == ("bert", "list")
    num_tokens = sum(len(encoder.embedder.tokens_of(text)) for text in TEXTS)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == num_tokens == 3 + 8 + 5


def test_numbers_are_those_of_the_base64(client):
    as_numbers = client.embeddings.create(model="bert", input=TEXTS[0], encoding_format="float")
    as_bytes = client.embeddings.create(model="bert", input=TEXTS[0], encoding_format="base64")
    assert (
        as_numbers.data[0].embedding
        == np.frombuffer(base64.b64decode(as_bytes.data[0].embedding), "<f4").tolist()
    )


def test_tokens_one_text_and_many(client, encoder):
    tokens = encoder.embedder.tokens_of(TEXTS[1])
    of_tokens = client.embeddings.create(model="bert", input=tokens).data[0].embedding
    np.testing.assert_allclose(of_tokens, expected(encoder, TEXTS)[1], atol=1e-6)
    of_lists = client.embeddings.create(model="bert", input=[tokens, [5]]).data
    np.testing.assert_allclose(of_lists[0].embedding, of_tokens, atol=1e-6)
    many = client.embeddings.create(model="bert", input=TEXTS * 23).data
    np.testing.assert_allclose(
        [one.embedding for one in many], np.tile(expected(encoder, TEXTS), (23, 1)), atol=1e-6
    )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("", "a text to embed is empty. Got ''."),
        ([], "there is no input."),
        ([[]], "a text to embed is empty. Got []."),
        (["river", ""], "a text to embed is empty."),
        ("river " * 11, "a text to embed is 13 tokens long; the model reads at most 12."),
        ("r" * 301, "the input is 301 characters long; at most 300 are read."),
        ([5, 14], "a token of this model is from 0 to 13. Got 14."),
        ([-1], "a token of this model is from 0 to 13. Got -1."),
        (["river"] * 71, "a request has at most 70 inputs. Got 71."),
    ],
)  # fmt: skip
def test_bad_input(client, value, sentence):
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="bert", input=value)
    assert sentence in caught.value.body["message"]
    assert caught.value.param == "input"


def test_bad_requests(client, address):
    with pytest.raises(
        openai.BadRequestError, match="dimensions is not supported: an embedding is as long as the model"
    ):
        client.embeddings.create(model="bert", input="river", dimensions=8)
    with pytest.raises(openai.NotFoundError, match="the model 'other' is not served here"):
        client.embeddings.create(model="other", input="river")
    for body in (
        {"input": 5},
        {"input": [None]},
        {"input": [1.5]},
        {"input": "a", "encoding_format": "hex"},
        {"input": {}},
        {},
        [],
    ):
        assert httpx.post(f"{address}/v1/embeddings", json=body).status_code == 400


def test_without_a_model_the_first_that_embeds_does(address):
    assert httpx.post(f"{address}/v1/embeddings", json={"input": "river"}).json()["model"] == "bert"
    assert 'kleiber_inputs_total{model="bert"}' in httpx.get(f"{address}/metrics").text
