"""Texts that are written side by side are those that are written alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from batched import CONTEXT, GREEDY, MODULE, VOCAB, alone, llama, prompts, slots, speaker

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.errors import KleiberError, MissingExtraError, RecipeError, UsageError
from kleiber.infer.batching import BatchedText, Pages, QueueFullError, open_batched_text
from kleiber.infer.batching.row_cache import RowCache
from kleiber.infer.decoding.cached_forward import cached_forward, cached_heads
from kleiber.infer.generation import generate
from kleiber.infer.generation.request import Request
from kleiber.infer.generation.sampling import Sampling, probabilities
from kleiber.infer.text_model import open_text_model
from kleiber.models import save
from kleiber.models.gpt.module import build
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.stored import AS_COMPUTED


def opened(max_running=3, **options):
    """Return a batch over slots."""
    return BatchedText(slots(max_running), speaker(), max_running=max_running, **options)


def test_rows_of_different_lengths_read_as_each_would_alone():
    cache = RowCache(cached_heads(MODULE), 4)
    tokens = [prompts(1, 1)[0], prompts(1, 2)[0], [5]]
    with torch.no_grad():
        for row, prompt in enumerate(tokens, start=1):
            cache.choose(row, [0])
            cached_forward(MODULE, torch.tensor([prompt]), cache)
        cache.choose(1, [len(prompt) for prompt in tokens])
        together = cached_forward(MODULE, torch.tensor([[7, 8]] * 3), cache)
        for row, prompt in enumerate(tokens):
            whole = MODULE(torch.tensor([[*prompt, 7, 8]]))[0, -2:]
            torch.testing.assert_close(together[row], whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.3, top_p=0.9, repetition_penalty=1.2)])
def test_texts_of_a_batch_are_those_written_alone(sampling):
    asked = [
        (prompt, Request(max_tokens=3 + 4 * index, sampling=sampling, seed=index))
        for index, prompt in enumerate(prompts(7))
    ]
    with opened() as batch:
        handles = [batch.submit(prompt, request) for prompt, request in asked]
        written = [[piece.token for piece in handle] for handle in handles]
    assert written == [alone(prompt, request) for prompt, request in asked]


def test_samples_of_a_prompt_differ_by_their_number():
    request = Request(max_tokens=8, sampling=Sampling(temperature=2.0))
    with opened() as batch:
        written = [[piece.token for piece in batch.submit([4, 5], request, sample=one)] for one in range(2)]
    assert written == [alone([4, 5], request, sample=one) for one in range(2)]
    assert written[0] != written[1]


def test_a_model_of_transformers_goes_too(tmp_path):
    module = llama(tmp_path)
    request = Request(max_tokens=6, sampling=GREEDY)
    with BatchedText(slots(2, module), speaker(), max_running=2) as batch:
        handles = [batch.submit(prompt, request) for prompt in prompts(3)]
        written = [[piece.token for piece in handle] for handle in handles]
    assert written == [alone(prompt, request, module=module) for prompt in prompts(3)]


def test_a_long_prompt_is_read_in_parts_beside_others(monkeypatch):
    monkeypatch.setattr("kleiber.infer.batching.slots._TOKENS_BESIDE", 4)
    monkeypatch.setattr("kleiber.infer.batching.slots._TOKENS_ALONE", 5)
    request = Request(max_tokens=5, sampling=GREEDY)
    with opened() as batch:
        handles = [batch.submit(prompt, request) for prompt in prompts(5)]
        written = [[piece.token for piece in handle] for handle in handles]
    assert written == [alone(prompt, request) for prompt in prompts(5)]


def test_why_a_text_is_over():
    (prompt,) = prompts(1)
    whole = alone(prompt, Request(max_tokens=1000, sampling=GREEDY), end_ids=())
    third = whole[2]
    stop = chr(0x100 + third)
    with BatchedText(slots(2), speaker(end_ids=()), max_running=2) as batch:
        *_, full = batch.submit(prompt, Request(max_tokens=1000, sampling=GREEDY))
        assert (full.finish, len(prompt) + len(whole)) == ("length", CONTEXT + 1)
        stopped = list(batch.submit(prompt, Request(max_tokens=9, sampling=GREEDY, stop=(stop,))))
        assert (stopped[-1].finish, stopped[-1].token) == ("stop", third)
        assert stop not in "".join(piece.text for piece in stopped)
    with BatchedText(slots(2), speaker(end_ids=[third]), max_running=2) as batch:
        ended = list(batch.submit(prompt, Request(max_tokens=9, sampling=GREEDY)))
        assert (ended[-1].finish, ended[-1].token) == ("end", third)


def test_logprobs_are_the_models():
    (prompt,) = prompts(1)
    with opened() as batch:
        first = next(iter(batch.submit(prompt, Request(max_tokens=1, num_logprobs=2))))
    with torch.no_grad():
        expected = MODULE(torch.tensor([prompt]))[0, -1].log_softmax(-1)
    assert first.logprob == pytest.approx(float(expected[first.token]), abs=1e-5)
    assert [token for token, _ in first.likeliest] == expected.topk(2).indices.tolist()


class Held:
    """A backend whose steps wait until they may."""

    engine, precision, notes, context, cache_frac = "held", "fp32", (), CONTEXT, 0.5

    def __init__(self):
        self.may_step = threading.Semaphore(0)
        self.error = None
        self.running = []

    def check(self, job):
        """Refuse nothing."""

    def admit(self, job):
        """Take a text in."""
        self.running.append(job)

    def release(self, job):
        """Forget a text."""
        self.running.remove(job)

    def step(self):
        """Write token 5 of every text."""
        self.may_step.acquire()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return [(job, job.add(5, None)) for job in self.running]


@pytest.fixture
def held():
    """Return such a backend and a batch of two with one place to wait."""
    backend = Held()
    batch = BatchedText(backend, speaker(), max_running=2, max_waiting=1)
    yield backend, batch
    backend.may_step.release(1000)
    batch.close()


def until(is_so):
    """Wait until something is so."""
    for _ in range(1000):
        if is_so():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it never was")


def test_a_full_queue_is_refused_and_who_waits_is_served_in_turn(held):
    backend, batch = held
    first = batch.submit([1], Request(max_tokens=2))
    until(lambda: batch.stats().num_running == 1)
    # The first step waits, and nobody is admitted meanwhile.
    second = batch.submit([2], Request(max_tokens=9))
    with pytest.raises(QueueFullError, match="1 requests wait already, beside 1 that are being written"):
        batch.submit([3], Request())
    backend.may_step.release(1000)
    assert [piece.token for piece in first] == [5, 5]
    assert len(list(second)) == 9
    until(lambda: batch.stats().num_running == 0)
    stats = batch.stats()
    assert (stats.num_waiting, stats.num_finished, stats.num_cancelled) == (0, 2, 0)
    assert (stats.num_tokens, stats.cache_frac) == (11, 0.5)


def test_a_cancelled_text_leaves_its_place_and_its_reader(held):
    backend, batch = held
    handle = batch.submit([1], Request(max_tokens=100))
    backend.may_step.release(3)
    pieces = iter(handle)
    assert next(pieces).token == 5
    reader = threading.Thread(target=lambda: list(pieces))
    reader.start()
    handle.cancel()
    reader.join(5)
    assert not reader.is_alive()
    backend.may_step.release(1000)
    until(lambda: batch.stats().num_cancelled == 1)
    assert (batch.stats().num_running, backend.running) == (0, [])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KleiberError("not finite."), "not finite"),
        (RuntimeError("out of luck"), "the engine held failed: out of luck"),
    ],
)
def test_a_failure_reaches_those_who_wait_and_the_next_are_served(held, error, message):
    backend, batch = held
    backend.error = error
    backend.may_step.release()
    with pytest.raises(KleiberError, match=message):
        list(batch.submit([1], Request(max_tokens=3)))
    backend.may_step.release(1000)
    assert len(list(batch.submit([1], Request(max_tokens=3)))) == 3


def test_a_closed_batch_ends_its_texts_and_takes_no_more(held):
    backend, batch = held
    handle = batch.submit([1], Request(max_tokens=1000))
    backend.may_step.release(2)
    closing = threading.Thread(target=batch.close)
    closing.start()
    until(lambda: handle.is_cancelled)
    backend.may_step.release(1000)
    closing.join(5)
    assert not closing.is_alive()
    assert list(handle) == []
    with pytest.raises(KleiberError, match="the batch is closed: it takes no more requests"):
        batch.submit([1], Request())


def test_what_was_taken_is_finished_before_it_closes(held):
    backend, batch = held
    first = batch.submit([1], Request(max_tokens=4))
    until(lambda: batch.stats().num_running == 1)
    second = batch.submit([2], Request(max_tokens=6))
    closing = threading.Thread(target=lambda: batch.close(drain_s=60))
    closing.start()
    until(lambda: batch._is_closing)
    with pytest.raises(KleiberError, match="the batch is closed: it takes no more requests"):
        batch.submit([1], Request())
    backend.may_step.release(1000)
    closing.join(20)
    assert not closing.is_alive()
    assert [piece.token for piece in first] == [5] * 4
    assert [piece.token for piece in second] == [5] * 6


def test_what_is_not_finished_in_time_is_cancelled(held):
    backend, batch = held
    handle = batch.submit([1], Request(max_tokens=1000))
    backend.may_step.release(2)
    closing = threading.Thread(target=lambda: batch.close(drain_s=0.05))
    closing.start()
    until(lambda: handle.is_cancelled)
    backend.may_step.release(1000)
    closing.join(20)
    assert not closing.is_alive()


def test_a_text_that_cannot_go_on_ends_alone(monkeypatch):
    request = Request(max_tokens=8, sampling=GREEDY)
    batch = opened()
    lost = batch.speaker.job([3, 4], request)
    monkeypatch.setattr(
        lost.writing, "allowed", lambda _: (_ for _ in ()).throw(KleiberError("lost its form."))
    )
    backend = slots(3)
    kept = batch.speaker.job([4, 5], request)
    batch.close()
    for job in (lost, kept):
        backend.admit(job)
    (job, error), (other, piece) = backend.step()
    assert (job, other, str(error)) == (lost, kept, "lost its form.")
    backend.release(lost)
    tokens = [piece.token]
    while piece.finish is None:
        ((_, piece),) = backend.step()
        tokens.append(piece.token)
    assert tokens == alone([4, 5], request)


def test_an_error_of_one_text_reaches_who_waits_for_it_alone(held):
    backend, batch = held
    writing = backend.step
    backend.step = lambda: [
        (job, KleiberError("lost.") if job.writing.tokens[0] == 1 else piece) for job, piece in writing()
    ]
    kept = batch.submit([2], Request(max_tokens=3))
    until(lambda: batch.stats().num_running == 1)
    lost = batch.submit([1], Request())
    backend.may_step.release(1000)
    with pytest.raises(KleiberError, match="lost"):
        lost.text()
    assert len(list(kept)) == 3
    until(lambda: not backend.running)
    assert (batch.stats().num_finished, batch.stats().num_running) == (1, 0)


def test_a_text_that_is_not_admitted_ends_alone(held):
    backend, batch = held
    admitting = backend.admit
    backend.admit = lambda job: {}["room"] if job.writing.tokens[0] == 1 else admitting(job)
    backend.may_step.release(1000)
    with pytest.raises(KleiberError, match="the engine held failed: 'room'"):
        batch.submit([1], Request()).text()
    assert len(list(batch.submit([2], Request(max_tokens=3)))) == 3


def test_several_threads_may_submit_text(tmp_path):
    request = Request(max_tokens=2, sampling=GREEDY)
    with open_batched_text(run_of(tmp_path), engine="torch", max_running=4, max_waiting=1000) as batch:
        expected = batch.submit("low <|endoftext|> lower", request).text()
        found, start = [], threading.Barrier(8)

        def ask():
            start.wait()
            found.extend(batch.submit("low <|endoftext|> lower", request).text() for _ in range(10))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spelt = batch.speaker.tokens_of("<|endoftext|>")
    assert found == [expected] * 80
    tokenizers = (batch.speaker._reader.backend, batch.speaker.tokenizer.backend)
    assert len(spelt) > 1  # not the token that ends a text
    # One is changed before anybody reads with it, the other never.
    assert [one.encode_special_tokens for one in tokenizers] == [True, False]


def test_requests_that_cannot_be_served_are_refused():
    with opened() as batch:
        with pytest.raises(UsageError, match="the prompt is empty"):
            batch.submit([], Request())
        with pytest.raises(UsageError, match="the prompt is 49 tokens long; the model reads at most 48"):
            batch.submit([1] * 49, Request())
        with pytest.raises(UsageError, match=r"a token of this model is from 0 to 59\. Got 60"):
            batch.submit([60], Request())
        with pytest.raises(UsageError, match=r"a request of a batch is one text\. Got 2"):
            batch.submit([1], Request(num_samples=2))
        assert [piece.finish for piece in batch.submit([1] * 48, Request())] == ["length"]
        until(lambda: batch.stats().num_running == 0)
        assert batch.stats().cache_frac == 0


@pytest.fixture(scope="module")
def pages():
    """Return a batch over pages of OpenVINO, whose texts end at no token."""
    pytest.importorskip("openvino_genai")
    backend = Pages(MODULE, {}, AS_COMPUTED, max_running=3, num_threads=1)
    with BatchedText(backend, speaker(end_ids=()), max_running=3, max_waiting=1000) as batch:
        yield batch


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=0, repetition_penalty=1.3)])
def test_pages_write_what_each_text_would_be_alone(pages, sampling):
    asked = [
        (prompt, Request(max_tokens=3 + 8 * index, sampling=sampling, num_logprobs=0))
        for index, prompt in enumerate(prompts(6))
    ]
    handles = [pages.submit(prompt, request) for prompt, request in asked]
    for handle, (prompt, request) in zip(handles, asked, strict=True):
        pieces = list(handle)
        tokens = [piece.token for piece in pieces]
        assert tokens == alone(prompt, request, end_ids=())
        assert pieces[-1].finish == "length"
        if sampling is GREEDY:
            with torch.no_grad():
                logprobs = MODULE(torch.tensor([[*prompt, *tokens[:-1]]]))[0].log_softmax(-1)
            expected = logprobs[len(prompt) - 1 :].gather(1, torch.tensor(tokens)[:, None])[:, 0]
            np.testing.assert_allclose([piece.logprob for piece in pieces], expected, atol=1e-4)


def test_pages_draw_as_probable_as_tokens_are_and_the_same_of_a_seed(pages):
    sampling, prompt, num = Sampling(temperature=1.2, top_k=20, top_p=0.9, min_p=0.02), [4, 9, 2], 600
    handles = [
        pages.submit(prompt, Request(max_tokens=1, sampling=sampling, seed=seed)) for seed in range(num)
    ]
    counts = np.bincount([next(iter(handle)).token for handle in handles], minlength=VOCAB)
    with torch.no_grad():
        probs = probabilities(MODULE(torch.tensor([prompt]))[:, -1].numpy(), sampling, [prompt])[0]
    can_be = probs > 0
    assert not counts[~can_be].any()
    statistic = ((counts - num * probs)[can_be] ** 2 / (num * probs[can_be])).sum()
    # Mean of chi-square and five of its standard deviations.
    degrees = can_be.sum() - 1
    assert statistic < degrees + 5 * np.sqrt(2 * degrees)
    request = Request(max_tokens=8, sampling=Sampling(temperature=2.0), seed=7)
    lone = [piece.token for piece in pages.submit([4, 5], request)]
    handles = [pages.submit([4, 5], request, sample=sample) for sample in (1, 0, 2)]
    written = [[piece.token for piece in handle] for handle in handles]
    assert written[1] == lone
    assert written[0] != lone


def test_pages_stop_cancel_and_refuse(pages):
    (prompt,) = prompts(1)
    third = alone(prompt, Request(max_tokens=9, sampling=GREEDY), end_ids=())[2]
    request = Request(max_tokens=20, sampling=GREEDY, stop=(chr(0x100 + third),))
    assert [piece.token for piece in pages.submit(prompt, request)][-1] == third
    before = pages.stats().num_cancelled
    handle = pages.submit([3], Request(max_tokens=40, sampling=GREEDY))
    next(iter(handle))
    handle.cancel()
    until(lambda: pages.stats().num_running == 0)
    assert pages.stats().num_cancelled - before in (0, 1)  # it may have ended first
    assert 0 < pages.stats().cache_frac <= 1
    with pytest.raises(UsageError, match="tells the logprob of the drawn token alone"):
        pages.submit(prompt, Request(num_logprobs=3))
    assert pages.notes[-1].startswith("openvino draws tokens itself")


def run_of(folder):
    """Write a model with its tokenizer."""
    backend = train_tokenizer(["low lower lowest " * 9], 262, source="text:x")
    spec = GPTSpec.from_dial({"depth": 1, "width": 16}, vocab_size=262, context=CONTEXT)
    save(build(spec), spec, folder / "model")
    TextTokenizer(backend).write(folder / "model")
    return folder


def test_a_run_is_opened_for_many(tmp_path):
    request = Request(max_tokens=4, sampling=GREEDY)
    folder = run_of(tmp_path)
    with open_batched_text(folder, engine="torch", max_running=2) as batch:
        assert (batch.engine, batch.precision, batch.context) == ("torch", "fp32", CONTEXT)
        text = batch.submit("low lower", request).text()
    model = open_text_model(folder, engine="torch")
    assert text == "".join(piece.text for piece in generate(model, "low lower", request))


def test_auto_takes_what_measures_fastest_and_remembers_it(tmp_path, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))
    folder, said = run_of(tmp_path), []
    with open_batched_text(folder, max_running=2, on_progress=said.append) as batch:
        assert batch.choice is not None
        assert batch.engine == batch.choice.engine == batch.choice.times[0].engine
        assert "one text alone and 2 at once, 24 tokens read and 24 written of each" in batch.choice.says()
        assert len(said) == 2
        request = Request(max_tokens=4, sampling=GREEDY)
        assert batch.submit("low lower", request).text()
        assert batch.stats().num_tokens == 4
    with open_batched_text(folder, max_running=2, on_progress=said.append) as again:
        assert again.choice == batch.choice
    assert len(said) == 2


def test_an_engine_that_does_not_run_the_model_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path / "cache"))

    def refused(*_):
        raise RuntimeError("\nno such operation\n at line 7")

    monkeypatch.setattr("kleiber.infer.batching.open.OnnxRuntimeRows", refused)
    monkeypatch.setattr("kleiber.infer.batching.open.step_model", lambda *_, **__: None)
    folder = run_of(tmp_path)
    with open_batched_text(folder, max_running=1) as batch:
        assert (batch.engine, batch.choice.left_out) == (
            "torch", {"onnxruntime": "onnxruntime does not run GPT: no such operation"}
        )  # fmt: skip
    with pytest.raises(RecipeError, match="onnxruntime does not run GPT: no such operation"):
        open_batched_text(folder, engine="onnxruntime")


def test_texts_may_be_kept_short(tmp_path):
    with open_batched_text(run_of(tmp_path), engine="torch", max_running=2, context=10) as batch:
        *_, last = batch.submit([1] * 8, Request(max_tokens=99, sampling=GREEDY))
        assert (batch.context, last.finish) == (10, "length")
        with pytest.raises(UsageError, match="the prompt is 11 tokens long; the model reads at most 10"):
            batch.submit([1] * 11, Request())
    with pytest.raises(UsageError, match=r"a text of this model has 1 to 48 tokens with its prompt\. Got 49"):
        open_batched_text(tmp_path, engine="torch", context=49)


def test_settings_that_no_batch_has_are_refused(tmp_path, monkeypatch):
    with pytest.raises(
        UsageError,
        match=r"unknown engine 'llamacpp' for many requests at once\. Known: auto, onnxruntime, openvino, torch",
    ):
        open_batched_text(tmp_path, engine="llamacpp")
    with pytest.raises(UsageError, match=r"max_running must be 1 or more\. Got 0"):
        open_batched_text(tmp_path, max_running=0)
    folder = run_of(tmp_path)
    monkeypatch.setattr("kleiber.infer.sessions.importlib.util.find_spec", lambda _: None)
    with pytest.raises(
        MissingExtraError, match="Continuous batching in OpenVINO needs the package 'openvino_genai'"
    ):
        open_batched_text(folder, engine="openvino")
