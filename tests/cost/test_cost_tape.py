from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.cost.tape import Tape


def test_moments_keep_their_most() -> None:
    tape = Tape()
    tape.enter("a")
    tape.make(x=10, y=5)
    tape.drop("x")
    tape.make(z=1)
    tape.enter("b")
    tape.make(x=3)
    assert tape.moments == {"a": 15, "b": 9}
    assert tape.held_bytes == 9


def test_a_name_made_twice_holds_both() -> None:
    tape = Tape()
    tape.make(x=10, y=1)
    tape.make(x=5)
    tape.rename("y", "x")
    tape.drop("x")
    assert tape.held_bytes == 0


def test_what_is_not_held_cannot_be_dropped() -> None:
    tape = Tape()
    with pytest.raises(KeyError, match="x"):
        tape.drop("x")


@given(st.integers(1, 6), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_many_of_a_layer_are_as_each_written_out(times, kept, temporary, later, let_go) -> None:
    def layer(tape: Tape) -> None:
        tape.make(kept=kept, temporary=temporary)
        tape.drop("temporary")
        tape.make(stock=-let_go)
        tape.make(later=later)
        tape.drop("later")

    written, repeated = Tape(), Tape()
    for tape in (written, repeated):
        tape.make(stock=100)
    written.enter("layers")
    for _ in range(times):
        layer(written)
    repeated.repeat(lambda: layer(repeated), times, first="first", last="last")
    assert repeated.held_bytes == written.held_bytes
    assert max(repeated.moments["first"], repeated.moments["last"]) == written.moments["layers"]
