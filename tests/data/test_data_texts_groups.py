from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.data.texts.groups import TextGroups


def numbers_of(*texts: str) -> list[int]:
    groups = TextGroups()
    for text in texts:
        groups.add(text)
    return groups.numbers().tolist()


@pytest.mark.parametrize(
    ("first", "second", "are_near"),
    [
        ("Win £1000 now, call 0800!", "win 1000 now call 0800", True),
        ("a film of great beauty and of little else", "A film of great beauty, and of little sense", True),
        ("the cat sat on the mat and slept", "a dog stood by the door and barked", False),
        ("房间很大，服务也很好，下次还会来住", "房间很大,服务也很好!下次还会来住。", True),
        ("房间很大，服务也很好，下次还会来住", "早餐太差，前台态度冷淡，不会再来了", False),
        ("!!!", "!!!", True),
        ("!!!", "???", False),
        ("yes", "no", False),
    ],
)
def test_texts_that_share_most_words_are_near(first: str, second: str, are_near: bool) -> None:
    numbers = numbers_of(first, "something else altogether, as far as words go", second)
    assert (numbers[0] == numbers[2]) == are_near
    assert numbers[1] not in (numbers[0], numbers[2])


def test_a_message_that_many_send_is_one_group() -> None:
    assert numbers_of(*["call me back as soon as you can"] * 20, "quite another message") == [0] * 20 + [1]


def test_long_texts_are_told_by_their_sketch() -> None:
    words = [f"word{number}" for number in range(3000)]
    changed = [*words[:1500], "new", *words[1501:]]
    others = [f"other{number}" for number in range(3000)]
    groups = TextGroups()
    for text in (words, changed, others):
        groups.add(" ".join(text))
    assert groups.numbers().tolist() == [0, 0, 1]
    assert max(sketch.nbytes for sketch in groups.sketches) <= 128


@given(st.lists(st.text("ab \n中", max_size=12), min_size=1, max_size=12))
def test_equal_texts_always_share_a_number(texts: list[str]) -> None:
    numbers = numbers_of(*texts, *texts)
    assert numbers[: len(texts)] == numbers[len(texts) :]
