"""The whole answer: ranked, with intervals and what was left out, written down, and scored against a run that followed it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kleiber.cost import described_device, find_device
from kleiber.errors import ConventionError, RunFolderError, UsageError
from kleiber.runs import ParamCount, RunFolder
from kleiber.scaling import published_law
from kleiber.study.advice.advise import Target, Wanted, advise
from kleiber.study.advice.document import Advice
from kleiber.study.advice.scored import read_if_advice, scored
from kleiber.study.place import Place

PLACE = Place(find_device("h100-sxm"), num_devices=4)
WANTED = Wanted(served_tokens=1e12)


@pytest.fixture(scope="module")
def advice(make_law) -> Advice:
    return advise(make_law(), Target(loss=2.5), PLACE, WANTED)


def test_routes_stand_by_total_cost_and_add_up(advice):
    assert {one.name for one in advice.routes} == {"optimum", "smaller", "compress"}
    totals = [one.total.usd.value for one in advice.routes]
    assert totals == sorted(totals)
    for one in advice.routes:
        for key in ("flops", "time_s", "usd"):
            parts = getattr(one.train, key).value, getattr(one.serve, key).value
            assert getattr(one.total, key).value == pytest.approx(sum(parts))
        assert one.total.usd.value == pytest.approx(3.0 * 4 * one.total.time_s.value / 3600)
        assert one.train.flops.value == pytest.approx(one.spec.flops(1).total / 1024 * one.num_tokens)
        low, high = one.total.usd.interval_80
        assert low < one.total.usd.value < high
    assert sum(one.cheapest_frac for one in advice.routes) == pytest.approx(1.0)


def test_the_smaller_one_trains_longer_and_serves_cheaper(advice):
    by_name = {one.name: one for one in advice.routes}
    small, large = by_name["smaller"], by_name["optimum"]
    assert small.num_params < large.num_params
    assert small.train.flops.value > large.train.flops.value
    assert small.serve.flops.value < large.serve.flops.value
    assert advice.routes[0].name == "smaller"
    meets = next(one for one in advice.break_evens if one.other == large.title)
    assert meets.first_wins == "above"
    assert meets.served_tokens.value < 1e12
    at = meets.served_tokens.value
    assert small.train.usd.value + at * small.token_amount == pytest.approx(
        large.train.usd.value + at * large.token_amount
    )


def test_what_it_rests_on_is_said(advice):
    assert [one.name for one in advice.left_out] == ["grow"]
    said = " ".join(advice.assumptions)
    for words in (
        "form chinchilla, of 9 runs",
        "vocabulary of 50257",
        "Requests read 512 tokens and write 128",
        "list price",
    ):
        assert words in said
    assert (
        "nothing of it was measured here"
        in next(one for one in advice.routes if one.name == "compress").rests_on
    )


def test_it_is_a_document_whose_hash_shows_a_change(advice, tmp_path):
    path = tmp_path / "advice.json"
    advice.write(path)
    assert Advice.read(path) == advice == read_if_advice(path)
    assert advice.hash == advice.expected_hash()
    assert advice.model_copy(update={"loss": 2.4}).expected_hash() != advice.hash
    (tmp_path / "other.json").write_text('{"loss": 2.5}')
    assert read_if_advice(tmp_path / "other.json") is None
    assert read_if_advice(tmp_path / "none.json") is None
    (tmp_path / "torn.json").write_text('{"routes": []}')
    with pytest.raises(RunFolderError, match="is missing"):
        read_if_advice(tmp_path / "torn.json")


def test_a_budget_is_spent_by_the_first_route(make_law):
    found = advise(make_law(), Target(budget=20_000.0), PLACE, WANTED)
    first, *others = found.routes
    assert first.total.usd.value == pytest.approx(20_000, rel=1e-3)
    assert first.loss_within_budget == pytest.approx(found.loss, abs=1e-4)
    assert all(one.loss_within_budget > found.loss and one.total.usd.value > 20_000 for one in others)


def test_a_published_law_is_sure_of_operations_alone():
    found = advise(published_law("besiroglu"), Target(loss=2.3), PLACE, Wanted(1e12, unit="flops"))
    first = found.routes[0]
    assert first.train.flops.interval_80 is None
    assert first.train.time_s.interval_80 is not None
    assert first.predictions[0].interval_80 is None
    assert any("comes without refits" in sentence for sentence in found.warnings)


def test_where_nothing_is_served_the_optimum_is_the_smaller_one_too(make_law):
    found = advise(make_law(), Target(loss=2.5), PLACE, Wanted(0.0))
    assert found.routes[0].name == "optimum"
    assert "moves the cheapest size by 0.0% only" in next(
        one.reason for one in found.left_out if one.name == "smaller"
    )


def test_what_papers_say_of_billions_is_not_said_of_thousands(make_law):
    found = advise(make_law(), Target(loss=4.5), PLACE, Wanted(1e12))
    reason = next(one.reason for one in found.left_out if one.name == "compress")
    assert "is of 7 B parameters and says nothing of" in reason


def test_receipts_take_the_place_of_papers(make_law, receipt, tmp_path):
    receipt.write(tmp_path / "receipt.json")
    found = advise(make_law(), Target(loss=2.5), PLACE, Wanted(1e12, receipts=(tmp_path,)))
    one = next(one for one in found.routes if one.name == "compress")
    assert one.title == f"large, then as {tmp_path.name}"
    assert one.trained_loss == pytest.approx(2.45)
    assert one.memory.weight_bytes == pytest.approx(0.4 * 2 * one.num_params)


def test_a_donor_that_knows_something_saves_training(make_law, make_record, tmp_path):
    record = make_record(
        "donor", result={"val_loss": 2.51}, num_params=ParamCount(embedding=0, body=10**8, head=0)
    )
    record.write(RunFolder(tmp_path).record_path)
    found = advise(make_law(), Target(loss=2.5), PLACE, Wanted(1e12, donors=(tmp_path,)))
    by_name = {one.name: one for one in found.routes}
    grown, small = by_name["grow"], by_name["smaller"]
    assert grown.train.usd.value < small.train.usd.value
    assert grown.donor.saving_frac.value == pytest.approx(0.40)
    assert grown.donor.train_flops == record.train_flops
    assert any("is taken to be of the law's text" in sentence for sentence in grown.warnings)


def test_a_donor_that_knows_nothing_is_left_out(make_law, make_record, tmp_path):
    record = make_record(
        "donor", result={"val_loss": 9.0}, num_params=ParamCount(embedding=0, body=10**7, head=0)
    )
    record.write(RunFolder(tmp_path).record_path)
    found = advise(make_law(), Target(loss=2.5), PLACE, Wanted(1e12, donors=(tmp_path,)))
    assert "there is next to nothing to save" in found.left_out[0].reason


@pytest.mark.parametrize(
    ("target", "place", "wanted", "text"),
    [
        (Target(loss=1.6), PLACE, WANTED, r"A loss of 1\.6 is not above the law's floor E = 1\.7 \(95%: 1\.36 to 2\.04\)"),
        (Target(budget=1.0), PLACE, WANTED, r"A budget of \$1 is too small: serving 1\.00 T tokens with the smallest"),
        (Target(loss=2.5), Place(described_device(1e14, 8e10)), Wanted(1e12, unit="usd"), "Costs in money need a price above 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_advised_is_refused(make_law, target, place, wanted, text):
    with pytest.raises(UsageError, match=text):
        advise(make_law(), target, place, wanted)


@pytest.fixture
def followed(advice, make_record):
    """A run that took the second route, started a minute after the advice."""
    route = advice.routes[1]
    started = (datetime.fromisoformat(advice.created_at) + timedelta(minutes=1)).astimezone(UTC).isoformat()
    record = make_record(
        "big",
        result={"val_loss": 2.47, "total_time_s": 9e6},
        num_params=ParamCount(embedding=0, body=int(route.num_params), head=0),
        started_at=started,
    )
    recipe = record.recipe
    per_step = recipe.num_tokens / recipe.train.num_steps
    steps = round(route.num_tokens / per_step)
    train = recipe.train.model_copy(update={"num_steps": steps})
    return record.model_copy(update={"recipe": recipe.model_copy(update={"train": train})})


def test_a_run_is_scored_by_the_route_it_took(advice, followed):
    loss, time = scored(advice, followed)
    assert (loss.quantity, loss.measured, loss.subject) == ("val_loss", 2.47, advice.routes[1].title)
    assert loss.predicted == pytest.approx(advice.routes[1].trained_loss)
    assert loss.is_inside is not None
    assert (time.quantity, time.measured) == ("total_time_s", 9e6)


def test_a_compressed_model_is_scored_by_its_receipt(advice, followed, receipt):
    """A compressed run trained nothing: its recipe says on how many tokens its original did."""
    at, route = next((k, one) for k, one in enumerate(advice.routes) if one.name == "compress")
    per_step = followed.recipe.num_tokens / followed.recipe.train.num_steps
    train = followed.recipe.train.model_copy(update={"num_steps": round(route.num_tokens / per_step)})
    recipe = followed.recipe.model_copy(update={"train": train})
    small = followed.model_copy(update={"kind": "compress", "result": None, "recipe": recipe})
    loss, stored = scored(advice, small, receipt)
    assert (loss.subject, loss.measured, loss.predicted) == (advice.routes[at].title, 3.05, 2.5)
    assert (stored.quantity, stored.measured) == ("stored_bytes", 800)
    assert stored.predicted == pytest.approx(4.25 / 16 * 2 * route.num_params)


def test_what_does_not_follow_the_advice_is_refused(advice, followed):
    with pytest.raises(ConventionError, match="The advice was altered after it was written"):
        scored(advice.model_copy(update={"loss": 2.0}), followed)
    with pytest.raises(UsageError, match="run 'big' has not finished"):
        scored(advice, followed.model_copy(update={"status": "running"}))
    with pytest.raises(ConventionError, match="before the advice was written"):
        scored(advice, followed.model_copy(update={"started_at": "2020-01-01T00:00:00+00:00"}))
    other = followed.model_copy(update={"num_params": ParamCount(embedding=0, body=7, head=0)})
    with pytest.raises(ConventionError, match="is none of the routes: gpt:depth="):
        scored(advice, other)
