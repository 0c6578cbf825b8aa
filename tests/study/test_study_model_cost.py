from __future__ import annotations

from pathlib import Path

import pytest

from kleiber.cost.usage import Usage
from kleiber.errors import RecipeError
from kleiber.models import parse_size, resolve_spec
from kleiber.models.foreign import open_subject
from kleiber.runs import Recipe
from kleiber.study.model_cost import check_micro_batches, costed_family, costed_subject

SPEC = resolve_spec(Recipe(model=parse_size("gpt:depth=2,width=64")))
LENET = f"{Path(__file__).parents[2] / 'examples' / 'article_lenet.py'}:Net"


@pytest.fixture(scope="module")
def lenet():
    return costed_subject(open_subject(LENET, inputs=["8x3x32x32"]))


def test_a_family_counts_itself():
    cost = costed_family("gpt:depth=2,width=64", SPEC, batch_size=4).cost(Usage(batch_size=4))
    assert cost.num_params == SPEC.count()
    assert cost.flops("forward") + cost.flops("backward") == SPEC.flops(4, SPEC.context).total
    assert cost.memory.weights >= 4 * SPEC.count().total
    assert cost.modules.num_params == SPEC.count().total
    assert cost.says == (
        "FLOPs, in closed form: 2 per multiply-add forward and 4 backward; half of the attention square.",
    )


def test_a_cost_is_remembered(lenet):
    assert lenet.cost(Usage(batch_size=8)) is lenet.cost(Usage(batch_size=8))
    assert lenet.cost(Usage(batch_size=8)) is not lenet.cost(Usage(batch_size=4))


def test_a_class_is_traced(lenet):
    cost = lenet.cost(Usage(batch_size=8))
    assert cost.num_params.total == cost.num_trainable == cost.modules.num_params == 62_006
    # 2 convolutions of 5x5 and 3 linear layers, a sample each.
    convolved = 2 * (28 * 28 * 6 * 75 + 10 * 10 * 16 * 150)
    linear = 2 * (400 * 120 + 120 * 84 + 84 * 10)
    assert cost.flops("forward") == 8 * (convolved + linear)
    assert {child.name for child in cost.modules.children} >= {"conv1", "conv2", "fc1", "fc2", "fc3"}
    assert cost.tokens_per_sample is None
    assert any(sentence.startswith("Trained on ") for sentence in cost.says)
    served = lenet.cost(Usage(mode="infer", batch_size=8))
    assert not any(sentence.startswith("Trained on ") for sentence in served.says)


def test_the_fullest_moment_is_among_those_of_a_picture(lenet):
    cost = lenet.cost(Usage(batch_size=8))
    held = [sum(moment.held_bytes.values()) for moment in cost.moments]
    assert max(held) == pytest.approx(cost.memory.summary().peak, rel=0.01)
    assert 2 <= len(cost.moments) <= 2 * 400


def test_micro_batches_divide_the_batch():
    check_micro_batches(Usage(batch_size=12, accumulation=3))
    with pytest.raises(RecipeError, match="--accumulation 3 must divide the batch of 8 samples") as caught:
        costed_family("x", SPEC, batch_size=8).cost(Usage(batch_size=8, accumulation=3))
    assert caught.value.hint == "--batch 9 --accumulation 3"
