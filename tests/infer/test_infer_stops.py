from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kleiber.infer.generation.stops import StopStrings


@given(
    text=st.text("ab", max_size=30),
    stops=st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
    cuts=st.lists(st.integers(0, 30), max_size=10),
)
def test_text_ends_where_the_first_stop_begins_however_it_is_cut(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    stream, said = StopStrings(stops), ""
    for start, end in itertools.pairwise(places):
        said += stream.push(text[start:end])
        if stream.has_stopped:
            break
    found = [text.find(stop) for stop in stops if stop in text[:end]]
    assert stream.has_stopped == bool(found)
    # A longer stop may begin sooner than the one that was whole first: nothing of either is said.
    assert said + ("" if found else stream.finish()) == (text[: min(found)] if found else text)


def test_what_may_become_a_stop_is_held_back_and_no_more() -> None:
    stream = StopStrings(["\nEND", "END."])
    assert stream.push("one\n") == "one"
    assert stream.push("EN") == ""
    assert stream.push("TRY") == "\nENTRY"
    assert stream.push(" E") == " "
    assert stream.finish() == "E"


def test_nothing_is_said_after_a_stop() -> None:
    stream = StopStrings(["x"])
    assert (stream.push("ax"), stream.push("b"), stream.finish()) == ("a", "", "")
