from __future__ import annotations

import importlib
import multiprocessing
import sys
from itertools import islice

import numpy as np
import pytest
import torch

from kleiber.data.ahead import prepared_ahead
from kleiber.data.sample_data import open_samples
from kleiber.errors import DataError, KleiberError
from kleiber.runs import AugmentRecipe, DataRecipe, TaskRecipe

MODULE = """
import os, signal
from dataclasses import dataclass
from kleiber.data.batches import Batch
from kleiber.errors import DataError

@dataclass(frozen=True)
class Square:
    fails_at: int = -1
    dies_at: int = -1

    def __call__(self, indices, after):
        if after == self.fails_at:
            raise DataError("a sample is broken", got=after)
        if after == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return Batch({"features": indices**2}, after)
"""


@pytest.fixture
def square(tmp_path, monkeypatch):
    """A class that a new process can import."""
    (tmp_path / "squares_of_workers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "squares_of_workers", raising=False)
    return importlib.import_module("squares_of_workers").Square


def plan():
    return ((np.array([number]), number + 1) for number in range(9))


def test_workers_change_neither_batches_nor_random_numbers():
    def batches(num_workers):
        recipe = DataRecipe(
            source="digits",
            num_workers=num_workers,
            augment=(AugmentRecipe(name="flip"), AugmentRecipe(name="noise")),
        )
        data = open_samples(recipe, TaskRecipe(name="classification"), seed=3)
        iterator = data.batches("train", 1700, 16)
        taken = list(islice(iterator, 4))
        iterator.close()
        return taken

    state = torch.get_rng_state()
    for alone, ahead in zip(batches(0), batches(2), strict=True):
        assert alone.cursor == ahead.cursor
        assert alone.arrays.keys() == ahead.arrays.keys()
        for role, array in alone.arrays.items():
            np.testing.assert_array_equal(array, ahead.arrays[role])
    assert torch.equal(state, torch.get_rng_state())
    assert multiprocessing.active_children() == []


def test_the_order_is_the_plan_s_and_it_ends_with_it(square):
    found = [(batch.cursor, batch.arrays["features"].item()) for batch in prepared_ahead(square(), plan(), 1)]
    assert found == [(number + 1, number**2) for number in range(9)]
    assert multiprocessing.active_children() == []


def test_what_goes_wrong_in_a_worker_goes_wrong_here(square):
    batches = prepared_ahead(square(fails_at=2), plan(), 1)
    assert next(batches).cursor == 1
    with pytest.raises(DataError, match=r"a sample is broken Got 2"):
        next(batches)
    with pytest.raises(KleiberError, match="a worker process that prepared batches was ended from outside"):
        list(prepared_ahead(square(dies_at=3), plan(), 1))
