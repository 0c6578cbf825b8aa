from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_models import CONTEXT, random_table, stepper_of, table_model

from kleiber.infer.generation.reader import Reader

TABLE = random_table(6)
rows = st.lists(st.integers(0, 5), min_size=1, max_size=CONTEXT)


@given(texts=st.lists(rows, min_size=1, max_size=5), shared=st.integers(0, CONTEXT))
@settings(max_examples=100)
def test_what_is_held_changes_no_logits(texts: list[list[int]], shared: int) -> None:
    reader = Reader(table_model(TABLE).decoder)
    for text in texts:
        tokens = [*texts[0][:shared], *text][:CONTEXT]
        fresh = table_model(TABLE).decoder.prefill(np.array([tokens]))
        assert np.array_equal(reader.read(np.array([tokens])), fresh)
        assert reader.decoder.length == len(tokens)


def test_a_known_beginning_is_not_read_again() -> None:
    model = table_model(TABLE)
    reader = Reader(model.decoder)
    reader.read(np.array([[1, 2, 3, 4, 5]]))
    reader.extend(np.array([[0]]))
    reader.read(np.array([[1, 2, 3, 0, 0]]))
    assert stepper_of(model).steps == [[[1, 2, 3, 4, 5]], [[0]], [[0, 0]]]
    assert (reader.num_read, reader.num_reused) == (8, 3)
    reader.read(np.array([[1, 2, 3, 0, 0]]))  # the last is read again, for its logits
    assert stepper_of(model).steps[-1] == [[0]]


def test_what_was_forgotten_is_read_again_and_nothing_else() -> None:
    model = table_model(TABLE)
    reader = Reader(model.decoder)
    reader.read(np.array([[1, 2, 3, 4, 5]]))
    reader.rewind(3)
    reader.read(np.array([[1, 2, 3, 4, 5]]))
    assert stepper_of(model).steps[-1] == [[4, 5]]


def test_sequences_side_by_side_share_what_all_of_them_share() -> None:
    model = table_model(TABLE)
    reader = Reader(model.decoder)
    reader.read(np.array([[1, 2, 3], [4, 5, 0]]))
    logits_BV = reader.read(np.array([[1, 2, 0, 1], [4, 5, 0, 1]]))
    assert stepper_of(model).steps[-1] == [[0, 1], [0, 1]]
    fresh = table_model(TABLE).decoder.prefill(np.array([[1, 2, 0, 1], [4, 5, 0, 1]]))
    assert np.array_equal(logits_BV, fresh)
    reader.read(np.array([[1, 2, 3]]))  # another number of sequences starts anew
    assert stepper_of(model).steps[-1] == [[1, 2, 3]]


def test_a_beginning_too_short_to_matter_is_read_again() -> None:
    model = table_model(TABLE)
    reader = Reader(model.decoder)
    reader.read(np.array([[1, 2]]))
    text = [1, *[3] * 14]
    reader.read(np.array([text]))
    assert stepper_of(model).steps[-1] == [text]


def test_a_long_rest_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kleiber.infer.generation.reader._NUM_AT_ONCE", 3)
    model = table_model(TABLE)
    reader = Reader(model.decoder)
    reader.read(np.array([[1, 2, 3]]))
    logits_BV = reader.read(np.array([[1, 2, 4, 5, 0, 1, 2, 3, 4]]))
    assert [len(step[0]) for step in stepper_of(model).steps] == [3, 3, 3, 1]
    assert np.array_equal(logits_BV[0], TABLE[3, 4])


def test_a_decoder_that_somebody_else_used_is_read_anew() -> None:
    model = table_model(TABLE)
    reader = Reader(model.decoder)
    reader.read(np.array([[1, 2, 3]]))
    model.decoder.prefill(np.array([[5, 5]]))
    assert np.array_equal(reader.read(np.array([[1, 2, 3, 4]]))[0], TABLE[3, 4])
    assert stepper_of(model).steps[-1] == [[1, 2, 3, 4]]
