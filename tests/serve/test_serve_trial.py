"""One streamed reply: what a model writes, over HTTP, with the server gone afterwards."""

import threading

import pytest
from small_models import rows_run
from untrained_runs import untrained_run

from kleiber.errors import KleiberError, UsageError
from kleiber.infer import Request, Sampling, TextGenerator, open_text_model
from kleiber.serve.trial import _read, streamed_reply


def writer(root, make_record):
    """Make a run that writes text."""
    (root / "book.txt").write_text("a good film, a bad film, and a lovely plot. " * 200)
    return untrained_run(
        root / "writer", make_record, "task.name=lm", f"data.source=text:{root / 'book.txt'}", "data.vocab_size=265",
        "data.context=32", "model.family=gpt", "model.depth=1", "model.width=32",
    )[0]  # fmt: skip


def test_it_is_what_the_model_writes(tmp_path, make_record):
    folder, before = writer(tmp_path, make_record), set(threading.enumerate())
    parts = []
    reply = streamed_reply(folder, "good film", max_tokens=6, on_text=parts.append)
    request = Request(max_tokens=6, sampling=Sampling(temperature=0.7), seed=0)
    pieces = list(TextGenerator(open_text_model(folder, engine="torch")).generate(["good film"], request))
    assert reply.text == "".join(parts) == "".join(piece.text for piece in pieces)
    assert reply.num_tokens == len(pieces)
    assert reply.first_token_s > 0
    assert not [one for one in set(threading.enumerate()) - before if one.name.startswith("kleiber")]


def test_what_writes_no_text_is_refused(tmp_path, make_record):
    with pytest.raises((UsageError, KleiberError), match=r"answered with 4\d\d"):
        streamed_reply(rows_run(tmp_path, make_record), "good film")


def test_times_are_told_from_the_first_part_on(monkeypatch):
    clock = iter([10.0, 10.5, 10.75, 11.5])
    monkeypatch.setattr("kleiber.serve.trial.time.perf_counter", lambda: next(clock))
    events = [{"choices": [{"text": one}]} for one in ("a", "b", "c")]
    reply = _read(iter([*events, {"choices": [], "usage": {"completion_tokens": 3}}]), lambda _: None)
    assert (reply.text, reply.num_tokens, reply.first_token_s, reply.tokens_per_s) == ("abc", 3, 0.5, 2.0)
