import pytest

from kleiber.errors import RecipeError
from kleiber.runs import Recipe, hash_of


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["temperature=2"], r"recover: temperature has no effect without a teacher, got 2\.0"),
        (["feature_weight=1"], r"recover: feature_weight has no effect without a teacher, got 1\.0"),
        (["teacher=t", "skew=0.3"], r"recover: skew has no effect without divergence skew, got 0\.3"),
        (["lora_alpha=3"], r"recover: lora_alpha has no effect without lora_rank, got 3\.0"),
        (["teacher=t", "teacher_weight=0"], r"recover\.teacher_weight: .*greater than 0"),
        (["student=t"], r"unknown key 'recover\.student'"),
    ],
)  # fmt: skip
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        Recipe().with_values(["recover.model=m", *(f"recover.{one}" for one in settings)])


def test_a_compiler_is_refused():
    with pytest.raises(RecipeError, match=r"train\.compile must be never, got auto"):
        Recipe().with_values(["recover.model=m", "train.compile=auto"])


def test_recipes_that_recover_nothing_keep_the_hash_that_they_had():
    assert "recover" not in Recipe().model_dump()
    assert "recover" not in Recipe().to_yaml()
    recipe = Recipe().with_values(["recover.model=m"])
    assert recipe.model_dump()["recover"]["model"] == "m"
    assert hash_of(recipe) != hash_of(Recipe())
    assert Recipe.of(recipe.model_dump(mode="json"), "recipe", RecipeError) == recipe
