import yaml
from hypothesis import given
from hypothesis import strategies as st

from kleiber.errors import RecipeError
from kleiber.models import resolve_spec
from kleiber.runs import ModelRecipe, Recipe, RunFolder
from kleiber.train.start import resolve

SIZES = st.one_of(
    st.fixed_dictionaries(
        {"width": st.integers(1, 20).map(lambda n: 32 * n)},
        optional={
            "depth": st.integers(1, 30),
            "num_heads": st.sampled_from([2, 4]),
            "head_dim": st.sampled_from([8, 16]),
            "num_kv_heads": st.sampled_from([1, 2]),
            "mlp_width": st.integers(1, 999),
            "is_tied": st.booleans(),
            "rope_theta": st.floats(2, 1e9),
            "norm_eps": st.floats(1e-12, 0.1),
        },
    ),
    st.fixed_dictionaries({"params": st.floats(3e5, 1e9)}, optional={"is_tied": st.booleans()}),
)


@given(SIZES)
def test_a_resolved_recipe_gives_the_same_model_whatever_the_dial_becomes(tmp_path_factory, size):
    recipe = Recipe(model=ModelRecipe(family="gpt", **size))
    try:
        spec = resolve_spec(recipe)
    except RecipeError:  # a width that no heads divide, a target out of reach
        return
    run = RunFolder(tmp_path_factory.getbasetemp() / "none")
    resolved = resolve(recipe, run)
    assert resolve_spec(resolved) == spec
    assert set(resolved.model.size) == set(type(spec).model_fields) - {"family", "vocab_size", "context"}
    assert resolve(resolved, run) == resolved
    assert Recipe.of(yaml.safe_load(resolved.to_yaml()), "recipe.yaml", RecipeError) == resolved


def test_what_is_asked_is_compared_as_resolved(recipe, make_record, tmp_path):
    run = RunFolder(tmp_path)
    known = resolve(recipe, run)
    make_record(recipe=known).write(run.record_path)
    spelt_out = recipe.with_values(["model.num_heads=1", "model.mlp_width=48", "parallel.num_threads=null"])
    assert resolve(spelt_out, run) == known
