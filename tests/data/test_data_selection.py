from __future__ import annotations

import numpy as np
import pytest

from kleiber.data.selection import selected, thinned
from kleiber.data.source import ArraySamples, Part
from kleiber.errors import DataError
from kleiber.runs import DataRecipe


def part_of(labels=None, lengths=None, num=None) -> Part:
    num = num or len(labels if labels is not None else lengths)
    return Part(
        ArraySamples({"features": np.arange(num, dtype=np.float32)[:, None]}),
        labels=None if labels is None else np.array(labels),
        lengths=None if lengths is None else np.array(lengths),
    )


def ids(part: Part) -> list[int]:
    return part.samples.gather(np.arange(len(part)))["features"][:, 0].astype(int).tolist()


def test_fewer_samples_are_among_more():
    train = part_of(num=50)
    small, large = (set(ids(selected(train, DataRecipe(max_samples=num)))) for num in (10, 30))
    assert len(small) == 10
    assert len(large) == 30
    assert small < large
    assert ids(selected(train, DataRecipe())) == list(range(50))


def test_balanced_takes_as_many_of_each_class():
    train = part_of([0] * 40 + [1] * 5 + [2] * 20)
    kept = selected(train, DataRecipe(selection="balanced"))
    assert np.bincount(kept.labels).tolist() == [5, 5, 5]
    kept = selected(train, DataRecipe(selection="balanced", max_samples=8))
    assert np.bincount(kept.labels).tolist() == [3, 3, 2]
    assert (kept.labels == np.array([0] * 40 + [1] * 5 + [2] * 20)[ids(kept)]).all()


def test_shortest_and_longest_go_by_length():
    train = part_of(lengths=[5, 1, 4, 2, 3])
    assert ids(selected(train, DataRecipe(selection="shortest", max_samples=2))) == [1, 3]
    assert ids(selected(train, DataRecipe(selection="longest", max_samples=2))) == [0, 2]


@pytest.mark.parametrize(
    ("train", "recipe", "message"),
    [
        (part_of(num=5), {"max_samples": 6}, r"at most the 5 training samples of 'stdlib'\. Got 6"),
        (part_of(num=5), {"selection": "longest", "max_samples": 2}, "goes by the length of texts"),
        (part_of(lengths=[1, 2]), {"selection": "longest"}, "'longest' needs data.max_samples"),
        (part_of(num=5), {"selection": "balanced"}, "goes by class, and the samples of 'stdlib' have none"),
        (
            part_of([0, 0, 0, 1]),
            {"selection": "balanced", "max_samples": 3},
            "must lie between 2 and 2 .* rarest has 1 training samples",
        ),
    ],
)
def test_what_cannot_be_selected_is_refused(train, recipe, message):
    with pytest.raises(DataError, match=message):
        selected(train, DataRecipe(**recipe))


def test_the_rarer_class_is_thinned_out_in_every_split():
    parts = {"train": part_of([1] * 60 + [0] * 99), "val": part_of([0] * 99 + [1] * 3)}
    kept = thinned(parts, 0.01, source="x")
    assert {name: np.bincount(part.labels).tolist() for name, part in kept.items()} == {
        "train": [99, 1],
        "val": [99, 1],
    }


@pytest.mark.parametrize(
    ("labels", "frac", "message"),
    [
        ([0, 1, 2], 0.1, "thins out the rarer of two classes, and 'x' has 3"),
        ([0, 0, 1], 0.5, r"at most the share .* in the train split of 'x', 0\.3333"),
        ([0, 0, 1], 0.1, "without a single one of the rarer class"),
    ],
)
def test_what_cannot_be_thinned_out_is_refused(labels, frac, message):
    with pytest.raises(DataError, match=message):
        thinned({"train": part_of(labels)}, frac, source="x")


def test_values_cannot_be_thinned_out():
    with pytest.raises(DataError, match="has 0"):
        thinned({"train": part_of(num=3)}, 0.1, source="x")
