import math

import numpy as np
import pytest

from kleiber.errors import DataError, DivergedError
from kleiber.tasks import Scores
from kleiber.tasks.quality import paired_means, quality_changes, quality_loss


def scores(losses, hits=None, weights=None):
    losses_N = np.asarray(losses, dtype=np.float64)
    weights_N = np.ones(len(losses_N)) if weights is None else np.asarray(weights, dtype=np.float64)
    return Scores(losses_N, weights_N, None if hits is None else np.asarray(hits, dtype=bool))


def test_perplexity_by_hand():
    # Mean losses ln 2 and ln 4, the same difference on every sample: no resample can say anything else.
    before, after = scores([0.0, 2 * math.log(2)]), scores([math.log(2), 3 * math.log(2)])
    perplexity, loss = quality_changes("lm", before, after, engine="torch")
    assert (perplexity.name, perplexity.is_main, loss.name, loss.is_main) == (
        "perplexity",
        True,
        "loss",
        False,
    )
    assert (perplexity.before.value, perplexity.after.value) == pytest.approx((2, 4))
    assert (perplexity.ratio.low, perplexity.ratio.value, perplexity.ratio.high) == pytest.approx((2, 2, 2))
    assert (loss.difference.low, loss.difference.high) == pytest.approx((math.log(2), math.log(2)))
    assert quality_loss(perplexity).value == pytest.approx(1)


def test_hits_by_hand():
    before = scores([1, 1, 1, 1], [True, True, True, True])
    after = scores([1, 1, 1, 1], [True, True, True, False])
    accuracy, loss = quality_changes("classification", before, after, engine="torch")
    assert (accuracy.name, loss.name) == ("accuracy", "loss")
    assert accuracy.difference.value == -0.25
    # The share of resamples in which the one miss is drawn k times is binomial(4, 1/4): none in 32%, three or more in 5%.
    assert (accuracy.difference.low, accuracy.difference.high) == (-0.75, 0.0)
    assert quality_loss(accuracy).model_dump() == {"value": 0.25, "low": 0.0, "high": 0.75}


def test_tokens_weigh_samples():
    before, after = scores([1.0, 2.0], weights=[3, 1]), scores([2.0, 2.0], weights=[3, 1])
    perplexity, loss = quality_changes("seq2seq", before, after, engine="torch")
    assert loss.before.value == pytest.approx(1.25)
    assert perplexity.ratio.value == pytest.approx(math.exp(0.75))


def test_values_are_judged_by_their_loss():
    (loss,) = quality_changes("regression", scores([1.0, 3.0]), scores([1.5, 3.5]), engine="torch")
    assert loss.is_main
    assert quality_loss(loss).value == pytest.approx(0.25)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random, covered, num = np.random.default_rng(0), 0, 200
    for seed in range(num):
        easy_N = random.normal(2, 1, 80)
        other_N = easy_N + 0.05 + 0.2 * random.normal(size=80)
        _, change = quality_changes("lm", scores(easy_N), scores(other_N), engine="torch", seed=seed)
        covered += change.difference.low <= 0.05 <= change.difference.high
    assert 0.90 <= covered / num <= 0.985


def test_pairing_takes_out_what_is_hard_for_both():
    random = np.random.default_rng(1)
    hard_N = random.normal(2, 1, 400)
    means_V, drawn_SV = paired_means(
        np.stack([hard_N, hard_N + 0.01 * random.normal(size=400)], 1), np.ones(400)
    )
    assert drawn_SV.std(0) == pytest.approx([1 / math.sqrt(400)] * 2, rel=0.15)
    assert (drawn_SV[:, 1] - drawn_SV[:, 0]).std() == pytest.approx(0.01 / math.sqrt(400), rel=0.15)
    assert means_V == pytest.approx(drawn_SV.mean(0), abs=0.01)


def test_the_same_seed_gives_the_same_interval_whatever_the_chunks(monkeypatch):
    random = np.random.default_rng(2)
    values, weights = random.normal(size=(50, 2)), np.ones(50)
    one, again, other = (paired_means(values, weights, seed=seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    monkeypatch.setattr("kleiber.tasks.quality._CHUNK", 333)
    assert np.array_equal(paired_means(values, weights)[1], one)


def test_an_original_that_got_nothing_right_has_nothing_to_lose():
    none = scores([1, 1], [False, False])
    accuracy, _ = quality_changes("classification", none, none, engine="torch")
    assert quality_loss(accuracy).value == 0


def test_other_samples_are_refused():
    with pytest.raises(DataError, match=r"the same samples before and after\. Got \(2, 3\)"):
        quality_changes("lm", scores([1, 2]), scores([1, 2, 3]), engine="torch")
    with pytest.raises(
        DivergedError, match="the compressed model answers 1 of 2 samples with a loss that is not finite on x"
    ):
        quality_changes("lm", scores([1, 2]), scores([1, np.inf]), engine="x")


def test_a_hopeless_loss_is_still_a_number():
    perplexity, _ = quality_changes("lm", scores([1.0, 1.0]), scores([2000.0, 2000.0]), engine="torch")
    assert math.isfinite(perplexity.ratio.value)


def test_resamples_are_weighted_too():
    # Whatever is drawn, the mean of a constant is that constant.
    _, drawn_SV = paired_means(np.full((3, 1), 7.0), np.array([1.0, 5.0, 20.0]))
    assert drawn_SV == pytest.approx(7.0)
