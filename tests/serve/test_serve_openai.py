"""OpenAI's own client finds everything where its API has it."""

from __future__ import annotations

import asyncio
import threading

import openai
import pytest
from scripted_texts import ALPHABET, BROKEN, END, ENDING, serving, until

from kleiber.serve import ServeSettings


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("openai")) as found:
        yield found


def complete(server, prompt="hi", **asked):
    return server.openai.completions.create(model="alphabet", prompt=prompt, **asked)


def chat(server, content="hi", **asked):
    messages = [{"role": "user", "content": content}]
    return server.openai.chat.completions.create(model="alphabet", messages=messages, **asked)


def test_a_completion(server):
    found = complete(server, max_tokens=5)
    assert (found.object, found.model, found.id[:5]) == ("text_completion", "alphabet", "cmpl-")
    assert found.system_fingerprint.startswith("fp_")
    (choice,) = found.choices
    assert (choice.index, choice.text, choice.finish_reason, choice.logprobs) == (0, "abcde", "length", None)
    counted = found.usage
    assert (counted.prompt_tokens, counted.completion_tokens, counted.total_tokens) == (2, 5, 7)
    assert found._request_id.startswith("req_")


def test_a_completion_has_sixteen_tokens_where_nobody_says(server):
    assert complete(server).choices[0].text == ALPHABET[:16]


def test_the_end_of_text_stops_and_is_no_part_of_it(server):
    found = complete(server, ENDING, max_tokens=9)
    assert (found.choices[0].text, found.choices[0].finish_reason) == ("abc", "stop")
    assert found.usage.completion_tokens == 4


@pytest.mark.parametrize(("stop", "text"), [("d", "abc"), (["x", "ef"], "abcd")])
def test_a_stop_string_ends_a_text_before_it(server, stop, text):
    choice = complete(server, stop=stop).choices[0]
    assert (choice.text, choice.finish_reason) == (text, "stop")


@pytest.mark.parametrize(
    "prompts",
    ["hi", ["hi", "you"], [104, 105], [[104, 105], [121]]],
    ids=["text", "texts", "tokens", "lists"],
)
def test_prompts_in_every_form_with_samples_of_each(server, prompts):
    server.backend.asked.clear()
    found = complete(server, prompts, n=2, max_tokens=1)
    num = 2 if isinstance(prompts[0], list) or prompts == ["hi", "you"] else 1
    assert [choice.index for choice in found.choices] == list(range(2 * num))
    assert [job.sample for job in server.backend.asked] == [0, 1] * num
    heads = ["".join(map(chr, job.writing.tokens[:-1])) for job in server.backend.asked]
    assert heads == [head for head in ["hi", "you" if "you" in prompts else "y"][:num] for _ in range(2)]
    assert found.usage.prompt_tokens == sum(map(len, heads)) / 2


def test_what_is_asked_reaches_the_model(server):
    server.backend.asked.clear()
    more = {"top_k": 7, "min_p": 0.1, "repetition_penalty": 1.3}
    complete(server, max_tokens=3, temperature=0.5, top_p=0.9, seed=11, stop="z", extra_body=more)
    (job,) = server.backend.asked
    sampling = job.request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 7)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.1, 1.3)
    assert (job.request.seed, job.request.stop, job.request.max_tokens) == (11, ("z",), 3)


def test_without_a_seed_each_request_has_its_own_and_without_a_temperature_it_is_1(server):
    server.backend.asked.clear()
    for _ in range(2):
        complete(server, max_tokens=1)
    one, other = (job.request for job in server.backend.asked)
    assert one.seed != other.seed
    assert one.sampling.temperature == 1


def test_an_echo_stands_before_the_text_streamed_or_not(server):
    assert complete(server, [104, 105], echo=True, max_tokens=2).choices[0].text == "hiab"
    chunks = list(complete(server, echo=True, max_tokens=2, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "hiab"


def test_logprobs_of_a_completion(server):
    told = complete(server, max_tokens=3, logprobs=2).choices[0].logprobs
    assert (told.tokens, told.token_logprobs) == (["a", "b", "c"], [-0.5] * 3)
    assert told.top_logprobs == [{"a": -0.5, "b": -1.5}] * 3
    assert told.text_offset == [0, 1, 2]
    streamed = [
        chunk.choices[0].logprobs for chunk in complete(server, max_tokens=3, logprobs=2, stream=True)
    ]
    assert [token for one in streamed for token in one.tokens] == ["a", "b", "c"]
    assert [offset for one in streamed for offset in one.text_offset] == [0, 1, 2]


def test_a_stream_says_what_the_whole_does(server):
    chunks = list(complete(server, n=2, max_tokens=9, stream=True))
    texts = ["", ""]
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [ALPHABET[:9]] * 2
    assert [chunk.choices[0].finish_reason for chunk in chunks].count("length") == 2
    assert all(chunk.usage is None for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_counts_its_tokens_where_that_is_asked(server):
    *chunks, last = complete(server, max_tokens=4, stream=True, stream_options={"include_usage": True})
    assert all(chunk.usage is None for chunk in chunks)
    assert (last.choices, last.usage.prompt_tokens, last.usage.completion_tokens) == ([], 2, 4)
    each = {"continuous_usage_stats": True}
    counts = [
        chunk.usage.completion_tokens
        for chunk in complete(server, max_tokens=4, stream=True, stream_options=each)
    ]
    assert counts == sorted(counts)
    assert counts[-1] == 4


def test_chat(server):
    server.backend.asked.clear()
    found = chat(server, max_completion_tokens=3)
    assert (found.object, found.id[:9]) == ("chat.completion", "chatcmpl-")
    message = found.choices[0].message
    assert (message.role, message.content, found.choices[0].finish_reason) == ("assistant", "abc", "length")
    (job,) = server.backend.asked
    text = "".join(map(chr, job.writing.tokens[:-3]))
    assert text == "User: hi\n\nAssistant:"
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (len(text), 3)
    assert "\n\nUser:" in job.request.stop


def test_chat_reads_parts_of_text_and_its_own_answers_again(server):
    server.backend.asked.clear()
    answer = chat(server, max_tokens=2).choices[0].message
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "o"}]
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": parts}, answer]
    server.openai.chat.completions.create(
        model="alphabet", messages=[*messages, {"role": "user", "content": "?"}], max_tokens=1
    )
    text = "".join(map(chr, server.backend.asked[-1].writing.tokens[:-1]))
    assert text == "System: S\n\nUser: ho\n\nAssistant: ab\n\nUser: ?\n\nAssistant:"


def test_a_chat_without_a_length_goes_on_to_the_end_of_the_context(server):
    found = chat(server)
    assert found.choices[0].finish_reason == "length"
    assert found.usage.total_tokens == 401  # the last token need not be read


def test_a_chat_streams_its_role_first_and_then_its_text(server):
    first, *chunks = chat(server, max_tokens=4, stream=True)
    assert (first.object, first.choices[0].delta.role, first.choices[0].delta.content) == (
        "chat.completion.chunk",
        "assistant",
        "",
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "abcd"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"


def test_logprobs_of_a_chat(server):
    told = chat(server, max_tokens=2, logprobs=True, top_logprobs=1).choices[0].logprobs.content
    assert [(one.token, one.logprob, one.bytes) for one in told] == [("a", -0.5, [97]), ("b", -0.5, [98])]
    assert [[(top.token, top.logprob) for top in one.top_logprobs] for one in told] == [[("a", -0.5)]] * 2
    assert chat(server, max_tokens=1, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


def test_models(server):
    (model,) = server.openai.models.list().data
    assert (model.id, model.object, model.owned_by) == ("alphabet", "model", "kleiber")
    assert server.openai.models.retrieve("alphabet").model_dump()["context_tokens"] == 400
    with pytest.raises(
        openai.NotFoundError, match=r"'alphabt' is not served here\. Did you mean 'alphabet'\?"
    ):
        server.openai.models.retrieve("alphabt")


@pytest.mark.parametrize(
    ("asked", "param", "sentence"),
    [
        ({"prompt": ""}, "prompt", "the prompt is empty"),
        ({"prompt": []}, "prompt", "the prompt is empty"),
        ({"prompt": [[]]}, "prompt", "the prompt is empty"),
        ({"prompt": ["a", ""]}, "prompt", "the prompt is empty"),
        ({"prompt": "x" * 401}, "prompt", "the prompt is 401 tokens long; the model reads at most 400."),
        ({"prompt": [1, 257]}, "prompt", "a token of this model is from 0 to 256. Got 257."),
        ({"prompt": [-1]}, "prompt", "a token of this model is from 0 to 256. Got -1."),
        ({"prompt": "x" * 399, "max_tokens": 3}, "max_tokens", '399 tokens and 3 more do not fit: .* "max_tokens": 2'),
        ({"max_tokens": 401}, "max_tokens", "a text here has at most 400 tokens. Got 401."),
        ({"max_tokens": 0}, "max_tokens", "max_tokens: input should be greater than or equal to 1. Got 0."),
        ({"temperature": 2.5}, "temperature", "less than or equal to 2. Got 2.5."),
        ({"temperature": "1"}, "temperature", "temperature: input should be a valid number. Got '1'."),
        ({"n": 17}, "n", "at most 16 texts of a prompt. Got 17."),
        ({"n": 13}, "n", "the request asks for 13 texts, and the server takes at most 12 at once."),
        ({"prompt": ["a"] * 65}, "prompt", "at most 64 prompts. Got 65."),
        ({"stop": list("abcde")}, "stop", "stop: list should have at most 4 items"),
        ({"stop": ["a", ""]}, "stop", "a stop string must have a character."),
        ({"best_of": 2}, "best_of", "best_of is not supported"),
        ({"suffix": "x"}, "suffix", "suffix is not supported"),
        ({"frequency_penalty": 1}, "frequency_penalty", "repetition_penalty is."),
        ({"presence_penalty": 1}, "presence_penalty", "repetition_penalty is."),
        ({"logit_bias": {"5": 1}}, "logit_bias", "logit_bias is not supported."),
        ({"echo": True, "logprobs": 1}, "echo", "how probable a prompt was is not told"),
        ({"logprobs": 6}, None, "the alphabet tells five likeliest at most. Got 6."),
        ({"stream_options": {"include_usage": True}}, "stream_options", "no effect without stream"),
        ({"extra_body": {"promt": "a"}}, "promt", "the field 'promt' is not known."),
        ({"extra_body": {"guided_json": {"type": "wrong"}}}, "guided_json", "the JSON schema cannot be followed"),
        ({"extra_body": {"guided_regex": "["}}, "guided_regex", "the regular expression cannot be followed"),
        ({"extra_body": {"guided_regex": "a", "guided_json": {}}}, "guided_regex", "a text has one form"),
        ({"extra_body": {"response_format": {"type": "json_schema"}}}, "response_format", "has no json_schema"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_a_bad_request_that_names_the_field(server, asked, param, sentence):
    with pytest.raises(openai.BadRequestError, match=sentence) as caught:
        complete(server, **({"prompt": "hi"} | asked))
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")
    assert server.model.text.stats().num_running == 0


@pytest.mark.parametrize(
    ("asked", "param", "sentence"),
    [
        ({"tools": [{"type": "function"}]}, "tools", "tools are not supported"),
        ({"tool_choice": "required"}, "tool_choice", "tools are not supported"),
        ({"messages": []}, "messages", "messages: list should have at least 1 item"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "should be 'system', 'developer'"),
        ({"messages": [{"role": "user"}]}, "messages.0", "messages.0 has no content."),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0", "the model reads and writes text alone. Got 'image_url'",
        ),
        ({"messages": [{"role": "user", "content": "x" * 400}]}, "messages", "the prompt is 418 tokens long"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "give one of both"),
        ({"top_logprobs": 2}, "top_logprobs", "no effect without logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
        ({"modalities": ["audio"]}, "modalities", "text alone"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "the model answers at once"),
    ],
)  # fmt: skip
def test_what_a_chat_cannot_do_is_a_bad_request_that_names_the_field(server, asked, param, sentence):
    with pytest.raises(openai.BadRequestError, match=sentence) as caught:
        server.openai.chat.completions.create(
            **({"model": "alphabet", "messages": [{"role": "user", "content": "hi"}]} | asked)
        )
    assert caught.value.param == param


def test_an_engine_that_fails_is_an_error_of_the_server_whole_and_streamed(server):
    with pytest.raises(openai.InternalServerError, match="the alphabet is broken") as caught:
        complete(server, BROKEN)
    assert (caught.value.status_code, caught.value.type) == (500, "server_error")
    with pytest.raises(openai.APIError, match="the alphabet is broken"):
        list(complete(server, BROKEN, stream=True))
    assert complete(server, max_tokens=1).choices[0].text == "a"


def test_a_special_token_that_a_client_spells_is_text(server):
    server.backend.asked.clear()
    complete(server, END, max_tokens=1)
    assert len(server.backend.asked[-1].writing.tokens) == len(END) + 1


def test_a_full_queue_says_when_to_come_again_and_takes_all_texts_or_none(tmp_path):
    settings = ServeSettings(max_running=2, max_waiting=1)
    with serving(tmp_path, settings, max_running=2) as server:
        server.backend.go.clear()
        first = complete(server, n=2, max_tokens=30, stream=True)
        for n in (2, 3):
            with pytest.raises(
                openai.RateLimitError, match="the server is full: 2 texts of 'alphabet'"
            ) as caught:
                complete(server, n=n)
            assert caught.value.code == "queue_full"
            assert int(caught.value.response.headers["retry-after"]) >= 1
        server.backend.go.set()
        assert len(list(first)) >= 2
        assert complete(server, n=3, max_tokens=1).choices[2].text == "a"
        assert len(server.backend.asked) == 5  # nothing of those that were refused


def test_the_client_comes_again_by_itself(tmp_path):
    with serving(tmp_path, ServeSettings(max_running=1, max_waiting=0), max_running=1) as server:
        server.backend.go.clear()
        first = complete(server, max_tokens=30, stream=True)
        threading.Timer(0.3, server.backend.go.set).start()
        patient = server.openai.with_options(max_retries=3)
        assert patient.completions.create(model="alphabet", prompt="a", max_tokens=1).choices[0].text == "a"
        assert (
            'kleiber_rejected_total{model="alphabet",reason="queue_full"}' in server.raw.get("/metrics").text
        )
        assert len(list(first)) >= 1


def test_a_text_that_takes_too_long_is_given_up(tmp_path):
    settings = ServeSettings(max_running=4, idle_timeout_s=0.2)
    with serving(tmp_path, settings) as server:
        server.backend.go.clear()
        with pytest.raises(
            openai.InternalServerError, match=r"no token came within 0\.2 s; it is given up"
        ) as caught:
            complete(server)
        assert (caught.value.status_code, caught.value.code) == (503, "timeout")
        server.backend.go.set()
    with serving(tmp_path, ServeSettings(max_running=4, request_timeout_s=0.3), step_s=0.05) as server:
        with pytest.raises(openai.APIError, match=r"not whole after 0\.3 s"):
            list(complete(server, max_tokens=50, stream=True))
        assert until(lambda: server.model.text.stats().num_running == 0, 10)


def test_keys(tmp_path):
    with serving(tmp_path, ServeSettings(max_running=4, api_keys=("right", "other"))) as server:
        for key in ("right", "other"):
            assert server.openai.with_options(api_key=key).models.list().data
        with pytest.raises(openai.AuthenticationError, match="the API key is wrong") as caught:
            server.openai.with_options(api_key="wrong").models.list()
        assert (caught.value.status_code, caught.value.code) == (401, "invalid_api_key")
        assert server.raw.get("/v1/models").json()["error"]["code"] == "missing_api_key"
        assert server.raw.get("/metrics").status_code == 401
        assert server.raw.get("/health").status_code == 200
        assert server.raw.get("/").status_code == 200


def test_the_client_without_waiting(server):
    async def several():
        async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key="none", timeout=20) as client:

            async def one(stop):
                return await client.completions.create(
                    model="alphabet", prompt="hi", stop=stop, max_tokens=26
                )

            async def streamed():
                chunks = await client.chat.completions.create(
                    model="alphabet", messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=6
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

            return await asyncio.gather(*(one(letter) for letter in "dhlpt"), streamed())

    *texts, streamed = asyncio.run(several())
    assert [found.choices[0].text for found in texts] == [
        "abc",
        "abcdefg",
        ALPHABET[:11],
        ALPHABET[:15],
        ALPHABET[:19],
    ]
    assert streamed == "abcdef"


def test_limits_of_prompts_and_texts(tmp_path):
    with serving(
        tmp_path, ServeSettings(max_running=4, max_prompt_tokens=20, max_output_tokens=10)
    ) as server:
        assert complete(server).choices[0].text == ALPHABET[:10]
        assert chat(server, "").usage.completion_tokens == 10
        with pytest.raises(openai.BadRequestError, match=r"a text here has at most 10 tokens\. Got 11"):
            complete(server, max_tokens=11)
        with pytest.raises(
            openai.BadRequestError, match="the prompt is 21 tokens long; the server reads at most 20"
        ):
            complete(server, "x" * 21)


def test_what_ends_otherwise_than_it_should_is_counted_by_why(tmp_path):
    with serving(tmp_path, ServeSettings(max_running=4, idle_timeout_s=0.2)) as server:
        with pytest.raises(openai.InternalServerError):
            complete(server, [BROKEN, "hi"])
        server.backend.go.clear()
        with pytest.raises(openai.InternalServerError):
            complete(server)
        server.backend.go.set()
        told = server.raw.get("/metrics").text
    assert 'kleiber_cancelled_total{model="alphabet",reason="failed"} 2.0' in told
    assert 'kleiber_cancelled_total{model="alphabet",reason="timed_out"} 1.0' in told
