from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from scripted_models import CONTEXT, random_table, scripted_table, stepper_of, table_model

from kleiber.errors import UsageError
from kleiber.infer.generation import Request, Sampling, TextGenerator, generate, probabilities
from kleiber.infer.generation.speculation import Draft, DraftModel, PromptLookup, Speculator, verified
from kleiber.infer.generation.speculation.accept import rest
from kleiber.infer.generation.speculation.drafter import Drafter, Outlook

GREEDY = Sampling(temperature=0)
VOCAB = 4
SETTINGS = [
    Sampling(temperature=1.0),
    Sampling(temperature=1.5, top_p=0.8),
    Sampling(temperature=0.7, top_k=2),
    Sampling(temperature=2.0, min_p=0.3, repetition_penalty=1.7),
]


class Steady:
    """Drafts the same number of tokens each time, whatever it costs."""

    def __init__(self, num: int) -> None:
        self._num = num

    def rests(self) -> bool:
        return False

    def choose(self, occasion: int, most: int, outlook: Outlook) -> int:
        del occasion, outlook
        return min(self._num, most)

    def timed(self, num_drafted: int, time_s: float, *, num_written: int) -> None:
        del num_drafted, time_s, num_written

    def judged(self, occasion: int, *, num_drafted: int, num_kept: int) -> None:
        del occasion, num_drafted, num_kept


def steadily(generator: TextGenerator, num: int) -> TextGenerator:
    generator._speculator._pace = Steady(num)  # type: ignore[union-attr,assignment]
    return generator


def tokens_of(generator: TextGenerator, prompt: list[int], request: Request) -> list[int]:
    return [piece.token for piece in generator.generate([prompt], request)]


# --- The rule


def distributions(size: int) -> st.SearchStrategy[np.ndarray]:
    weights = st.lists(st.integers(0, 8), min_size=size, max_size=size).filter(any)
    return weights.map(lambda found: np.array(found) / sum(found))


@given(p_V=distributions(5), q_V=distributions(5))
@settings(max_examples=200)
def test_draft_and_rest_together_are_the_model_exactly(p_V: np.ndarray, q_V: np.ndarray) -> None:
    """Adds up, over all drafts, the part of the numbers at which each outcome comes."""
    spread_V = np.zeros(5)
    grid = (np.arange(1000) + 0.5) / 1000
    for drafted in np.flatnonzero(q_V):
        kept = np.mean([verified(p_V, drafted, q_V, u, 0.5) == drafted for u in grid])
        assert kept == pytest.approx(min(1, p_V[drafted] / q_V[drafted]), abs=1e-3)
        spread_V[drafted] += q_V[drafted] * min(1, p_V[drafted] / q_V[drafted])
        left_V = rest(p_V, q_V)
        spread_V += q_V[drafted] * (1 - min(1, p_V[drafted] / q_V[drafted])) * left_V / left_V.sum()
    assert np.allclose(spread_V, p_V)


def test_the_rest_is_drawn_as_it_is_spread() -> None:
    p_V, q_V = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.1, 0.2, 0.0, 0.7])  # the rest: 0.4, 0.1, 0.2, 0
    drawn = [verified(p_V, 3, q_V, 0.5, (place + 0.5) / 70) for place in range(70)]
    assert Counter(drawn) == {0: 40, 1: 10, 2: 20}


def test_vocabularies_may_differ_at_their_end() -> None:
    longer, shorter = np.array([0.2, 0.3, 0.5]), np.array([0.2, 0.8])
    assert verified(shorter, 2, longer, 0.0, 0.9) == 1  # what the model has not is never kept
    assert rest(longer, shorter).tolist() == [0.0, 0.0, 0.5]
    assert rest(longer, longer).tolist() == longer.tolist()


# --- Whole texts


def spread(model_table: np.ndarray, prompt: Sequence[int], num: int, sampling: Sampling) -> dict[Any, float]:
    """How probable each text of `num` tokens is, by multiplying along all of them."""

    def go(text: tuple[int, ...], mass: float) -> Iterator[tuple[tuple[int, ...], float]]:
        if len(text) == num:
            yield text, mass
            return
        tokens = [0, *prompt, *text]
        probs = probabilities(model_table[tokens[-2], tokens[-1]][None], sampling, [tokens[1:]])[0]
        for token in np.flatnonzero(probs):
            yield from go((*text, int(token)), mass * probs[token])

    return dict(go((), 1.0))


@pytest.mark.parametrize(
    ("sampling", "num_drafted"), [(SETTINGS[0], 1), *((sampling, 2) for sampling in SETTINGS)]
)
def test_sampled_text_with_a_draft_model_is_spread_as_without(sampling: Sampling, num_drafted: int) -> None:
    table = random_table(VOCAB, sharpness=1.0)
    draft = table_model(table + random_table(VOCAB, seed=1, sharpness=1.0))
    generator = steadily(TextGenerator(table_model(table), draft), num_drafted)
    expected = spread(table, [1], 3, sampling)
    num = 2000
    drawn = Counter(
        tuple(tokens_of(generator, [1], Request(max_tokens=3, sampling=sampling, seed=seed)))
        for seed in range(num)
    )
    assert set(drawn) <= set(expected)
    common = [text for text, mass in expected.items() if mass * num >= 8]
    seen = [drawn[text] for text in common]
    meant = [expected[text] * num for text in common]
    others = (num - sum(seen), num - sum(meant))
    if others[1] > 1e-6:
        seen, meant = [*seen, others[0]], [*meant, others[1]]
    assert chisquare(seen, np.array(meant) * (sum(seen) / sum(meant))).pvalue > 1e-3
    done = generator.speculation
    assert done is not None
    assert 0 < done.num_kept < done.num_drafted  # both of the rule's branches were taken


def test_a_rule_that_always_keeps_would_be_seen() -> None:
    """The test above can fail: the draft's own spread is another."""
    table = random_table(VOCAB, sharpness=1.0)
    draft = table + random_table(VOCAB, seed=1, sharpness=1.0)
    ours, other = (spread(one, [1], 4, SETTINGS[0]) for one in (table, draft))
    meant = [ours[text] * 3000 for text in ours]
    seen = [other.get(text, 0.0) * 3000 for text in ours]
    assert chisquare(seen, np.array(meant) * (sum(seen) / sum(meant))).pvalue < 1e-9


@given(
    seed=st.integers(0, 10_000),
    num_drafted=st.integers(1, 8),
    prompt=st.lists(st.integers(0, 3), min_size=1, max_size=9),
)
@settings(max_examples=60)
def test_greedy_text_is_the_same_with_any_draft(seed: int, num_drafted: int, prompt: list[int]) -> None:
    """Also where the context is full, and where the draft's is another."""
    table, request = random_table(VOCAB, seed), Request(max_tokens=2 * CONTEXT, sampling=GREEDY)
    alone = [piece.token for piece in generate(table_model(table), prompt, request)]
    for draft in ("lookup", table_model(table + random_table(VOCAB, seed + 1, 0.5), context=11)):
        generator = steadily(TextGenerator(table_model(table), draft), num_drafted)  # type: ignore[arg-type]
        assert tokens_of(generator, prompt, request) == alone
        assert tokens_of(generator, prompt, request) == alone  # and again, from what it holds


@pytest.mark.parametrize("sampling", SETTINGS)
def test_what_is_looked_up_changes_not_one_token_of_sampled_text(sampling: Sampling) -> None:
    table = random_table(VOCAB)
    generator = steadily(TextGenerator(table_model(table, context=40), "lookup"), 4)
    for seed in range(20):
        request = Request(max_tokens=30, sampling=sampling, seed=seed)
        alone = [piece.token for piece in generate(table_model(table, context=40), [1, 2, 1, 2], request)]
        assert tokens_of(generator, [1, 2, 1, 2], request) == alone
    assert generator.speculation is not None
    assert generator.speculation.num_kept > 50


def test_the_logprobs_and_the_end_are_those_without_a_draft() -> None:
    table = random_table(VOCAB)
    request = Request(max_tokens=14, sampling=Sampling(temperature=1), num_logprobs=2, stop=("bd",), seed=3)
    model = table_model(table, end_ids=frozenset([0]))
    for seed in range(30):
        asked = Request(**{**vars(request), "seed": seed})
        alone = list(generate(model, [1, 2, 1, 2], asked))
        generator = steadily(TextGenerator(table_model(table, end_ids=frozenset([0])), "lookup"), 8)
        assert list(generator.generate([[1, 2, 1, 2]], asked)) == alone


def test_a_good_draft_saves_rounds() -> None:
    table = random_table(VOCAB)
    model, draft = table_model(table, context=64), table_model(table, context=64)
    generator = steadily(TextGenerator(model, draft), 4)
    stepper_of(draft).steps.clear()  # of the trial that tells what it takes
    tokens_of(generator, [1], Request(max_tokens=41, sampling=Sampling(temperature=1)))
    assert len(stepper_of(model).steps) == 1 + 8  # each round writes 5
    done = generator.speculation
    assert done is not None
    assert (done.num_drafted, done.num_kept, done.num_rounds, done.num_rounds_drafted) == (32, 32, 8, 8)
    # The draft reads each token once, and no more than what it had not written itself.
    assert max(len(step[0]) for step in stepper_of(draft).steps) <= 2


def test_no_more_is_drafted_than_may_be_written() -> None:
    table = random_table(VOCAB)
    model = table_model(table, context=64)
    tokens_of(steadily(TextGenerator(model, table_model(table)), 8), [1], Request(max_tokens=4))
    assert [len(step[0]) for step in stepper_of(model).steps] == [1, 3]


def test_a_draft_ends_where_it_ends_the_text() -> None:
    table = scripted_table([1, 2, 3, 0], VOCAB)
    draft = table_model(table, end_ids=frozenset([3]))
    model = table_model(table, end_ids=frozenset([3]))
    assert tokens_of(steadily(TextGenerator(model, draft), 8), [0], Request(sampling=GREEDY)) == [1, 2, 3]
    assert [len(step[0]) for step in stepper_of(model).steps] == [1, 3]


def test_a_draft_with_other_tokens_is_refused() -> None:
    with pytest.raises(UsageError, match=r"their tokenizers are not the same\. Got '5 tokens, and 4'"):
        TextGenerator(table_model(random_table(4)), table_model(random_table(5)))


# --- Looking up


def looked_up(tokens: list[int], num: int = 4) -> tuple[int | None, tuple[int, ...]]:
    lookup = PromptLookup()
    occasion = lookup.occasion(tokens)
    return occasion, lookup.propose(tokens, num, GREEDY, np.random.default_rng(0)).tokens


def test_the_longest_known_end_is_looked_up_at_its_latest_place() -> None:
    assert looked_up([1, 2, 3, 4, 5, 6]) == (None, ())
    assert looked_up([1, 2, 9, 1, 2, 8, 7, 1, 2]) == (2, (8, 7, 1, 2))
    assert looked_up([5, 1, 2, 9, 4, 6, 1, 2, 8, 5, 1, 2]) == (3, (9, 4, 6, 1))
    assert looked_up([1, 1]) == (None, ())
    assert looked_up([1, 1, 1]) == (2, (1, 1, 1, 1))


@given(tokens=st.lists(st.integers(0, 2), min_size=1, max_size=40), cut=st.integers(1, 40))
def test_looking_up_as_a_text_grows_is_looking_up_in_the_whole(tokens: list[int], cut: int) -> None:
    lookup = PromptLookup()
    lookup.occasion(tokens[:cut])
    assert lookup.occasion(tokens) == looked_up(tokens)[0]
    occasion = looked_up(tokens)[0]
    if occasion is not None:
        assert any(tokens[i : i + occasion] == tokens[-occasion:] for i in range(len(tokens) - occasion))


# --- When it is worth it


class Silent:
    """Never drafts, but would always be right: it knows the text."""

    is_free = True

    def __init__(self, text: list[int]) -> None:
        self._text = text

    def begin(self) -> None:
        pass

    def occasion(self, tokens: Sequence[int]) -> int | None:
        del tokens
        return 1

    def outlook(self, occasion: int, tokens: Sequence[int]) -> Outlook:
        del occasion, tokens
        return Outlook()

    def propose(self, tokens: Sequence[int], num: int, sampling: Sampling, rng: np.random.Generator) -> Any:
        del sampling, rng
        return Draft(tuple(self._text[len(tokens) : len(tokens) + num]))


def test_a_free_draft_is_judged_where_it_is_not_used() -> None:
    judged: list[tuple[int, int]] = []
    pace = Steady(0)
    pace.judged = lambda _, *, num_drafted, num_kept: judged.append((num_drafted, num_kept))  # type: ignore[method-assign,assignment,misc]
    text = [token % 5 for token in range(60)]
    drafter: Drafter = Silent([*text[:20], 4, *text[21:]])  # wrong once: token 20 is 0
    speculator = Speculator(drafter, pace)  # type: ignore[arg-type]
    speculator.begin()
    for length in range(1, 40):
        draft = speculator.draft(text[:length], 16, GREEDY, np.random.default_rng(0))
        assert draft.tokens == ()
        speculator.judge(draft, 0, text[: length + 1], 0.1)
    assert judged[:2] == [(16, 16), (16, 3)]


def test_a_longer_match_promises_more() -> None:
    lookup = PromptLookup()
    rates = [lookup.outlook(length, []).rate for length in (2, 3, 5, 8)]
    assert rates == sorted(rates)
    assert lookup.outlook(8, []).behind_s == 0


def test_a_draft_model_knows_what_it_takes_before_the_first_text() -> None:
    table = random_table(VOCAB)
    draft = DraftModel(table_model(table, context=64), table_model(table))
    draft.begin()
    first = draft.outlook(0, [1, 2, 3, 1, 2])
    assert first.each_s > 0
    assert first.behind_s > 0
    assert draft.outlook(0, [1] * 9).behind_s == pytest.approx(2 * first.behind_s)
    draft.propose([1, 2, 3, 1, 2], 2, GREEDY, np.random.default_rng(0))
    assert draft.outlook(0, [1, 2, 3, 1, 2, 3, 1]).behind_s == 0  # it has read what it wrote
    assert draft.outlook(0, [1, 2, 3, 1, 2, 3, 1, 1, 1]).behind_s == pytest.approx(first.behind_s / 4)
    draft.begin()
    assert draft.outlook(0, [1, 2, 3, 1, 2]) == first


def test_a_draft_with_a_short_context_is_tried_within_it() -> None:
    table = random_table(VOCAB)
    assert DraftModel(table_model(table, context=2), table_model(table)).outlook(0, [1]).each_s > 0


def test_a_round_whose_draft_is_wrong_is_timed_as_it_was_asked() -> None:
    timed: list[tuple[int, int]] = []
    pace = Steady(4)
    pace.timed = lambda num_drafted, _, *, num_written: timed.append((num_drafted, num_written))  # type: ignore[method-assign,assignment,misc]
    table = random_table(VOCAB)
    generator = TextGenerator(table_model(table, context=64), "lookup")
    generator._speculator._pace = pace  # type: ignore[union-attr,assignment]
    text = tokens_of(generator, [1, 2, 1, 2], Request(max_tokens=40, sampling=Sampling(temperature=1)))
    drafted = [num_written for num_drafted, num_written in timed if num_drafted]
    assert sum(num_written for _, num_written in timed) == len(text) - 1  # every round but the prompt's
    assert set(drafted) > {1}
    assert (4, 1) in timed
