from __future__ import annotations

import numpy as np

from kleiber.scaling.cuts import cuts_at


def test_every_dear_row_is_far_enough_and_every_cheap_one_cheap():
    flops = 10.0 ** np.random.default_rng(0).uniform(15, 19, size=60)
    cuts = cuts_at(flops, 30.0)
    assert len(cuts) == 4
    for cut in cuts:
        assert flops[cut.cheap].max() == cut.flops
        assert flops[cut.dear].min() >= 30 * cut.flops * 0.999
        assert len(cut.cheap) >= 15
        assert len(cut.dear) >= 1
        assert not set(cut.cheap) & set(cut.dear)


def test_a_cut_takes_all_rows_of_its_budget():
    flops = np.repeat([1e15, 1e16, 1e17, 1e18], 8)
    assert [len(cut.cheap) for cut in cuts_at(flops, 10.0)] == [16, 24]


def test_rows_that_reach_too_little_give_no_cut():
    assert cuts_at(np.linspace(1.0, 5.0, 40), 10.0) == ()
    assert cuts_at(np.geomspace(1.0, 1e6, 15), 10.0) == ()
