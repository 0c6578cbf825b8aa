from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.errors import UsageError
from kleiber.study.job import Job


def test_lengths_become_steps():
    assert Job(tokens=2.6e9).num_steps(64, 1024) == math.ceil(2.6e9 / 65_536)
    assert Job(samples=50_000, epochs=3).num_steps(128, None) == math.ceil(150_000 / 128)
    assert Job(samples=10).num_steps(4, 100) == 3  # of text too
    assert Job(steps=7).num_steps(64, 1024) == 7
    assert Job().num_steps(64, 1024) is None


@given(st.integers(1, 10**9), st.integers(1, 4096), st.integers(1, 4096))
def test_steps_are_the_fewest_that_are_enough(tokens, batch, context):
    steps = Job(tokens=tokens).num_steps(batch, context)
    assert (steps - 1) * batch * context < tokens <= steps * batch * context


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Job(tokens=1e9).num_steps(8, None), r"^--tokens is for text; this model takes samples. Got '1e\+09'."),
        (lambda: Job(tokens=1e30).num_steps(8, 128), r"^--tokens 1e\+30 takes 9.77e\+26 steps of 1024, and a run has at"),
        (lambda: Job(samples=1e30).num_steps(8, 128), r"^--samples 1e\+30 takes 1.25e\+29 steps of 8, and a run has at"),
        (lambda: Job(tokens=1.0, samples=1.0), r"^--samples and --tokens both say how long the job is; give one."),
        (lambda: Job(epochs=2.0), r"^--epochs are passes over data; --tokens or --samples says how much there is."),
    ],
)  # fmt: skip
def test_what_is_no_length(make, sentence):
    with pytest.raises(UsageError, match=sentence):
        make()


def test_the_hint_of_too_many_steps_is_short_enough():
    with pytest.raises(UsageError) as caught:
        Job(tokens=1e30, epochs=4).num_steps(8, 128)
    tokens = float(caught.value.hint.removeprefix("--tokens "))
    assert Job(tokens=tokens, epochs=4).num_steps(8, 128) <= 10**6
