"""What a row holds is not read again, and a text is the same whatever row it is in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from batched import CONTEXT, GREEDY, MODULE, VOCAB, alone, gpt, llama, prompts, slots, speaker
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.errors import UsageError
from kleiber.infer.batching import BatchedText, Slots
from kleiber.infer.batching.known_rows import KnownRows
from kleiber.infer.batching.onnxruntime_rows import OnnxRuntimeRows
from kleiber.infer.batching.row_stepper import cache_bytes, require_memory
from kleiber.infer.batching.rows_at_once import rows_at_once
from kleiber.infer.batching.torch_rows import TorchRows
from kleiber.infer.decoding.cached_forward import Heads, cached_heads
from kleiber.infer.decoding.open import step_model
from kleiber.infer.generation.request import Request
from kleiber.infer.generation.sampling import Sampling


class Marked:
    """A stepper whose rows hold numbers: what a token at a place is, so that a lost one shows.

    Attributes:
        num_read: Tokens that were read.
    """

    engine, precision, notes, context = "marked", "none", (), CONTEXT

    def __init__(self, num_rows):
        self.held = np.full((num_rows, CONTEXT), -1)
        self.reads = []

    def read(self, first, tokens_BT, num_read_B):
        self.reads.append((first, tokens_BT.tolist(), list(num_read_B)))
        logits = np.zeros((len(tokens_BT), VOCAB), np.float32)
        for row, (tokens, start) in enumerate(zip(tokens_BT, num_read_B, strict=True)):
            self.held[first + row, start : start + len(tokens)] = tokens
            # The next token follows from all that the row holds.
            logits[row, 1 + self.held[first + row, : start + len(tokens)].sum() % (VOCAB - 1)] = 1
        return logits

    def copy(self, source, target, num_tokens):
        self.held[target, :num_tokens] = self.held[source, :num_tokens]

    def clear(self):
        self.held[:] = -1

    def swap(self, row, other, num_tokens):
        before = self.held[row, :num_tokens].copy()
        self.held[row, :num_tokens] = self.held[other, :num_tokens]
        self.held[other, :num_tokens] = before


def continued(prompt, num):
    """Return what a stepper of marks writes."""
    tokens = list(prompt)
    for _ in range(min(num, CONTEXT + 1 - len(prompt))):
        tokens.append(1 + sum(tokens) % (VOCAB - 1))
    return tokens[len(prompt) :]


@settings(max_examples=60)
@given(data=st.data(), num_rows=st.integers(1, 4))
def test_texts_come_and_go_and_none_reads_what_another_holds(data, num_rows):
    stepper = Marked(num_rows)
    backend = Slots(stepper, num_rows, rows_at_once=data.draw(st.integers(1, 4)))
    texts = speaker(end_ids=())
    running, written, numbers = [], {}, itertools.count()
    stems = [[7] * 20, [7] * 20 + [9] * 10, [3]]
    for _ in range(data.draw(st.integers(1, 25))):
        if len(running) < num_rows and data.draw(st.booleans()):
            prompt = data.draw(st.sampled_from(stems)) + data.draw(st.lists(st.integers(1, 9), max_size=15))
            job = texts.job(prompt, Request(max_tokens=data.draw(st.integers(1, 12)), sampling=GREEDY))
            backend.admit(job)
            running.append(job)
            written[job] = (next(numbers), prompt, [])
        if running and data.draw(st.integers(0, 5)) == 0:
            gone = data.draw(st.sampled_from(running))
            running.remove(gone)
            backend.release(gone)
        for job, piece in backend.step():
            written[job][2].append(piece.token)
            if piece.finish is not None:
                running.remove(job)
                backend.release(job)
        assert 0 <= backend.cache_frac <= 1
    for _, prompt, tokens in written.values():
        assert tokens == continued(prompt, len(tokens))


def test_who_came_first_is_read_first_and_nobody_waits_for_a_whole_long_prompt(monkeypatch):
    monkeypatch.setattr("kleiber.infer.batching.slots._TOKENS_BESIDE", 8)
    stepper = Marked(4)
    backend, texts = Slots(stepper, 4), speaker(end_ids=())
    short, long, third = ([token] * num for token, num in ((2, 3), (5, 30), (6, 4)))
    jobs = {}
    for name, prompt in (("short", short), ("long", long), ("third", third)):
        jobs[texts.job(prompt, Request(max_tokens=12, sampling=GREEDY))] = name
    first, *others = jobs

    def step():
        return [jobs[job] for job, _ in backend.step()]

    backend.admit(first)
    order = [step()]
    for job in others:
        backend.admit(job)
    order += [step() for _ in range(6)]
    # 30 tokens are 8, 8, 8 and 6; the rest of the fourth step, 2, goes to the third prompt.
    assert order == [
        ["short"],
        *[["short"]] * 3,
        ["short", "long"],
        ["short", "long", "third"],
        ["short", "long", "third"],
    ]
    assert max(len(tokens[0]) for _, tokens, _ in stepper.reads) == 8


def test_as_many_rows_are_read_at_once_as_is_fastest(monkeypatch):
    class Timed:
        """A stepper that takes so long for each number of rows [ms]."""

        context = CONTEXT
        now = 0.0

        def __init__(self, *times):
            self.times = times

        def read(self, first, tokens_BT, num_read_B):
            assert (first, len(num_read_B), tokens_BT.shape[1]) == (0, len(tokens_BT), 1)
            Timed.now += dict(self.times)[len(tokens_BT)]

    monkeypatch.setattr("kleiber.infer.batching.rows_at_once.time.perf_counter", lambda: Timed.now)
    assert rows_at_once(Timed((1, 1.0), (2, 1.1), (4, 1.2), (8, 1.4), (12, 1.6)), 12) == 12
    assert rows_at_once(Timed((1, 1.0), (2, 1.1), (4, 1.2), (8, 3.0), (16, 6.0)), 16) == 4
    assert rows_at_once(Timed((1, 1.0), (2, 1.96), (4, 4.0)), 4) == 4  # too little to split for
    assert rows_at_once(Timed((1, 1.0)), 1) == 1


def test_many_rows_are_read_in_even_parts():
    stepper = Marked(5)
    backend, texts = Slots(stepper, 5, rows_at_once=2), speaker(end_ids=())
    for token in range(1, 6):
        backend.admit(texts.job([token], Request(max_tokens=9, sampling=GREEDY)))
    backend.step()
    stepper.reads.clear()
    backend.step()
    assert [(first, len(tokens)) for first, tokens, _ in stepper.reads] == [(0, 2), (2, 1), (3, 2)]


def num_read(stepper):
    """Return how many tokens a stepper read since it was last asked."""
    num = sum(len(row) for _, rows, _ in stepper.reads for row in rows)
    stepper.reads.clear()
    return num


def test_what_a_row_holds_is_not_read_again():
    stepper = Marked(3)
    backend, texts = Slots(stepper, 3), speaker(end_ids=())

    def write(*asked, num=2):
        open_jobs = [texts.job(prompt, Request(max_tokens=num, sampling=GREEDY)) for prompt in asked]
        for job in open_jobs:
            backend.admit(job)
        while open_jobs:
            for job, piece in backend.step():
                if piece.finish is not None:
                    backend.release(job)
                    open_jobs.remove(job)
        return num_read(stepper)

    stem = list(range(1, 21))
    assert write(stem) == 21  # and the token after it, which was written
    whole = stem + continued(stem, 2)
    assert (
        write([*whole, 4]) == 3
    )  # a text that goes on from one that is over: the last written token, and 4, and one more
    assert write([*stem, 30], [*stem, 31], [*stem, 32]) == 3 + 3
    assert write(stem[:15]) == 16  # too little is shared to copy it
    assert write(stem) == 2  # never all of it: what follows the last token is asked


def test_the_row_that_was_longest_unused_is_taken():
    rows = KnownRows(Marked(3), 3)
    for token in (1, 2, 3):
        row = rows.begin([token] * 30, 0)
        rows.tokens(row).extend([token] * 29)
    assert rows.begin([1] * 40, 0) == 0  # goes on from what it holds
    assert rows.begin([9] * 5, 0) == 1
    assert rows.begin([3] * 20 + [4] * 9, 0) == 2  # the rest of it is forgotten
    assert rows.tokens(2) == [3] * 20
    assert rows.begin([8], 2) == 2  # the first two are taken


@pytest.fixture(scope="module")
def turned():
    """Return a module whose heads are so large that ONNX Runtime turns them by the positions of each row, and its step."""
    pytest.importorskip("onnxruntime")
    module = gpt(head_dim=16)
    return module, step_model("onnxruntime", module)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_rows_of_an_engine_read_copy_and_swap(engine, request):
    module = MODULE
    if engine == "torch":
        stepper = TorchRows(MODULE, cached_heads(MODULE), 4, 1)
    else:
        module, step = request.getfixturevalue("turned")
        stepper = OnnxRuntimeRows(step, cached_heads(module), 4, 1)
    one, two, three = ([*prompt, 5] for prompt in prompts(3, seed=4))

    def expected(tokens):
        with torch.no_grad():
            return module(torch.tensor([tokens]))[0, -1].numpy()

    def read(first, tokens, starts):
        return stepper.read(first, np.array(tokens), starts).copy()

    def same(found, *texts):
        np.testing.assert_allclose(found, [expected(text) for text in texts], atol=2e-5)

    same(read(1, [one], [0]), one)
    same(read(2, [two[:3]], [0]), two[:3])
    same(read(2, [two[3:]], [3]), two)  # on from a part
    same(read(1, [[7], [8]], [len(one), len(two)]), [*one, 7], [*two, 8])
    stepper.swap(1, 2, max(len(one), len(two)) + 1)
    same(read(1, [[9], [6]], [len(two) + 1, len(one) + 1]), [*two, 8, 9], [*one, 7, 6])
    stepper.copy(2, 0, len(one))
    same(read(0, [[4]], [len(one)]), [*one, 4])
    same(read(3, [three], [0]), three)
    same(read(0, [[3]] * 4, [0, len(two), len(one), len(three)]), [3], [*two, 3], [*one, 3], [*three, 3])


def test_texts_in_onnxruntime_are_those_written_alone(turned):
    module, step = turned
    stepper = OnnxRuntimeRows(step, cached_heads(module), 3, 1)
    sampled = Sampling(temperature=1.3, top_p=0.9, repetition_penalty=1.2)
    asked = [
        (prompt, Request(max_tokens=3 + 4 * index, sampling=sampled if index % 2 else GREEDY, seed=index))
        for index, prompt in enumerate(prompts(7))
    ]
    with BatchedText(Slots(stepper, 3), speaker(), max_running=3) as batch:
        handles = [batch.submit(prompt, request) for prompt, request in asked]
        written = [[piece.token for piece in handle] for handle in handles]
    assert written == [alone(prompt, request, module=module) for prompt, request in asked]


def test_a_model_of_transformers_goes_over_rows_of_onnxruntime(tmp_path):
    pytest.importorskip("onnxruntime")
    module = llama(tmp_path)
    heads = Heads(2, 2, 8, 40)  # less than the model reads
    stepper = OnnxRuntimeRows(step_model("onnxruntime", module), heads, 2, 1)
    request = Request(max_tokens=6, sampling=GREEDY)
    with BatchedText(Slots(stepper, 2), speaker(), max_running=2) as batch:
        handles = [batch.submit(prompt, request) for prompt in prompts(4)]
        written = [[piece.token for piece in handle] for handle in handles]
    assert written == [alone(prompt, request, module=module) for prompt in prompts(4)]


def test_logits_that_are_not_finite_end_the_texts_and_leave_nothing_behind():
    backend = slots(2)
    with BatchedText(backend, speaker(), max_running=2) as batch:
        torch_rows = backend._stepper
        good = torch_rows.read

        def spoilt(*asked):
            torch_rows._cache._values_LRKSH.fill_(np.nan)
            return good(*asked) * np.nan

        torch_rows.read = spoilt
        with pytest.raises(Exception, match="the model's output is not finite"):
            batch.submit([1] * 20, Request(max_tokens=3)).text()
        torch_rows.read = good
        request = Request(max_tokens=9, sampling=GREEDY)
        handles = [batch.submit(prompt, request) for prompt in ([1] * 20, [2])]
        written = [[piece.token for piece in handle] for handle in handles]
    assert written == [alone(prompt, request) for prompt in ([1] * 20, [2])]


def test_a_cache_is_counted_before_it_is_made(monkeypatch):
    heads = Heads(depth=3, num_kv_heads=2, head_dim=16, context=1000)
    assert cache_bytes(heads, 4) == 4 * 3 * 2 * 2 * 16 * 1000 * 4
    monkeypatch.setattr("kleiber.infer.batching.row_stepper.free_memory_bytes", lambda: 3_000_000)
    require_memory(heads, 3)
    with pytest.raises(
        UsageError, match=r"keys and values of 4 texts of 1,000 tokens take 3\.07 MB; 3\.00 MB are free"
    ):
        require_memory(heads, 4)
