import itertools
import math

import pytest

from kleiber.errors import RecipeError
from kleiber.models import resolve_spec
from kleiber.runs import DataShape, ModelRecipe, Recipe, TaskRecipe
from kleiber.study.growing.design import StudyDesign, members_of, open_design, sized
from kleiber.study.growing.lines import lines_between, smallest_size

MNIST = DataShape(inputs="images", channels=1, height=28, width=28, num_outputs=10)


def base_of(family, shape=None, **size):
    recipe = Recipe(model=ModelRecipe(family=family, **size)).with_values(
        ["data.vocab_size=512", "data.context=128"]
    )
    if shape is None:
        return recipe
    data = recipe.data.model_copy(update={"shape": shape})
    return recipe.model_copy(update={"data": data, "task": TaskRecipe(name="classification")})


def specs_of(base, models):
    return [resolve_spec(sized(base, model)) for model in models]


@pytest.mark.parametrize(("family", "shape", "low", "high"), [("gpt", None, 2e4, 7e5), ("mlp", MNIST, 5e3, 2e5), ("convnet", MNIST, 3e3, 1e5)])  # fmt: skip
def test_three_lines_grow_in_what_they_are_named_after(family, shape, low, high):
    base = base_of(family, shape)
    lines, _ = lines_between(base, low, high, 6)
    both = specs_of(base, lines["both"])
    counts = [spec.count().total for spec in both]
    assert counts == sorted(set(counts))
    assert math.log10(counts[-1] / counts[0]) == pytest.approx(math.log10(high / low), abs=0.25)
    for spec, larger in itertools.pairwise(both):
        assert spec.depth <= larger.depth
        assert spec.width <= larger.width
    assert len({spec.width for spec in specs_of(base, lines["depth"])}) == 1
    deep = [spec.depth for spec in specs_of(base, lines["depth"])]
    assert deep == sorted(set(deep))
    assert len({spec.depth for spec in specs_of(base, lines["width"])}) == 1
    wide = [spec.width for spec in specs_of(base, lines["width"])]
    assert wide == sorted(set(wide))


def test_what_is_fixed_of_the_size_stays_and_leaves_its_line_out():
    base = base_of("gpt", depth=2)
    lines, _ = lines_between(base, 2e4, 7e5, 5)
    assert set(lines) == {"both"}
    assert {spec.depth for spec in specs_of(base, lines["both"])} == {2}


def test_too_narrow_a_range_is_refused():
    with pytest.raises(RecipeError, match="needs three sizes or more"):
        lines_between(base_of("gpt"), 1e5, 1.05e5, 5)


def test_the_smallest_size_is_one_that_the_dial_gives():
    base = base_of("gpt")
    smallest = smallest_size(base)
    assert 1e4 < smallest < 2e4


def test_a_size_on_two_lines_is_one_member_and_a_folder_holds_one_design(tmp_path):
    base = base_of("mlp", MNIST)
    sizes = tuple(ModelRecipe(family="mlp", depth=2, width=width) for width in (4, 8, 16))
    design = StudyDesign(base=base, both=sizes, width=sizes[1:], budget_s=60, num_workers=2)
    members = members_of(design)
    assert [one.lines for one in members] == [("both",), ("both", "width"), ("both", "width")]
    assert members[0].num_params < members[1].num_params < members[2].num_params
    assert open_design(tmp_path, design) == design
    assert open_design(tmp_path) == design
    with pytest.raises(RecipeError, match="holds a study of another design"):
        open_design(tmp_path, design.model_copy(update={"budget_s": 61.0}))
