from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kleiber.infer.generation.speculation.drafter import Outlook
from kleiber.infer.generation.speculation.pace import SIZES, Pace

Seconds = Callable[[int], float]


class Machine:
    """Rounds whose time and luck are known."""

    def __init__(self, pace: Pace, *, seed: int = 0, noise: float = 0.03) -> None:
        self.pace, self.rng, self.noise = pace, np.random.default_rng(seed), noise

    def run(self, num_rounds: int, seconds: Seconds, rate: float, most: int = 16) -> tuple[float, list[int]]:
        """Return tokens a second, and the sizes that were chosen."""
        num_tokens, total_s, sizes = 0, 0.0, []
        for _ in range(num_rounds):
            size = self.pace.choose(0, most)
            luck = self.rng.random(size) < rate
            num_kept = size if luck.all() else int(luck.argmin())
            time_s = seconds(size) * float(1 + self.noise * abs(self.rng.normal()))
            self.pace.timed(size, time_s, num_written=1 + num_kept)
            if size:
                self.pace.judged(0, num_drafted=size, num_kept=num_kept)
            num_tokens, total_s = num_tokens + 1 + num_kept, total_s + time_s
            sizes.append(size)
        return num_tokens / total_s, sizes


def test_drafts_that_cost_nothing_and_are_right_become_long() -> None:
    speed, sizes = Machine(Pace()).run(400, lambda _: 1.0, rate=1.0)
    assert sizes[-30:].count(16) >= 28
    assert speed > 13
    assert sizes[:3] == [0, 0, 0]


@pytest.mark.parametrize("cost", [0.02, 0.3, 1.0])
def test_drafts_that_are_wrong_are_given_up_and_cost_little(cost: float) -> None:
    speed, sizes = Machine(Pace()).run(1000, lambda size: 1 + cost * size, rate=0.02)
    plain, _ = Machine(Pace()).run(1000, lambda _: 1.0, rate=0.0, most=0)
    assert speed > 0.985 * plain
    assert any(sizes[100:])  # it is tried again, now and then
    assert sizes[100:].count(0) > 0.95 * 900  # a lucky trial is followed for a while


@pytest.mark.parametrize(("rate", "cost"), [(0.5, 0.1), (0.8, 0.1), (0.8, 0.4), (0.95, 0.05), (0.4, 0.15)])
def test_it_finds_the_size_that_is_best(rate: float, cost: float) -> None:
    def tokens_per_s(size: int) -> float:
        return sum(rate**k for k in range(size + 1)) / (1 + cost * size)

    best = max(map(tokens_per_s, (0, *SIZES)))
    speed, _ = Machine(Pace()).run(3000, lambda size: 1 + cost * size, rate=rate)
    # Noise alone takes 2.4%, and one round in 25 is without a draft.
    assert speed > 0.92 * best


def test_a_gain_that_is_within_the_noise_is_none() -> None:
    _, sizes = Machine(Pace(), noise=0.0).run(500, lambda size: 1.0 + 0.49 * size, rate=0.5)
    assert sizes[50:].count(0) > 400


def test_what_becomes_a_gain_is_found_and_what_no_longer_is_one_is_left() -> None:
    machine = Machine(Pace())
    _, before = machine.run(300, lambda size: 1 + 0.1 * size, rate=0.05)
    assert before[100:].count(0) > 195
    _, then = machine.run(2500, lambda size: 1 + 0.1 * size, rate=0.9)
    assert np.mean(np.array(then[-200:]) > 0) > 0.95
    _, after = machine.run(600, lambda size: 1 + 0.1 * size, rate=0.05)
    assert (
        after[-200:].count(0) > 150
    )  # rates stop just below the bound, and a lucky trial lifts them for a while


def test_a_machine_on_which_reading_several_tokens_becomes_dear_is_noticed() -> None:
    machine = Machine(Pace())
    machine.run(200, lambda size: 1 + 0.05 * size, rate=0.7)
    _, after = machine.run(300, lambda size: 1 + 2.0 * size, rate=0.7)
    assert after[-150:].count(0) > 145


def test_without_drafts_is_measured_again_while_there_are_some() -> None:
    _, sizes = Machine(Pace()).run(1000, lambda _: 1.0, rate=1.0)
    assert 900 / 30 <= sizes[100:].count(0) <= 900 / 20


def test_kinds_of_occasions_are_judged_apart() -> None:
    pace = Pace()
    for _ in range(3):
        pace.timed(0, 1.0)
    for size in SIZES:
        for _ in range(3):
            pace.timed(size, 1.0 + 0.3 * size)
    for _ in range(30):
        pace.judged(8, num_drafted=16, num_kept=16)
        pace.judged(2, num_drafted=16, num_kept=0)
    assert pace.choose(8, 16) == 16
    assert pace.choose(8, 3) == 2
    assert pace.choose(8, 0) == 0
    assert pace.choose(2, 16) == 0


def test_a_slow_first_round_of_a_size_is_not_held_against_it() -> None:
    pace = Pace()
    for _ in range(3):
        pace.timed(0, 1.0)
    for time_s in (50.0, 1.1, 1.1):
        pace.timed(1, time_s)
    pace.judged(0, num_drafted=1, num_kept=1)
    assert pace.choose(0, 1) == 1


# --- What trying costs


def rounds_without(pace: Pace, num: int, time_s: float = 1.0) -> None:
    for _ in range(num):
        pace.timed(0, time_s)


def test_a_part_of_the_time_is_saved_and_a_trial_waits_until_what_it_may_lose_is_there() -> None:
    pace, unlikely = Pace(), Outlook(rate=0.25)
    rounds_without(pace, 12)
    # A round of one drafted token may take 1.5 of a plain one's time, and writes 1.25 tokens: it may lose a quarter.
    assert pace.saved_s == pytest.approx(0.24)
    assert pace.choose(2, 16, unlikely) == 0
    rounds_without(pace, 1)
    assert pace.choose(2, 16, unlikely) == 1
    # What is likely is tried at once: it may write as much as it takes.
    assert pace.choose(8, 16, Outlook(rate=0.8)) == 1
    # Nothing is worth a trial that does not promise a gain.
    rounds_without(pace, 300)
    assert pace.choose(3, 16, Outlook(rate=0.04)) == 0


def test_what_drafts_gain_and_lose_is_saved_too_up_to_a_bound() -> None:
    pace = Pace()
    rounds_without(pace, 3)
    pace.timed(1, 40.0, num_written=1)  # the engine prepares: a plain round is charged, once
    assert pace.saved_s == pytest.approx(0.06 - 1.0)
    pace.timed(1, 1.5, num_written=2)
    assert pace.saved_s == pytest.approx(0.06 - 1.0 + 0.5)
    for _ in range(50):
        pace.timed(1, 1.5, num_written=2)
    assert pace.saved_s == 8.0


def test_drafts_that_have_lost_more_than_was_saved_must_promise_more() -> None:
    pace = Pace()
    rounds_without(pace, 3)
    for _ in range(3):
        pace.timed(1, 1.3, num_written=1)
        pace.judged(0, num_drafted=1, num_kept=1)
    # 1.5 and three that were right: 1.875 tokens in 1.3 rounds is a gain of 1.44.
    assert pace.saved_s < 0
    assert pace.choose(0, 1) == 1
    pace.judged(0, num_drafted=1, num_kept=0)
    pace.judged(0, num_drafted=1, num_kept=0)
    assert pace.choose(0, 1) == 0  # 1.58 in 1.3
    rounds_without(pace, 60)
    assert pace.saved_s > 0
    assert pace.choose(0, 1) == 1


@pytest.mark.parametrize(("each_s", "size"), [(0.9, 0), (0.45, 0), (0.2, 1)])
def test_a_draft_whose_own_time_says_that_it_cannot_pay_is_never_tried(each_s: float, size: int) -> None:
    pace = Pace()
    rounds_without(pace, 2000)
    assert pace.choose(0, 16, Outlook(each_s=each_s)) == size


def test_what_a_draft_has_not_read_must_be_repaid_by_the_rest_of_the_text() -> None:
    pace = Pace()
    rounds_without(pace, 3)
    for _ in range(3):
        pace.timed(1, 1.2, num_written=2)
        pace.judged(0, num_drafted=1, num_kept=1)
    gain = 1.875 / 1.2
    assert pace.choose(0, 100, Outlook(each_s=2.0, behind_s=0.9 * (1 - 1 / gain) * 100)) == 1
    assert pace.choose(0, 100, Outlook(each_s=2.0, behind_s=1.1 * (1 - 1 / gain) * 100)) == 0
    # A first trial has to have saved for it.
    fresh = Pace()
    rounds_without(fresh, 100)
    assert fresh.choose(0, 100, Outlook(behind_s=1.9)) == 1
    assert fresh.choose(0, 100, Outlook(behind_s=2.1)) == 0


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.45])
@pytest.mark.parametrize("cost", [0.3, 1.0, 3.0])
def test_trying_loses_no_more_than_its_part_of_a_short_text(rate: float, cost: float) -> None:
    """Texts of 96 tokens one after the other, where drafts cost more than they bring."""
    lost = []
    for seed in range(20):
        machine = Machine(Pace(), seed=seed, noise=0.0)
        speed, _ = machine.run(6 * 96, lambda size: 1 + cost * size, rate)
        lost.append(1 - speed)
    assert np.mean(lost) < 0.025


def num_asked(pace: Pace, num_rounds: int) -> int:
    asked = [not pace.rests() and pace.choose(0, 16) >= 0 for _ in range(num_rounds)]
    return asked.count(True)


def test_after_long_without_a_gain_most_rounds_go_by_unasked() -> None:
    pace = Pace()
    Machine(pace, noise=0.0).run(200, lambda size: 1 + size, rate=0.0)
    assert num_asked(pace, 31) == 31
    assert num_asked(pace, 32) == 4
    fresh = Pace()
    Machine(fresh, noise=0.0).run(5, lambda size: 1 + size, rate=0.0)
    assert num_asked(fresh, 16) == 16
    gaining = Pace()
    Machine(gaining, noise=0.0).run(200, lambda _: 1.0, rate=1.0)
    assert num_asked(gaining, 32) == 32


def test_a_rate_follows_what_was_judged_last() -> None:
    pace = Pace()
    for _ in range(3):
        pace.timed(0, 1.0)
        pace.timed(1, 1.2)
    pace.judged(0, num_drafted=1, num_kept=1)
    assert pace.choose(0, 1) == 1
    for _ in range(200):
        pace.judged(0, num_drafted=1, num_kept=0)
    assert pace.choose(0, 1) == 0


def test_what_would_be_no_gain_if_all_were_kept_is_not_tried_again_soon() -> None:
    _, sizes = Machine(Pace(), noise=0.0).run(2000, lambda size: 1 + 3.0 * (size > 0), rate=1.0, most=1)
    assert 0 < sum(sizes) <= 3
    _, sizes = Machine(Pace(), noise=0.0).run(6000, lambda size: 1 + 3.0 * (size > 0), rate=1.0, most=1)
    assert any(sizes[2000:])
