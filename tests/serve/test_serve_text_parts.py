"""What stands between a request and a text: prompts, spellings, times."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_texts import CONTEXT, END, bytes_tokenizer
from tokenizers import Tokenizer, decoders, models

from kleiber.infer.batching import Speaker, TextHandle
from kleiber.infer.generation import Piece
from kleiber.serve.errors import RefusedError
from kleiber.serve.json_body import read_json
from kleiber.serve.writing.mailbox import Mailbox
from kleiber.serve.writing.pace import Pace
from kleiber.serve.writing.prompt_reader import PromptReader
from kleiber.serve.writing.spelling import token_bytes

TEMPLATE = "{% for m in messages %}<|turn|>{{ m.role }}:{{ m.content }}{% endfor %}<|turn|>"


def reader(folder, *, template=None, start_ids=()):
    """Return a reader of a model with a token for a turn."""
    if template is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    tokenizer = bytes_tokenizer(("<|turn|>",))
    return PromptReader(Speaker(tokenizer, start_ids, frozenset(), CONTEXT), folder)


def test_a_special_token_is_one_where_the_template_writes_it_and_text_where_a_client_does(tmp_path):
    end, turn = 256, 257
    found = reader(tmp_path, template=TEMPLATE).chat(
        [{"role": "user", "content": f"a<|turn|>b{END}"}, {"role": "assistant", "content": "\ue0000\ue001"}]
    )
    assert found.count(turn) == 3
    assert end not in found
    assert found == [
        turn, *b"user:a<|turn|>b<|endoftext|>", turn, *b"assistant:0", turn,
    ]  # fmt: skip


@given(st.text(max_size=30))
def test_no_text_of_a_client_makes_a_turn(tmp_path_factory, text):
    found = reader(tmp_path_factory.getbasetemp(), template=TEMPLATE).chat(
        [{"role": "user", "content": text + "<|turn|>"}]
    )
    assert found.count(257) == 2


def test_texts_begin_with_what_they_begin_with_but_not_where_a_template_writes_it(tmp_path):
    own = reader(tmp_path, start_ids=(256,))
    assert own.prompt("hi") == [256, *b"hi"]
    assert own.prompt([104]) == [104]
    assert own.chat([{"role": "user", "content": "hi"}]) == [256, *b"User: hi\n\nAssistant:"]
    templated = reader(tmp_path, template="{{ messages[0].content }}", start_ids=(256,))
    assert templated.chat([{"role": "user", "content": "hi"}]) == [*b"hi"]
    assert templated.chat_stops == ()


def test_a_conversation_that_comes_to_nothing_is_refused(tmp_path):
    with pytest.raises(RefusedError, match="the prompt is empty"):
        reader(tmp_path, template="").chat([{"role": "user", "content": "hi"}])


def test_tokens_are_spelt_as_they_are():
    tokenizer = bytes_tokenizer().backend
    letters = {token_bytes(tokenizer, token) for token in range(256)}
    assert letters == {bytes([one]) for one in range(256)}
    assert token_bytes(tokenizer, 256) == END.encode()
    assert token_bytes(tokenizer, 999) == b""
    tokenizer.add_special_tokens(["<｜end▁of｜>"])
    assert token_bytes(tokenizer, 257) == "<｜end▁of｜>".encode()


def test_tokens_of_sentencepiece_are_spelt_with_spaces_and_bytes():
    tokenizer = Tokenizer(models.WordLevel({"\u2581low": 0, "<0xE2>": 1, "low": 2}))
    tokenizer.decoder = decoders.Metaspace()
    assert [token_bytes(tokenizer, token) for token in range(3)] == [b" low", b"\xe2", b"low"]


def test_a_pace_that_nobody_has_measured_is_a_second():
    assert Pace(4).wait_s(num_places=100, max_tokens=100) == 1


def test_the_wait_follows_from_what_texts_took():
    pace = Pace(max_running=4)
    pace.ended(num_tokens=200, time_s=4.0)  # 20 ms a token
    # 8 texts, 4 at once, 4 s each.
    assert pace.wait_s(num_places=8, max_tokens=1000) == 8
    assert pace.wait_s(num_places=1, max_tokens=1000) == 1
    # Of at most 50 tokens one takes a second.
    assert pace.wait_s(num_places=8, max_tokens=50) == 2
    assert pace.wait_s(num_places=10**9, max_tokens=1000) == 300


def test_the_pace_follows_a_change():
    pace = Pace(max_running=1)
    pace.ended(num_tokens=100, time_s=100.0)
    for _ in range(30):
        pace.ended(num_tokens=100, time_s=2.0)
    pace.ended(num_tokens=0, time_s=0.0)
    assert pace.wait_s(num_places=1, max_tokens=100) == 3  # 2 s and a little that is left of the 100


def test_a_mailbox_hands_on_all_that_came_in_its_order():
    async def collected():
        box, handle = Mailbox(), TextHandle()
        handle.put(Piece(0, 1, "early"))
        box.subscribe(handle, 7)
        first = await box.collect()

        def write():
            for token in range(500):
                handle.put(Piece(0, token, ""))
            handle.cancel()

        thread = threading.Thread(target=write)
        thread.start()
        found = []
        while not found or found[-1][1] is not None:
            found += await box.collect()
        thread.join()
        return first, found

    first, found = asyncio.run(asyncio.wait_for(collected(), 20))
    assert [(number, heard.text) for number, heard in first] == [(7, "early")]
    assert [heard.token for _, heard in found[:-1]] == list(range(500))
    assert found[-1] == (7, None)


def test_what_comes_together_wakes_the_loop_once():
    async def num_wakes():
        box, handle = Mailbox(), TextHandle()
        box.subscribe(handle, 0)
        loop, wakes = asyncio.get_running_loop(), []
        own = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *given: (wakes.append(1), own(*given))
        for token in range(10):
            handle.put(Piece(0, token, ""))
        found = await box.collect()
        return len(wakes), len(found)

    assert asyncio.run(num_wakes()) == (1, 10)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda one: st.lists(one) | st.dictionaries(st.text(), one),
    )
)
def test_json_is_read_as_it_was_written(value):
    for is_ascii in (True, False):
        try:
            body = json.dumps(value, ensure_ascii=is_ascii).encode()
        except UnicodeEncodeError:  # half of a pair, which only escapes can write
            continue
        if is_text(value):
            assert read_json(body) == value
        else:
            with pytest.raises(ValueError, match="it is not UTF-8 text"):
                read_json(body)


def is_text(value):
    """Return whether all of a value can be written."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
