from __future__ import annotations

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kleiber.data.batches import num_sequences, ordered_batches, sequence_order, shuffled_batches

CONTEXT = 4
TOKENS = np.arange(30, dtype=np.uint16)  # 7 sequences of 4 targets; a token is its own position


def starts_of(batch_tokens: np.ndarray) -> list[int]:
    return (batch_tokens[:, 0] // CONTEXT).tolist()


def test_targets_are_the_inputs_one_on() -> None:
    batch = next(shuffled_batches(TOKENS, context=CONTEXT, seed=0, cursor=0, batch_size=3))
    assert batch.tokens.shape == (3, CONTEXT + 1)
    assert batch.tokens.dtype == np.int64
    assert (batch.tokens[:, 1:] == batch.tokens[:, :-1] + 1).all()
    assert batch.cursor == 3


@given(st.integers(0, 2**31 - 1), st.integers(1, 20))
def test_an_epoch_sees_every_sequence_once(seed: int, batch_size: int) -> None:
    batches = shuffled_batches(TOKENS, context=CONTEXT, seed=seed, cursor=0, batch_size=batch_size)
    seen = [start for batch in islice(batches, 21) for start in starts_of(batch.tokens)]
    for epoch in range(len(seen) // 7):
        assert sorted(seen[7 * epoch : 7 * epoch + 7]) == list(range(7))


def test_each_epoch_has_the_order_of_its_number() -> None:
    batches = shuffled_batches(TOKENS, context=CONTEXT, seed=3, cursor=0, batch_size=5)
    seen = [start for batch in islice(batches, 5) for start in starts_of(batch.tokens)]
    orders = [sequence_order(7, seed=3, epoch=epoch).tolist() for epoch in range(4)]
    assert seen == [start for order in orders for start in order][:25]
    assert orders[0] != orders[1] != orders[2]


@given(st.integers(0, 100), st.integers(1, 10), st.integers(1, 9))
def test_a_saved_cursor_goes_on_where_it_stopped(cursor: int, batch_size: int, num_batches: int) -> None:
    whole = list(
        islice(
            shuffled_batches(TOKENS, context=CONTEXT, seed=3, cursor=cursor, batch_size=batch_size),
            num_batches + 1,
        )
    )
    resumed = next(
        shuffled_batches(
            TOKENS, context=CONTEXT, seed=3, cursor=whole[num_batches - 1].cursor, batch_size=batch_size
        )
    )
    np.testing.assert_array_equal(resumed.tokens, whole[num_batches].tokens)
    assert resumed.cursor == whole[num_batches].cursor == cursor + (num_batches + 1) * batch_size


def test_the_order_is_of_the_cursor_not_of_the_batch_size() -> None:
    def first_12(batch_size: int) -> list[int]:
        batches = shuffled_batches(TOKENS, context=CONTEXT, seed=5, cursor=2, batch_size=batch_size)
        return [start for batch in islice(batches, 12 // batch_size) for start in starts_of(batch.tokens)]

    assert first_12(1) == first_12(4) == first_12(12)


def test_seeds_and_epochs_have_their_own_orders() -> None:
    orders = {
        tuple(sequence_order(50, seed, epoch).tolist())
        for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    }
    assert len(orders) == 5


def test_the_order_never_changes() -> None:
    # Golden: a resumed run would silently see other batches if these moved.
    assert sequence_order(10, seed=1, epoch=2).tolist() == [4, 2, 0, 6, 1, 5, 9, 8, 7, 3]


def test_validation_is_one_pass_in_order_with_a_short_end() -> None:
    starts = np.array([0, 8, 20])
    batches = list(ordered_batches(TOKENS, starts, context=CONTEXT, cursor=0, batch_size=2))
    assert [starts_of(batch.tokens) for batch in batches] == [[0, 2], [5]]
    assert [batch.cursor for batch in batches] == [2, 3]
    assert list(ordered_batches(TOKENS, starts, context=CONTEXT, cursor=3, batch_size=2)) == []


@given(st.integers(0, 1000), st.integers(2, 50))
def test_the_last_sequence_fits_and_no_further_one_would(num_tokens: int, context: int) -> None:
    num = num_sequences(num_tokens, context)
    assert num == 0 or (num - 1) * context + context + 1 <= num_tokens
    assert num * context + context + 1 > num_tokens
