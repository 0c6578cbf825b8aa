import math

import pytest

from kleiber.errors import DivergedError, RecipeError
from kleiber.models import parse_size
from kleiber.runs import RunFolder
from kleiber.study.design import LadderDesign, rungs_of, target_recipe
from kleiber.study.tuning.document import Tuning
from kleiber.study.tuning.proxy import Proxy, Trial, base_sized, proxy_recipe
from kleiber.study.tuning.tune import TuneSettings, fitted_exponent, tune

BEST_JOINT, BEST_MATRIX, EXPONENT = 1.3, -1.4, 0.5


@pytest.fixture
def surface(monkeypatch):
    """Losses of a bowl whose best rates fall with the root of the horizon; returns the trials that were asked for."""
    asked = []

    def loss(_, trial):
        asked.append(trial)
        joint = BEST_JOINT - EXPONENT * math.log2(trial.num_steps / 16)
        return 2 + 0.1 * (trial.joint - joint) ** 2 + 0.1 * (trial.matrix - BEST_MATRIX) ** 2

    monkeypatch.setattr(Proxy, "loss", loss)
    return asked


def test_both_rates_are_found_between_powers_of_two(design, surface, tmp_path):
    tuning = tune(design, tmp_path, TuneSettings())
    (best,) = tuning.best
    optimizer = design.base.train.optimizer
    assert best.lr == pytest.approx(optimizer.lr * 2**BEST_JOINT)
    assert best.matrix_lr == pytest.approx(optimizer.matrix_lr * 2 ** (BEST_JOINT + BEST_MATRIX))
    assert best.is_bracketed
    assert len(surface) == len(set(surface)) <= 16
    assert tuning.notes == ()
    assert Tuning.read(tmp_path / "tuning.json") == tuning


def test_the_written_design_carries_the_rates_over(design, surface, tmp_path):
    del surface
    tune(design, tmp_path, TuneSettings(model=parse_size("gpt:depth=2,width=32")))
    written = LadderDesign.read(tmp_path / "ladder.yaml")
    rule = written.base.train.parametrization
    assert (rule.name, rule.base_width, rule.base_depth) == ("completep", 32, 2)
    tokens = 16 * written.base.tokens_per_step
    assert (rule.base_tokens, rule.token_exponent) == (tokens, 0.32)
    assert written.sizes == design.sizes
    for rung in rungs_of(written):  # a trunk and its branches agree on the rates
        recipes = [rung.trunk_recipe, *(recipe for _, recipe in rung.branches)]
        assert {recipe.train.parametrization.horizon_tokens for recipe in recipes} == {2 * tokens}
    assert target_recipe(written).train.parametrization.horizon_tokens is None
    recipe, width, depth = base_sized(written)
    assert (width, depth, recipe.model.size["width"]) == (32, 2, 32)


def test_several_horizons_fit_how_rates_fall(design, surface, tmp_path):
    tuning = tune(design, tmp_path, TuneSettings(horizons=(16, 64, 256), max_trials=24))
    assert tuning.token_exponent == pytest.approx(EXPONENT)
    assert tuning.is_exponent_fitted
    assert [one.num_steps for one in tuning.best] == [16, 64, 256]
    assert len(surface) <= 24
    assert {trial.num_steps for trial in surface} == {16, 64, 256}


def test_rates_that_rise_with_the_horizon_are_left_alone(design, monkeypatch, tmp_path):
    monkeypatch.setattr(Proxy, "loss", lambda _, trial: (trial.joint - math.log2(trial.num_steps / 16)) ** 2)
    tuning = tune(design, tmp_path, TuneSettings(horizons=(16, 64), max_trials=24))
    assert tuning.token_exponent == 0
    assert "rises with the horizon, as its power 1.00" in tuning.notes[-1]


def test_few_trials_end_at_an_edge_and_say_so(design, monkeypatch, tmp_path):
    monkeypatch.setattr(Proxy, "loss", lambda _, trial: -trial.joint)
    tuning = tune(design, tmp_path, TuneSettings(max_trials=6))
    assert len(tuning.trials) <= 6
    assert not tuning.best[0].is_bracketed
    assert "At 16 steps the best rates stand at the edge of what was tried" in tuning.notes[0]


def test_other_rules_take_the_place_of_the_designs(design, surface, tmp_path):
    del surface
    for name, width in (("mup_simple", 16), ("standard", None)):
        tune(design, tmp_path, TuneSettings(rule=name))
        rule = LadderDesign.read(tmp_path / "ladder.yaml").base.train.parametrization
        assert (rule.name, rule.base_width, rule.base_depth) == (name, width, None)
        assert rule.base_tokens


def test_a_proxy_is_trained_once(design, tmp_path):
    trained = []
    proxy = Proxy(proxy_recipe(design), (0, 1), tmp_path, trained.append)
    trial = Trial(1, 0, 8)
    loss = proxy.loss(trial)
    assert trained
    folders = sorted(tmp_path.iterdir())
    assert [folder.name for folder in folders] == ["h8-lr+1-matrix+0-s0", "h8-lr+1-matrix+0-s1"]
    records = [RunFolder(folder).read_record() for folder in folders]
    assert loss == pytest.approx(sum(record.result.val_loss for record in records) / 2)
    assert records[0].recipe.train.optimizer.lr == 2 * design.base.train.optimizer.lr
    trained.clear()
    assert proxy.loss(trial) == loss
    assert not trained


def test_a_proxy_that_diverges_has_no_finite_loss(design, tmp_path):
    base = proxy_recipe(design)
    # Decay that multiplies matrices by -88 a step: they overflow.
    rates = ["lr=0.1", "matrix_lr=9", "weight_decay=9.9", "name=sgd"]
    wild = base.with_values(["train.parametrization={}", *(f"train.optimizer.{rate}" for rate in rates)])
    proxy = Proxy(wild, (0,), tmp_path)
    assert proxy.loss(Trial(0, 0, 16)) == math.inf
    assert RunFolder(tmp_path / "h16-lr+0-matrix+0-s0").read_record().is_diverged
    assert proxy.loss(Trial(0, 0, 16)) == math.inf  # as its record says
    assert proxy.loss(Trial(1, 0, 16)) == math.inf  # a recipe takes no rates from 10 on
    assert not (tmp_path / "h16-lr+1-matrix+0-s0").exists()
    with pytest.raises(RecipeError, match="holds a run of another recipe"):  # and not: it diverges as well
        Proxy(base, (0,), tmp_path).loss(Trial(0, 0, 16))


def test_what_cannot_be_tuned_is_refused(design, tmp_path):
    with pytest.raises(RecipeError, match="takes 6 trials or more") as caught:
        tune(design, tmp_path, TuneSettings(max_trials=5))
    assert caught.value.hint == "--max-trials 12"
    with pytest.raises(RecipeError, match="longer than the warm-up of 4 steps"):
        tune(design, tmp_path, TuneSettings(horizons=(4, 8)))
    sgd = design.with_values(["base.train.optimizer.name=sgd", "base.train.parametrization={}"])
    with pytest.raises(RecipeError, match="rates of sgd are not carried over by completep"):
        tune(sgd, tmp_path, TuneSettings())
    with pytest.raises(RecipeError, match="rates are tuned and carried over for gpt alone"):
        tune(design, tmp_path, TuneSettings(model=parse_size("encoder:depth=1,width=16")))


def test_where_every_trial_diverges_lower_rates_are_asked_for(design, monkeypatch, tmp_path):
    monkeypatch.setattr(Proxy, "loss", lambda *_: math.inf)
    with pytest.raises(DivergedError, match="every trial diverged") as caught:
        tune(design, tmp_path, TuneSettings())
    assert "base.train.optimizer.lr" in caught.value.hint


def test_an_exponent_is_the_slope_of_a_line():
    assert fitted_exponent([1, 2, 4], [8, 4, 2]) == pytest.approx(1)
    assert fitted_exponent([1, 10], [1, 10**-0.32]) == pytest.approx(0.32)


def test_horizons_too_near_to_each_other_fit_no_exponent(design, monkeypatch, tmp_path):
    monkeypatch.setattr(
        Proxy, "loss", lambda _, trial: (trial.joint + (2 if trial.num_steps > 16 else 0)) ** 2
    )
    tuning = tune(design, tmp_path, TuneSettings(horizons=(16, 20), max_trials=24))
    assert tuning.token_exponent == 0.32
    assert not tuning.is_exponent_fitted
    assert "falls with the horizon as its power 6.21, which is scatter" in tuning.notes[-1]
    assert LadderDesign.read(tmp_path / "ladder.yaml").base.train.parametrization.token_exponent == 0.32
