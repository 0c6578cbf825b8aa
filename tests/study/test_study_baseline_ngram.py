"""The n-gram baseline: probabilities that add up, values by hand, and a text it must predict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.study.baseline.ngram import fit_ngram


@settings(max_examples=40)
@given(
    text=st.lists(st.integers(0, 4), min_size=8, max_size=80),
    context=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    order=st.integers(1, 5),
)
def test_probabilities_of_all_tokens_add_up_to_one(text, context, order):
    model = fit_ngram(np.array(text), 5, order=order)
    windows = np.array([[*context, token] for token in range(5)])
    assert model.probabilities(windows)[:, -1].sum() == pytest.approx(1.0)


def test_bigrams_by_hand():
    # Bigrams: 01 x3, 12 x2, 20 x2, 13 x1. Order 2: n1 = 1, n2 = 2, so the discount is 1 / 5.
    text = np.array([0, 1, 2, 0, 1, 2, 0, 1, 3])
    model = fit_ngram(text, 4, order=2)
    # Continuation counts: 0 after {2}, 1 after {0}, 2 after {1}, 3 after {1}: one each, all discounted to 0 (n2 = 0).
    lower = 1 / 4
    after_1 = [(0 + 0.4 * lower) / 3, (0 + 0.4 * lower) / 3, (1.8 + 0.4 * lower) / 3, (0.8 + 0.4 * lower) / 3]
    found = model.probabilities(np.array([[1, token] for token in range(4)]))[:, 0]
    np.testing.assert_allclose(found, after_1)


def test_a_longer_context_is_used_where_there_is_one():
    text = np.array([0, 1, 2, 3, 1, 4] * 50)
    model = fit_ngram(text, 5, order=3)
    # After 1 alone either 2 or 4 comes; after 0 1 only 2, after 3 1 only 4.
    found = model.probabilities(np.array([[0, 1, 2], [3, 1, 4], [3, 1, 2]]))[:, 1]
    assert found[0] > 0.9
    assert found[1] > 0.9
    assert found[2] < 0.05


def test_windows_know_nothing_of_each_other():
    text = np.array([0, 1, 2, 3] * 20)
    model = fit_ngram(text, 4, order=4)
    together = model.probabilities(np.array([[0, 1, 2], [3, 0, 1]]))
    alone = np.concatenate([model.probabilities(np.array([row])) for row in ([0, 1, 2], [3, 0, 1])])
    np.testing.assert_array_equal(together, alone)
