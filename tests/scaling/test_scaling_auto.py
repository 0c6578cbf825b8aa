"""`auto`: the form by its forecasts, averages that stay readable, intervals that grow with disagreement."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from kleiber.errors import DataError, UsageError
from kleiber.scaling import (
    Law,
    backtest_rows,
    compare,
    fit,
    fit_auto,
    fit_auto_groups,
    forecast,
    optimum_of_law,
    scores,
)
from kleiber.scaling.auto import PUBLIC_UNTRIED, average_of
from kleiber.scaling.average import Z_80, Average, Member
from kleiber.scaling.candidates import frontier
from kleiber.scaling.forms import form_of
from kleiber.scaling.points import points_at
from kleiber.scaling.trials import Trials

WIDE = {"sizes": (40_000, 120_000, 360_000, 1_080_000, 3_240_000), "num_seeds": 1}
HORIZONS = (4e5, 2e6, 1e7, 5e7)


@pytest.fixture
def wide(ladder):
    return ladder(**WIDE, horizons=HORIZONS, run_frac=0.002, seed=1)


@pytest.fixture
def auto_law(wide):
    return fit_auto(wide, num_bootstrap=100)


def test_what_foretells_well_leads_and_what_does_not_is_left_out(auto_law):
    average = auto_law.average
    assert average.members[0].candidate == auto_law.form == "chinchilla"
    assert sum(one.weight for one in average.members) == pytest.approx(1)
    assert "quadratic" not in {one.candidate for one in average.members}
    assert average.backtest_factor == 10
    assert average.error_frac < 0.05
    assert average.trial_ratio > 0
    assert any("Chosen by backtest at 10 times" in note for note in auto_law.notes)


def test_a_smooth_surface_that_is_no_sum_of_powers_is_found(wide):
    def bent(row):
        n, d = np.log(row.num_params.total / 4e5), np.log(row.num_tokens / 5e6)
        return float(np.exp(1.0 - 0.05 * n - 0.06 * d - 0.02 * n * d))

    rows = [row.model_copy(update={"loss": bent(row)}) for row in wide]
    assert average_of(rows, num_bootstrap=20).members[0].candidate == "quadratic"


FLOOR = 1.3


@pytest.fixture
def coupled(wide):
    """Losses above a floor that are a power of a sum of powers: larger models gain more from more tokens."""
    noise = np.random.default_rng(5).normal(0, 0.001, len(wide))
    return [
        row.model_copy(
            update={"loss": _coupled_loss(row.num_params.total, row.num_tokens) * float(np.exp(off))}
        )
        for row, off in zip(wide, noise, strict=True)
    ]


def _coupled_loss(num_params, num_tokens):
    form = form_of("kaplan", floor=FLOOR)
    point = np.array([[3e7, 2e8, 0.12, 0.2]])
    return float(form.value(point, points_at(form, num_params, num_tokens))[0, 0])


def test_a_known_floor_makes_kaplans_form_a_candidate(coupled, tmp_path):
    law = fit_auto(coupled, floor=FLOOR, num_bootstrap=100)
    assert (law.form, law.floor, law.average.members[0].floor) == ("kaplan", FLOOR, FLOOR)
    assert any("floor of 1.3 was given" in note for note in law.notes)
    assert law.predict(3e7, 5e8).loss == pytest.approx(_coupled_loss(3e7, 5e8), rel=0.003)
    law.write(tmp_path / "law.json")
    again = Law.read(tmp_path / "law.json")
    assert again.hash == law.hash
    assert again.predict(3e7, 5e8) == law.predict(3e7, 5e8)


def test_without_a_floor_nothing_is_said_of_it(coupled):
    law = fit_auto(coupled, num_bootstrap=100)
    members = (*law.average.members, *law.average.rivals)
    assert "kaplan" not in {one.candidate for one in members}
    assert all("floor" not in one for one in law.model_dump()["average"]["members"])
    assert not any("was given" in note for note in law.notes)


def test_the_floor_of_groups_and_of_rivals_is_theirs_alone(coupled, wide):
    laws = fit_auto_groups({"coupled": coupled, "again": coupled}, floor=FLOOR, num_bootstrap=100)
    assert {law.floor for law in laws.values()} == {FLOOR}
    average = average_of(coupled, floor=FLOOR, lead="quadratic", num_bootstrap=20)
    floors = {one.candidate: one.floor for one in (*average.members, *average.rivals)}
    assert {name: floor for name, floor in floors.items() if floor} == {"kaplan": FLOOR}
    assert floors["quadratic"] == 0
    with pytest.raises(UsageError, match="the floor must be from 0 to below"):
        fit_auto(wide, floor=50.0)
    with pytest.raises(UsageError, match="the floor must be from 0 to below"):
        fit_auto_groups({"wide": wide}, floor=-1.0)


def test_a_backtest_above_a_floor_is_of_that_floor(coupled):
    said = {}
    for floor in (0.0, FLOOR):
        cells = backtest_rows(
            coupled, forms=["kaplan", "auto"], factors=[10.0], floor=floor, num_bootstrap=20
        )
        said[floor] = {one.method: one.error for one in scores(cells)}
    assert said[FLOOR]["kaplan"] < 0.004 < said[0.0]["kaplan"]
    assert said[FLOOR]["auto"] == pytest.approx(said[FLOOR]["kaplan"], rel=0.5)
    with pytest.raises(UsageError, match="the floor must be from 0 to below"):
        backtest_rows(coupled, floor=50.0)


def test_a_law_of_an_average_is_read_back_and_foretells_the_same(auto_law, tmp_path):
    auto_law.write(tmp_path / "law.json")
    again = Law.read(tmp_path / "law.json")
    assert again.version == 3
    assert again.predict(1e7, 1e8) == auto_law.predict(1e7, 1e8)
    assert again.hash == auto_law.hash
    document = json.loads((tmp_path / "law.json").read_text())
    assert [one["candidate"] for one in document["average"]["members"]]


def test_laws_without_an_average_keep_their_version_and_hash(noisy_rows):
    law = fit(noisy_rows, num_bootstrap=100)
    document = json.loads(law.to_json())
    assert law.version == 2
    del document["average"]
    assert Law.model_validate(document).hash == law.hash
    with pytest.raises(ValidationError, match="a law of version 3, and no other, has an average"):
        Law.model_validate(document | {"version": 3})


def test_forecast_and_optimum_take_it(auto_law):
    found = forecast(auto_law, 1e7, 1e8)
    low, high = found.interval_80
    assert low < found.loss < high
    assert found.interval_95[0] < low
    assert optimum_of_law(auto_law, 1e15).num_params > 0


def test_rows_that_cannot_be_cut_say_so(ladder):
    rows = ladder(sizes=(40_000, 60_000, 90_000), num_seeds=1, run_frac=0.001)
    law = fit_auto(rows, num_bootstrap=100)
    assert law.average.backtest_factor is None or law.average.backtest_factor < 10
    assert any("not chosen by backtest" in note or "beyond that nobody" in note for note in law.notes)


def test_without_a_trial_intervals_are_as_wide_as_public_ladders_needed(wide):
    """Every form is a rival then, and no error was seen that the deviation could count."""
    average = average_of(wide, num_bootstrap=20, trials=Trials(None, ()))
    assert average.error_frac is None
    assert {one.candidate for one in average.rivals} == {"tied", "quadratic", "frontier"}
    assert average.widening == pytest.approx(PUBLIC_UNTRIED / Z_80)


def test_bad_requests_are_refused(wide):
    with pytest.raises(UsageError, match="for_factor must be above 1"):
        fit_auto(wide, for_factor=1.0)
    with pytest.raises(DataError, match="there is none"):
        fit_auto([])


def test_the_frontier_is_what_no_cheaper_run_beats(ladder):
    rows = ladder(num_seeds=2, run_frac=0.01)
    kept = frontier(rows, "total")
    flops = [6 * row.num_params.total * row.num_tokens for row in kept]
    assert flops == sorted(flops)
    losses = [row.loss for row in kept]
    assert losses == sorted(losses, reverse=True)
    assert min(row.loss for row in rows) == losses[-1]


def test_groups_are_of_one_form_and_compared(ladder, wide):
    """Alone, the second ladder is too short to be cut; with the first it is of the first's form."""
    short = ladder(sizes=(40_000, 60_000, 90_000), num_seeds=1, run_frac=0.001)
    laws = fit_auto_groups({"wide": wide, "short": short}, num_bootstrap=100)
    assert {law.average.members[0].candidate for law in laws.values()} == {"chinchilla"}
    assert laws["wide"].average.trial_ratio is not None
    assert compare(laws["wide"], laws["short"]).differences
    with pytest.raises(DataError, match=r"Group 'few': .*at least two sizes"):
        fit_auto_groups({"wide": wide, "few": short[:3]})


def _member(loss: float, weight: float) -> Member:
    coefficients = {"E": loss, "A": 0.0, "alpha": 0.3}
    return Member(
        candidate="power_N", form="power_N", weight=weight, backtest_error_frac=None, coefficients=coefficients,
        noise_frac=0.0, samples=((loss, 0.0, 0.3),) * 2,
    )  # fmt: skip


def _average(members: tuple[Member, ...], **changes: object) -> Average:
    content = {
        "for_factor": 10.0,
        "backtest_factor": None,
        "num_cuts": 0,
        "num_cells": 0,
        "error_frac": None,
        "widening": 1.0,
    }
    return Average(**content | {"members": members} | changes)  # type: ignore[arg-type]


def test_an_average_worked_by_hand():
    """Logs 0.6 and 1.0 with weights 3/4 and 1/4: mean 0.7, from which they are 0.1 and 0.3 away."""
    members = (_member(np.exp(0.6), 0.75), _member(np.exp(1.0), 0.25))
    inputs = {"num_params": 1e6, "num_tokens": 1e6}
    mean, deviation = _average(members).log_losses(inputs)
    between = (0.1**2 + 0.3**2) / 2
    assert mean[0] == pytest.approx(0.7)
    assert deviation[0] == pytest.approx(np.sqrt(between))
    _, tested = _average(members, error_frac=0.01, widening=2.0).log_losses(inputs)
    assert tested[0] == pytest.approx(2 * np.sqrt(between + 0.01**2))


def test_a_rival_widens_and_does_not_move():
    """Logs 0.6 of the law and 0.9 of its rival: half the square of 0.3."""
    inputs = {"num_params": 1e6, "num_tokens": 1e6}
    lead, rival = (_member(np.exp(0.6), 1.0),), (_member(np.exp(0.9), 0.0),)
    mean, deviation = _average(lead, rivals=rival).log_losses(inputs)
    assert mean[0] == pytest.approx(0.6)
    assert deviation[0] == pytest.approx(0.3 / np.sqrt(2))
    assert _average(lead).log_losses(inputs)[1][0] == pytest.approx(0)


def test_weights_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValidationError, match="must sum to 1"):
        _average((_member(2.0, 0.5),))
