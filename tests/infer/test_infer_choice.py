import time
from functools import partial

import numpy as np
import pytest

from kleiber.errors import MissingExtraError, UsageError
from kleiber.infer.choice import Choice, SampleRequest, TextRequest, chosen, request_time


class Fake:
    """A decoder that takes so long."""

    precision = "fp32"

    def __init__(self, engine, seconds):
        self.engine, self.seconds = engine, seconds

    def prefill(self, tokens_BT):
        time.sleep(self.seconds)
        return np.zeros((len(tokens_BT), 3), np.float32)

    decode = prefill


def missing():
    raise MissingExtraError.of("fastlib", "fast", "The engine fast")


REQUEST = TextRequest(num_prompt=4, num_new=2)
TIMED = partial(request_time, request=REQUEST)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(tmp_path))
    return tmp_path


def openers(opened):
    def opener(engine, seconds):
        def make():
            opened.append(engine)
            return Fake(engine, seconds)

        return make

    return {
        "slow": opener("slow", 0.012),
        "fast": missing,
        "quick": opener("quick", 0.002),
        "middle": opener("middle", 0.006),
    }


def test_the_fastest_is_taken_and_remembered():
    opened, told = [], []
    decoder, choice = chosen(
        openers(opened), TIMED, REQUEST, {"a": 1}, num_threads=1, on_progress=told.append
    )
    assert decoder.engine == choice.engine == "quick"
    assert choice.times[0].engine == "quick"
    assert {one.engine for one in choice.times} == {"slow", "quick", "middle"}
    assert "fastlib" in choice.left_out["fast"]
    assert len(told) == 4
    assert choice.says().startswith("quick: 4 tokens read and 2 written in ")
    opened.clear()
    _, again = chosen(openers(opened), TIMED, REQUEST, {"a": 1}, num_threads=1)
    assert opened == ["quick"]
    assert again == choice


def test_other_sizes_work_and_threads_are_measured_anew(cache):
    opened = []
    for identity, request, num_threads in [
        ({"a": 1}, REQUEST, 1),
        ({"a": 2}, REQUEST, 1),
        ({"a": 1}, REQUEST, 2),
    ]:
        chosen(openers(opened), TIMED, request, identity, num_threads=num_threads)
    assert len(list((cache / "engines").glob("*.json"))) == 3
    assert len(opened) == 9


def test_a_machine_that_slows_down_does_not_change_the_order():
    slowed = {"factor": 1}

    def opener(engine, seconds):
        def make():
            slowed["factor"] *= 2
            fake = Fake(engine, 0)
            fake.prefill = lambda _: time.sleep(seconds * slowed["factor"])
            return fake

        return make

    openers = {
        "quick": opener("quick", 0.002),
        "slow": opener("slow", 0.003),
        "slower": opener("slower", 0.004),
    }
    request = TextRequest(num_prompt=1, num_new=0)
    _, choice = chosen(openers, partial(request_time, request=request), request, {}, num_threads=1)
    assert choice.engine == choice.times[0].engine == "quick"
    assert [one.engine for one in choice.times] == ["quick", "slow", "slower"]
    assert choice.times[1].seconds / choice.times[0].seconds == pytest.approx(1.5, rel=0.25)


def test_one_alone_says_so():
    _, choice = chosen({"quick": lambda: Fake("quick", 0)}, TIMED, REQUEST, {}, num_threads=1)
    assert choice.says().endswith("no other engine here runs the model.")


def test_none_at_all():
    with pytest.raises(UsageError, match="no engine runs this model here"):
        chosen({"fast": missing}, TIMED, REQUEST, {}, num_threads=1)


def test_a_request_fits_the_context():
    assert TextRequest(num_prompt=128, num_new=64).fitted(100) == TextRequest(num_prompt=50, num_new=50)
    assert TextRequest().fitted(1) == TextRequest(num_prompt=1, num_new=0)


def test_whole_inputs_are_compared_too(cache):
    request = SampleRequest(batch=3)
    openers = {"quick": lambda: Fake("quick", 0.001), "slow": lambda: Fake("slow", 0.004)}

    def timed(model):
        return lambda: model.seconds

    model, choice = chosen(openers, timed, request, {}, num_threads=1)
    assert model.engine == "quick"
    assert (
        choice.says()
        == "quick: a batch of 3 in 1 ms, 4.00 times as fast as slow, the next of 2 engines measured here."
    )
    (path,) = (cache / "engines").glob("*.json")
    assert Choice.read(path) == choice
