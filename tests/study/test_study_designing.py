import numpy as np
import pytest

from kleiber.cost import Calibration
from kleiber.errors import RecipeError, UsageError
from kleiber.models import parse_size, resolve_spec
from kleiber.runs import ModelRecipe, ParamCount, Row
from kleiber.scaling import fit
from kleiber.scaling.bootstrap import estimate
from kleiber.scaling.forms import FORMS, Design
from kleiber.scaling.noise import Noise
from kleiber.study.design import branch_step, rungs_of, target_recipe
from kleiber.study.designing.asked import asked_ladder
from kleiber.study.designing.beliefs import Belief, Beliefs, _added_and_coupled, beliefs_of, published_laws
from kleiber.study.designing.candidates import grid_of
from kleiber.study.designing.designed import design_ladder, probe_ladder
from kleiber.study.designing.even import even_grids
from kleiber.study.designing.grid import Grid, Guard, Size, rows_of
from kleiber.study.designing.information import NORMAL_80, Information, weights_of
from kleiber.study.designing.search import Search
from kleiber.study.ladder_plan import plan_ladder

ONE = frozenset({0})
SETS = ["base.train.batch_size=8", "base.data.context=256", "base.data.vocab_size=2048"]
TARGET = "gpt:depth=3,width=160,head_dim=16@12e6"


def _line(xs, at, sigma=0.01, *, horizons=1, residuals=None, target_residual=0.0):
    """Beliefs of a straight line in x with independent errors, nothing known beforehand."""
    gradient = np.array([[[[1.0, x]] * horizons for x in xs]])
    belief = Belief(
        form="line",
        gradient_VSHK=gradient,
        target_VK=np.array([[1.0, at]]),
        residual_VSH=np.zeros((1, len(xs), horizons))
        if residuals is None
        else np.array([residuals])[..., None],
        target_residual_V=np.array([target_residual]),
        precision_KK=np.eye(2) * 1e-12,
        target_log_loss_V=np.zeros(1),
    )
    return Beliefs((belief,), Noise(trunk_frac=0.0, run_frac=sigma, misfit_frac=0.0, num_repeats=0), "a line")


def _grid(num_sizes, costs=None, horizons=(100,), starts=(80,), **more):
    sizes = tuple(
        Size(ModelRecipe(family="gpt"), 10.0 * 2**i, cost, 0.0, cost)
        for i, cost in enumerate(costs or [1.0] * num_sizes)
    )
    return Grid(sizes, horizons, starts, 10, **more)


@pytest.fixture(scope="module")
def asked():
    return asked_ladder("gpt", TARGET, SETS)


@pytest.fixture(scope="module")
def rows():
    """Of a law of the Chinchilla form, four sizes by three horizons, with half a percent of scatter."""
    random = np.random.default_rng(0)
    found = []
    for size in (5e4, 1e5, 2e5, 4e5):
        for tokens in (1e6, 2e6, 4e6):
            loss = (1.5 + 30 / size**0.3 + 200 / tokens**0.35) * np.exp(0.005 * random.standard_normal())
            count = ParamCount(embedding=0, body=round(size), head=0)
            name = f"{size:g}-{tokens:g}"
            found.append(Row(run=name, num_params=count, num_tokens=tokens, loss=loss, trunk=name))
    return found


@pytest.fixture(scope="module")
def designed(asked):
    return design_ladder(asked, budget=4e13, unit="flops")


def test_a_line_is_foretold_as_textbooks_say():
    xs, at, sigma = [0.0, 1.0, 2.0, 3.0], 6.0, 0.01
    information = Information(_line(xs, at, sigma))
    state = ((ONE,), (ONE, ONE), (), (ONE,))
    used = np.array([0.0, 1.0, 1.0, 3.0])
    variance = sigma**2 * (1 / 4 + (at - used.mean()) ** 2 / ((used - used.mean()) ** 2).sum())
    expected = NORMAL_80 * np.sqrt(variance + sigma**2)
    assert information.half_width_frac(state) == pytest.approx(expected, rel=1e-3)
    assert information.least_half_width_frac() == pytest.approx(NORMAL_80 * sigma)


def test_the_search_finds_the_optimal_extrapolation_of_a_line():
    """To extrapolate a line from [0, 3] to 6 the ends are trained 3 to 6 times as often (Hoel and Levine 1964)."""
    information = Information(_line([0.0, 1.0, 2.0, 3.0], 6.0))
    guard = Guard(num_sizes=2, num_horizons=1, num_repeats=0, span=1.0)
    found = Search(_grid(4), information, 900.0, guard).best()
    assert [len(trunks) for trunks in found] == [3, 0, 0, 6]


def test_what_no_line_says_pulls_the_forecast_away():
    """The parabola x^2, fitted by a line at x = 0, 1 and 3, is foretold at 6 by that line."""
    xs, at = [0.0, 1.0, 2.0, 3.0], 6.0
    parabola = np.array(xs) ** 2
    information = Information(_line(xs, at, residuals=parabola, target_residual=at**2))
    state = ((ONE,), (ONE,), (), (ONE,))
    line = np.polyfit([0.0, 1.0, 3.0], [0.0, 1.0, 9.0], 1)
    bias = np.polyval(line, at) - at**2
    variance = 0.01**2 * (1 / 3 + (at - 4 / 3) ** 2 / (14 / 3))
    assert information.half_width_frac(state) == pytest.approx(
        NORMAL_80 * np.sqrt(variance + bias**2 + 0.01**2), rel=1e-6
    )


def test_a_design_for_a_wrong_form_trains_near_the_target():
    """With a parabola that a line does not say, the runs far from the target only pull it away."""
    xs = [0.0, 1.0, 2.0, 3.0]
    guard = Guard(num_sizes=2, num_horizons=1, num_repeats=0, span=1.0)
    found = Search(
        _grid(4),
        Information(_line(xs, 6.0, residuals=[0.0, 0.1, 0.4, 0.9], target_residual=3.6)),
        900.0,
        guard,
    ).best()
    assert not found[0]
    assert found[3]


def test_coupled_laws_have_the_value_and_slopes_of_those_that_add():
    points = {"N": np.array([1e4, 1e5, 1e6, 1e5 * 1.001]), "D": np.array([1e7, 1e6, 1e5, 1e6])}
    middle = {name: np.exp(np.log(values).mean()) for name, values in points.items()}
    around = {name: middle[name] * np.array([1, 1, 1]) for name in points}
    around["N"] = around["N"] * np.array([1, 1.001, 1])
    around["D"] = around["D"] * np.array([1, 1, 1.001])
    added, coupled = _added_and_coupled(around, (0.3, 0.4), (0.4, 0.3))
    assert coupled == pytest.approx(added, abs=2e-7)
    # Elsewhere they part.
    added, coupled = _added_and_coupled(points, (0.3, 0.4), (0.4, 0.3))
    assert max(abs(coupled - added)) > 0.05


def test_dear_rungs_are_trained_less():
    information = Information(_line([0.0, 1.0, 2.0, 3.0], 6.0))
    guard = Guard(num_sizes=2, num_horizons=1, num_repeats=0, span=1.0)
    found = Search(_grid(4, [0.5, 1.0, 2.0, 4.0]), information, 1600.0, guard).best()
    assert len(found[0]) >= len(found[3]) >= 1
    assert _grid(4, [0.5, 1.0, 2.0, 4.0]).cost(found) <= 1600.0


def test_errors_that_runs_share_count_once():
    noise = Noise(trunk_frac=3.0, run_frac=1.0, misfit_frac=2.0, num_repeats=0)
    beliefs = Beliefs((), noise, "")
    weights, horizons = weights_of((frozenset({0, 1}), frozenset({0})), beliefs)
    # By hand: half of the misfit by size, half by cell, the trunk's, the run's.
    expected = [[2 + 2 + 9 + 1, 2 + 9, 2 + 2], [2 + 9, 2 + 2 + 9 + 1, 2], [2 + 2, 2, 2 + 2 + 9 + 1]]
    assert horizons == [0, 1, 0]
    assert np.linalg.inv(weights) == pytest.approx(np.array(expected), rel=1e-6)


def test_branches_share_their_trunk():
    grid = _grid(2, [1.0, 3.0], (100, 200), (80, 160))
    assert grid.trunk_steps(frozenset({0, 1})) == 160 + 20 + 40
    assert grid.trunk_cost(1, frozenset({1})) == 3 * 200
    state = ((frozenset({0, 1}),), (frozenset({1}),))
    assert grid.cost(state) == 220 + 600
    side_by_side = _grid(2, [1.0, 3.0], (100, 200), (80, 160), num_workers=2)
    assert side_by_side.cost(state) == 600  # the dearest trunk, not half of the sum
    assert side_by_side.cost(((frozenset({0}),) * 4, ())) == 200


def test_a_guard_asks_for_sizes_horizons_repeats_and_a_span():
    grid = _grid(4, [1.0, 2.0, 4.0, 8.0], (100, 150, 250), (80, 120, 200))
    every = frozenset({0, 1, 2})
    whole = ((every, every), (every, every), (every,), (every,))
    assert grid.holds(whole, Guard())
    assert not grid.holds((*whole[:3], ()), Guard())
    assert not grid.holds(tuple((trunks[0],) for trunks in whole), Guard())
    assert not grid.holds(tuple(tuple(t - {1} for t in trunks) for trunks in whole), Guard())
    assert not grid.holds(whole, Guard(span=30.0))


def test_sizes_keep_the_targets_dial(asked):
    grid = grid_of(target_recipe(asked), factor=10, unit="flops")
    assert [size.model.size["depth"] for size in grid.sizes] == [3] * len(grid.sizes)
    assert all(size.model.size["head_dim"] == 16 for size in grid.sizes)
    counts = [size.num_params for size in grid.sizes]
    assert counts == sorted(counts)
    target = target_recipe(asked)
    most = resolve_spec(target).flops(8).total * target.train.num_steps / 10
    assert grid.horizons[-1] == target.train.num_steps
    allowed = [(i, h) for i in range(len(counts)) for h in range(len(grid.horizons)) if grid.allows(i, h)]
    assert max(grid.flops(i, h) for i, h in allowed) <= most
    ratio = target.num_tokens / resolve_spec(target).count().total
    ratios = [grid.horizons[h] * 2048 / counts[i] / ratio for i, h in allowed]
    assert 0.1 <= min(ratios) < max(ratios) <= 10

    by_params = asked_ladder("gpt", "gpt:params=1e6@12e6", SETS)
    counts = [size.num_params for size in grid_of(target_recipe(by_params), factor=10, unit="flops").sizes]
    assert len(counts) >= 5
    assert counts[0] < 1e5


def test_a_design_is_within_its_budget_and_beats_even_grids(asked, designed):
    ladder, said = designed
    per_step = {rung.trunk: rung.spec.flops(8).total for rung in rungs_of(ladder)}
    flops = sum(rung.num_steps * per_step[rung.trunk] for rung in rungs_of(ladder))
    assert flops == pytest.approx(said.cost)
    assert 0.8 * 4e13 < said.cost <= 4e13
    assert said.half_width_frac < said.even.half_width_frac
    assert said.least_half_width_frac < said.half_width_frac
    assert all(one.half_width_without_frac > said.half_width_frac for one in said.rungs)
    dearest = max(
        rung.spec.flops(8).total * recipe.train.num_steps
        for rung in rungs_of(ladder)
        for _, recipe in rung.branches
    )
    target = target_recipe(ladder)
    assert resolve_spec(target).flops(8).total * target.train.num_steps >= 10 * dearest
    assert all(
        branch_step(recipe) > recipe.train.schedule.warmup_steps
        for rung in rungs_of(ladder)
        for _, recipe in rung.branches
    )
    names = [rung.trunk for rung in rungs_of(ladder)]
    assert len(names) == len(set(names))


def test_more_money_buys_a_narrower_interval(asked, designed):
    richer = design_ladder(asked, budget=8e13, unit="flops")[1]
    assert richer.half_width_frac < designed[1].half_width_frac


def test_a_design_reads_back(designed, tmp_path):
    ladder, _ = designed
    ladder.write(tmp_path / "ladder.yaml")
    assert type(ladder).read(tmp_path / "ladder.yaml") == ladder
    assert ladder.within.amount == 4e13


def test_gradients_are_those_of_the_form(asked):
    """Along a direction in the coefficients the believed gradient is the difference of two laws."""
    grid = grid_of(target_recipe(asked), factor=10, unit="flops")
    (belief,) = [one for one in beliefs_of(grid, (1.3e6, 12e6)).forms if one.form == "chinchilla"]
    log_size, log_tokens = grid.log_points()
    points = {
        "N": np.exp(np.append(log_size, np.log(1.3e6))),
        "D": np.exp(np.append(log_tokens, np.log(12e6))),
    }
    losses = published_laws(points)
    added = slice(0, None, 2)  # every other law is coupled, and no coefficients of this form say it
    assert belief.target_log_loss_V[added] == pytest.approx(np.log(losses[added, -1]), abs=1e-3)
    assert belief.target_log_loss_V + belief.target_residual_V == pytest.approx(np.log(losses[:, -1]))
    assert np.abs(belief.target_residual_V[1::2]).min() > 0.01
    form, design = FORMS["chinchilla"], Design.of(points)
    theta, _ = estimate(form, design, np.log(losses[0]))
    moved = theta + 1e-5 * np.eye(5)
    slopes = (form.fitted_and_jacobian(moved, design)[0] - form.fitted_and_jacobian(theta, design)[0]) / 1e-5
    assert slopes[:, -1] == pytest.approx(belief.target_VK[0], abs=1e-3)
    assert slopes[:, :-1].T.reshape(belief.gradient_VSHK[0].shape) == pytest.approx(
        belief.gradient_VSHK[0], abs=1e-3
    )


def test_a_law_of_earlier_rows_is_believed(asked, rows):
    law = fit(rows, num_bootstrap=100)
    _, said = design_ladder(asked, budget=4e13, unit="flops", law=law)
    assert f"law of form chinchilla of {law.num_rows} rows" in said.rests_on
    with pytest.raises(UsageError, match="counts body parameters and the ladder total"):
        design_ladder(asked, budget=4e13, unit="flops", law=law.model_copy(update={"convention": "body"}))
    with pytest.raises(UsageError, match="needs a law of losses in N and D; this one is of form 'power_C'"):
        design_ladder(asked, budget=4e13, unit="flops", law=fit(rows, form="power_C", num_bootstrap=100))


def test_even_grids_take_most_of_the_budget():
    grid = _grid(6, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0], (100, 150, 250), (80, 120, 200))
    found = even_grids(grid, 20_000.0)
    assert found
    for state in found:
        assert 15_000 <= grid.cost(state) <= 20_000
        assert {len(trunks) for trunks in state} == {0, 2}
        assert len({frozenset(trunks) for trunks in state if trunks}) == 1
    assert even_grids(grid, 100.0) == []
    assert rows_of(found[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"budget": 1e10},
            UsageError,
            r"budget holds no ladder of four sizes.*the least costs .*Got '1e\+10'",
        ),
        (
            {"budget": 4e13, "factor": 60.0},
            UsageError,
            r"No ladder for this target has four sizes.*1/60 of its",
        ),
        ({"budget": 0.0}, UsageError, r"budget must be above 0\. Got 0\.0"),
        ({"budget": 4e13, "factor": 1.0}, UsageError, r"factor must be above 1\. Got 1\.0"),
        (
            {"budget": 4e13, "factor": 1e6},
            RecipeError,
            r"sizes are left below the target: a ladder needs four",
        ),
    ],
)
def test_what_cannot_be_designed_is_refused(asked, change, error, message):
    with pytest.raises(error, match=message):
        design_ladder(asked, unit="flops", **change)


@pytest.mark.parametrize(
    ("base", "target", "message"),
    [
        ("gtp", TARGET, r"'gtp' is neither a file nor a family\. Did you mean 'gpt'\?"),
        ("gpt", None, "needs the run that the ladder is for"),
        (
            "gpt",
            "gpt:depth=2,width=64",
            r"A target is written FAMILY:KEY=VALUE,KEY=VALUE@TOKENS\. Got 'gpt:depth",
        ),
        ("gpt", "gpt:depth=2,width=64@-3", "A target is written"),
        ("gpt", "gpt:depth@3e6", "is not KEY=VALUE"),
    ],
)
def test_a_base_or_target_that_is_none_is_refused(base, target, message):
    with pytest.raises(RecipeError, match=message):
        asked_ladder(base, target, SETS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a: [", "not valid YAML"),
        ("target: gpt\n", "target takes keys such as model and num_steps"),
        ("target:\n", None),
    ],
)
def test_a_file_that_is_no_ladder_is_refused(text, message, tmp_path):
    path = tmp_path / "ladder.yaml"
    path.write_text(text)
    if message is None:  # an empty target is no target
        assert asked_ladder(str(path), TARGET, SETS).target.num_steps > 0
        return
    with pytest.raises(RecipeError, match=message):
        asked_ladder(str(path), TARGET, SETS)


def test_horizons_hold_warm_up_cool_down_and_whole_sequences():
    def horizons(*sets):
        asked = asked_ladder("gpt", "gpt:depth=3,width=160@16e6", sets)
        return grid_of(target_recipe(asked), factor=10, unit="flops").horizons

    short = ("base.data.context=256", "base.train.batch_size=8")
    assert min(horizons(*short)) < 600
    assert min(horizons(*short, "base.train.sequence_warmup={context: 64, steps: 300}")) >= 600
    long = [*short, "base.train.schedule.cooldown_frac=0.8", "base.train.schedule.warmup_steps=100"]
    assert all(0.2 * steps > 100 for steps in horizons(*long))
    with pytest.raises(RecipeError, match="a cool-down over 0 of a run leaves no shorter horizons"):
        horizons(*short, "base.train.schedule.cooldown_frac=0")


def test_a_target_without_a_width_cannot_be_scaled():
    with pytest.raises(RecipeError, match="must be given by its width or its parameters"):
        grid_of(target_recipe(asked_ladder("gpt", "gpt:depth=3@12e6", SETS)), factor=10, unit="flops")


def test_a_ladder_is_a_base_too(design, tmp_path):
    design.write(tmp_path / "ladder.yaml")
    asked = asked_ladder(str(tmp_path / "ladder.yaml"), None)
    assert (asked.base, asked.target) == (design.base, design.target)
    assert asked.target.model == parse_size("gpt:depth=1,width=64")


def test_a_machine_is_measured_by_three_sizes(asked):
    widths = [size.size["width"] for size in probe_ladder(asked, 10.0).sizes]
    grid = grid_of(target_recipe(asked), factor=10.0, unit="flops")
    assert len(widths) == 3
    assert (widths[0], widths[-1]) == (grid.sizes[0].model.size["width"], grid.sizes[-1].model.size["width"])


def test_seconds_are_those_of_this_machine_side_by_side(asked):
    """A budget in seconds holds more of small models' tokens than their operations say: steps of them are slow."""
    calibration = Calibration(measured_at="", peak_flops_per_s={1: 1e11})
    ladder, said = design_ladder(asked, budget=600.0, unit="s", calibration=calibration)
    assert said.unit == "s"
    assert 300 < said.cost <= 600
    plan = plan_ladder(ladder, calibration)
    assert plan.ladder_time_s == pytest.approx(said.cost, rel=0.2), (plan.ladder_time_s, said.cost)
