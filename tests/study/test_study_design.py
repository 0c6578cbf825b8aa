import pytest

from kleiber.errors import RecipeError
from kleiber.study.design import LadderDesign, branch_step, read_design, rungs_of, target_recipe


def test_rungs_are_sizes_times_seeds_with_a_branch_a_horizon(design):
    rungs = rungs_of(design)
    assert [rung.trunk for rung in rungs] == [f"d1-w{w}-s{s}" for w in (16, 32, 48) for s in (0, 1)]
    rung = rungs[2]
    assert [name for name, _ in rung.branches] == ["d1-w32-s0-h16", "d1-w32-s0-h32"]
    assert rung.trunk_recipe.train.num_steps == 24
    assert rung.trunk_recipe.train.branch_steps == (12, 24)
    assert rung.trunk_recipe.train.schedule.cooldown_frac == 0
    assert [branch_step(recipe) for _, recipe in rung.branches] == [12, 24]
    assert rung.num_steps == 24 + 4 + 8
    assert {r.train.seed for _, r in rung.branches} == {0}
    assert rung.trunk_recipe.parallel.num_threads == 1


def test_every_run_has_the_rule_by_which_rates_carry_over(design):
    rule = design.base.train.parametrization
    assert (rule.name, rule.base_width) == ("mup_simple", 32)
    recipes = [
        recipe for rung in rungs_of(design) for recipe in (rung.trunk_recipe, *(r for _, r in rung.branches))
    ]
    assert {recipe.train.parametrization for recipe in (*recipes, target_recipe(design))} == {rule}
    assert {recipe.train.optimizer for recipe in recipes} == {design.base.train.optimizer}


def test_a_trunk_and_its_branches_have_the_rates_of_the_longest_horizon(design):
    timed = design.with_values(["base.train.parametrization.base_tokens=1000"])
    for rung in rungs_of(timed):
        recipes = (rung.trunk_recipe, *(recipe for _, recipe in rung.branches))
        longest = recipes[-1].num_tokens
        assert {recipe.train.parametrization.horizon_tokens for recipe in recipes} == {longest}
    assert target_recipe(timed).train.parametrization.horizon_tokens is None
    fixed = timed.with_values(["base.train.parametrization.horizon_tokens=5000"])
    assert rungs_of(fixed)[0].trunk_recipe.train.parametrization.horizon_tokens == 5000


def test_the_target_takes_its_own_size_steps_and_threads(design):
    recipe = target_recipe(design)
    assert recipe.model.size["width"] == 64
    assert recipe.train.num_steps == 48
    assert recipe.parallel.num_threads == 1
    assert recipe.data == design.base.data


def test_a_design_reads_back(design, tmp_path):
    design.write(tmp_path / "ladder.yaml")
    assert read_design(tmp_path / "ladder.yaml") == design


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizons": [32, 16]}, r"horizons must rise, got \[32, 16\]"),
        ({"seeds": [1, 1]}, r"seeds must differ, got \[1, 1\]"),
        ({"sizes": []}, "sizes"),
        ({"horizon": [16]}, r"unknown key 'horizon'\. Did you mean 'horizons'\?"),
        (
            {"target": {"model": {"family": "gpt", "depth": 1, "width": 64}, "num_steps": -1}},
            r"target\.num_steps",
        ),
        ({"seeds": [0, -1]}, r"seeds\.1: input should be greater than or equal to 0\. Got -1"),
        ({"seeds": [2**31]}, r"seeds\.0: input should be less than 2147483648\. Got 2147483648"),
        (
            {"horizons": [16, 10**15]},
            r"horizons\.1: input should be less than or equal to 1000000000\. Got 10+\.",
        ),
        ({"horizons": [0, 16]}, r"horizons\.0: input should be greater than or equal to 1\. Got 0"),
        ({"num_workers": 10**6}, r"num_workers: input should be less than or equal to 4096"),
        ({"seeds": list(range(101))}, r"seeds: tuple should have at most 100 items"),
    ],
)
def test_bad_designs_are_refused(design, change, message):
    with pytest.raises(RecipeError, match=message):
        LadderDesign.of(design.model_dump() | change, "ladder.yaml", RecipeError)


def test_values_are_set_by_dotted_keys(design):
    changed = design.with_values(["base.data.context=64", "horizons=[20, 40]", "target.num_steps=60"])
    assert (changed.base.data.context, changed.horizons, changed.target.num_steps) == (64, (20, 40), 60)
    assert changed.sizes == design.sizes
    assert design.base.data.context == 32


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("horizons", r"--set takes KEY=VALUE with a dotted key\. Got 'horizons'"),
        ("horizons.0=3", r"--set horizons\.0: 'horizons' holds a value, not keys"),
        ("base.data.contxt=3", r"the ladder: unknown key 'base\.data\.contxt'\. Did you mean 'context'\?"),
        ("num_workers=0", r"the ladder: num_workers: input should be greater than or equal to 1\. Got 0"),
    ],
)
def test_a_bad_assignment_is_refused(design, assignment, message):
    with pytest.raises(RecipeError, match=message):
        design.with_values([assignment])


def test_the_same_size_twice_is_refused(design):
    doubled = design.model_copy(update={"sizes": (design.sizes[0], design.sizes[0])})
    with pytest.raises(
        RecipeError, match=r"sizes of a ladder must differ in depth or width\. Got 'd1-w16-s0, d1-w16-s1'"
    ):
        rungs_of(doubled)


@pytest.mark.parametrize("setting", ["train.schedule.warmup_steps=12", "train.schedule.cooldown_frac=0"])
def test_a_horizon_must_hold_warmup_and_cooldown(design, setting):
    design = design.model_copy(update={"base": design.base.with_values([setting])})
    with pytest.raises(RecipeError, match="the shortest horizon of 16 steps must hold the warm-up"):
        rungs_of(design)


def test_branches_need_a_trunk(design):
    raw = design.model_dump(mode="json", exclude_unset=True)
    raw["base"]["train"]["schedule"] = {"name": "cosine", "warmup_steps": 4}
    with pytest.raises(
        RecipeError,
        match=r"base\.train\.schedule\.name must be wsd, whose trunk branches can leave, got cosine",
    ):
        LadderDesign.of(raw, "the ladder", RecipeError)


def test_a_ladder_stops_at_its_horizons_alone(design):
    with pytest.raises(RecipeError, match=r"base\.train\.stop must be left out"):
        design.with_values(["base.train.stop.flops=1e11"])
