from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scripted_models import (
    CONTEXT,
    random_table,
    scripted_table,
    stepper_of,
    table_model,
)

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.errors import KleiberError, UsageError
from kleiber.infer.generation import Piece, Request, Sampling, TextGenerator, generate

GREEDY = Sampling(temperature=0)
TABLE = random_table(6)
FREE = Sampling(temperature=1)


def written(model: Any, prompts: list[Any], request: Request) -> list[list[Piece]]:
    """The pieces of each text."""
    pieces = list(TextGenerator(model).generate(prompts, request))
    num_texts = len(prompts) * request.num_samples
    return [[piece for piece in pieces if piece.index == index] for index in range(num_texts)]


def tokens_of(pieces: list[Piece]) -> list[int]:
    return [piece.token for piece in pieces]


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def by_hand(prompt: list[int], num: int) -> list[int]:
    tokens = [0, *prompt]
    for _ in range(num):
        tokens.append(int(TABLE[tokens[-2], tokens[-1]].argmax()))
    return tokens[1 + len(prompt) :]


def test_greedy_text_is_the_likeliest_each_time() -> None:
    pieces = list(generate(table_model(TABLE), "bc", Request(max_tokens=8, sampling=GREEDY)))
    assert tokens_of(pieces) == by_hand([1, 2], 8)
    assert text_of(pieces) == "".join(chr(97 + token) for token in tokens_of(pieces))
    assert [piece.finish for piece in pieces] == [None] * 7 + ["length"]


def test_the_seed_decides_the_text() -> None:
    def text(seed: int) -> list[int]:
        request = Request(max_tokens=12, sampling=FREE, seed=seed)
        return tokens_of(list(generate(table_model(TABLE), [1], request)))

    assert text(3) == text(3)
    assert len({tuple(text(seed)) for seed in range(5)}) > 1


def test_texts_side_by_side_are_those_that_would_be_written_alone() -> None:
    prompts = [[1, 2, 3, 4, 5], [2], [5, 5, 1], [2]]
    request = Request(max_tokens=9, sampling=FREE, seed=7)
    together = written(table_model(TABLE), prompts, request)
    alone = [list(generate(table_model(TABLE), prompt, request)) for prompt in prompts]
    assert [tokens_of(text) for text in together] == [tokens_of(text) for text in alone]
    assert [text[-1].finish for text in together] == ["length"] * 4


def test_samples_of_a_prompt_differ_and_do_not_depend_on_their_number() -> None:
    few = written(table_model(TABLE), [[1]], Request(max_tokens=9, sampling=FREE, num_samples=2))
    many = written(table_model(TABLE), [[1], [2]], Request(max_tokens=9, sampling=FREE, num_samples=5))
    assert len(many) == 10
    assert [tokens_of(text) for text in many[:2]] == [tokens_of(text) for text in few]
    assert len({tuple(tokens_of(text)) for text in many[:5]}) == 5


def test_one_prompt_is_read_by_all_its_samples_at_once() -> None:
    model = table_model(TABLE)
    list(TextGenerator(model).generate([[1, 2]], Request(max_tokens=3, num_samples=4)))
    assert stepper_of(model).steps[0] == [[1, 2]] * 4
    assert len(stepper_of(model).steps) == 3


def test_more_texts_than_go_side_by_side_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kleiber.infer.generation.generator._MAX_SIDE_BY_SIDE", 2)
    model = table_model(TABLE)
    prompts = [[1, 2, 3], [2], [3, 4, 5], [4]]
    texts = written(model, prompts, Request(max_tokens=2, sampling=GREEDY))
    assert [tokens_of(text) for text in texts] == [by_hand(prompt, 2) for prompt in prompts]
    assert stepper_of(model).steps[0] == [[2], [4]]  # as long as each other


def test_a_text_ends_where_the_model_ends_it() -> None:
    model = table_model(scripted_table([3, 4, 5, 2], 6), end_ids=frozenset([2, 5]))
    pieces = list(generate(model, "a", Request(sampling=GREEDY)))
    assert pieces == [Piece(0, 3, "d"), Piece(0, 4, "e"), Piece(0, 5, "", finish="end")]


def test_a_text_that_is_over_waits_for_the_others() -> None:
    model = table_model(scripted_table([1, 2, 3, 4, 5], 6), end_ids=frozenset([5]))
    texts = written(model, [[4], [1]], Request(max_tokens=10, sampling=GREEDY))
    assert [tokens_of(text) for text in texts] == [[5], [2, 3, 4, 5]]


def test_the_last_token_is_not_read_for_nothing() -> None:
    model = table_model(scripted_table([1, 2, 3], 6))
    list(generate(model, [0], Request(max_tokens=3, sampling=GREEDY)))
    assert stepper_of(model).steps == [[[0]], [[1]], [[2]]]


@pytest.mark.parametrize("draft", [None, "lookup"])
def test_a_full_context_starts_from_its_later_half(draft: Any) -> None:
    model = table_model(scripted_table([1, 2, 3, 4, 5], 6), context=4)
    list(generate(model, [0], Request(max_tokens=6, sampling=GREEDY), draft=draft))
    assert stepper_of(model).steps[:5] == [[[0]], [[1]], [[2]], [[3]], [[3, 4]]]


def test_of_texts_that_are_over_nothing_is_read_when_the_context_is_full() -> None:
    model = table_model(scripted_table([1, 2, 3, 4, 5, 0], 7), context=4, end_ids=frozenset([2]))
    texts = written(model, [[1], [3]], Request(max_tokens=6, sampling=GREEDY))
    assert [tokens_of(text) for text in texts] == [[2], [4, 5, 0, 1, 2]]
    assert stepper_of(model).steps[-1] == [[0, 1]]


def test_text_goes_on_past_the_context() -> None:
    request = Request(max_tokens=3 * CONTEXT, sampling=FREE)
    assert len(list(generate(table_model(TABLE), [1], request))) == 3 * CONTEXT


def test_a_stop_string_ends_a_text_and_is_no_part_of_it() -> None:
    model = table_model(scripted_table([1, 2, 3, 4, 5], 6))
    pieces = list(generate(model, "a", Request(sampling=GREEDY, stop=("xx", "de"))))
    assert [piece.text for piece in pieces] == ["b", "c", "", ""]
    assert pieces[-1].finish == "stop"
    # What is held back comes where it became no stop string.
    pieces = list(generate(model, "a", Request(sampling=GREEDY, stop=("dx", "fab"), max_tokens=5)))
    assert [piece.text for piece in pieces] == ["b", "c", "", "de", "f"]
    assert pieces[-1].finish == "length"


def test_a_stop_string_stands_across_the_borders_of_tokens() -> None:
    bytes_ = TextTokenizer(train_tokenizer(["def read"], 257, source="text:test"))
    tokens = bytes_.backend.encode("a語b").ids
    model = table_model(scripted_table(tokens[1:], 257), tokenizer=bytes_)
    pieces = list(generate(model, tokens[:1], Request(sampling=GREEDY, stop=("語b",), max_tokens=9)))
    assert (text_of(pieces), len(pieces), pieces[-1].finish) == ("", 4, "stop")
    pieces = list(generate(model, tokens[:1], Request(sampling=GREEDY, stop=("\ufffd",), max_tokens=2)))
    assert (text_of(pieces), pieces[-1].finish) == ("", "stop")  # a character that was torn at the end


def test_logprobs_are_the_models_whatever_is_drawn() -> None:
    request = Request(max_tokens=5, sampling=Sampling(temperature=2, top_k=2), num_logprobs=2)
    tokens = [0, 1]
    for piece in generate(table_model(TABLE), [1], request):
        expected = torch.from_numpy(TABLE[tokens[-2], tokens[-1]]).log_softmax(0)
        assert piece.logprob == pytest.approx(float(expected[piece.token]), abs=1e-5)
        assert [token for token, _ in piece.likeliest] == expected.topk(2).indices.tolist()
        tokens.append(piece.token)
    assert next(generate(table_model(TABLE), [1])).logprob is None


def test_tokens_that_occurred_are_penalized_prompt_included() -> None:
    table = np.zeros((4, 4, 4), np.float32) + np.array([3.0, 2.9, 2.8, 2.7], np.float32)
    sampling = Sampling(temperature=0, repetition_penalty=2.0)
    texts = written(table_model(table), [[0], [1, 0]], Request(max_tokens=3, sampling=sampling))
    assert [tokens_of(text) for text in texts] == [[1, 2, 3], [2, 3, 0]]


def test_a_second_prompt_reads_only_what_is_new() -> None:
    model = table_model(TABLE)
    generator, request = TextGenerator(model), Request(max_tokens=3, sampling=GREEDY)
    first = tokens_of(list(generator.generate([[1, 2, 3, 4]], request)))
    stepper_of(model).steps.clear()
    second = list(generator.generate([[1, 2, 3, 4, *first, 5]], request))
    assert stepper_of(model).steps[0] == [[first[-1], 5]]
    assert tokens_of(second) == tokens_of(
        list(generate(table_model(TABLE), [1, 2, 3, 4, *first, 5], request))
    )


def test_a_reader_that_stops_listening_leaves_all_in_order() -> None:
    generator = TextGenerator(table_model(TABLE), "lookup")
    request = Request(max_tokens=12, sampling=GREEDY)
    iterator = generator.generate([[1, 2]], request)
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert tokens_of(list(generator.generate([[1, 2]], request))) == by_hand([1, 2], 12)


def test_texts_begin_as_the_models_do() -> None:
    model = table_model(TABLE, start_ids=(5,))
    list(generate(model, "b", Request(max_tokens=1)))
    list(generate(model, [1], Request(max_tokens=1)))
    assert stepper_of(model).steps == [[[5, 1]], [[1]]]


def test_typed_text_never_is_a_special_token() -> None:
    bytes_ = TextTokenizer(train_tokenizer(["def read"], 257, source="text:test"))
    model = table_model(np.zeros((1, 1, 1), np.float32), tokenizer=bytes_)
    model.decoder.prefill = lambda tokens_BT: pytest.fail(f"{tokens_BT}") if 0 in tokens_BT else 1 / 0
    with pytest.raises(ZeroDivisionError):
        next(generate(model, "<|endoftext|>"))
    assert not bytes_.backend.encode_special_tokens


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("", {}, "the prompt is empty: the model needs something to go on from"),
        ([], {}, "the prompt is empty"),
        ("b" * 17, {}, "the prompt is 17 tokens long; the model reads at most 16"),
        ([1, 6], {}, r"a token of this model is from 0 to 5\. Got 6"),
        ([-1], {}, r"a token of this model is from 0 to 5\. Got -1"),
        ("b", {"max_tokens": 0}, r"max_tokens must be 1 or more\. Got 0"),
        ("b", {"seed": -1}, r"seed must be 0 or more\. Got -1"),
        ("b", {"stop": ("a", "")}, r"a stop string must have a character\. Got \('a', ''\)"),
        ("b", {"num_logprobs": -1}, r"num_logprobs must be 0 or more\. Got -1"),
        ("b", {"num_samples": 0}, r"num_samples must be 1 or more\. Got 0"),
    ],
)
def test_what_cannot_be_generated_is_refused_at_once(
    prompt: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        generate(table_model(TABLE), prompt, Request(**options))


def test_a_draft_helps_one_text() -> None:
    generator = TextGenerator(table_model(TABLE), "lookup")
    for prompts, request in (([[1], [2]], Request()), ([[1]], Request(num_samples=2))):
        with pytest.raises(UsageError, match=r"a draft helps one text at a time\. Got '2 texts'"):
            generator.generate(prompts, request)


def test_a_damaged_model_writes_nothing() -> None:
    table = TABLE.copy()
    table[:, 1] = np.nan
    with pytest.raises(KleiberError, match="output is not finite"):
        next(generate(table_model(table), [1]))
