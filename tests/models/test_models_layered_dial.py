from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.errors import RecipeError
from kleiber.models import FAMILIES
from kleiber.models.convnet import ConvNetSpec
from kleiber.models.inception import InceptionSpec
from kleiber.models.mlp import MLPSpec
from kleiber.models.resnet import ResNetSpec
from kleiber.runs import DataShape

VISION = ["mlp", "convnet", "inception", "resnet"]
LARGE = DataShape(inputs="images", channels=3, height=224, width=224, num_outputs=1000)
DIGITS = DataShape(inputs="images", channels=1, height=8, width=8, num_outputs=10)
TABLE = DataShape(inputs="features", num_features=30, num_outputs=2)


@pytest.mark.parametrize("family", VISION)
@given(log_params=st.floats(5.3, 8.5), is_large=st.booleans())
@settings(max_examples=12)
def test_params_are_reached_on_small_and_large_images(family: str, log_params: float, is_large: bool) -> None:
    target = 10**log_params
    if is_large and target < 2e7:  # the numbers of a large image alone are 150,528 for each feature
        return
    spec = FAMILIES[family].of_size({"params": target}, LARGE if is_large else DIGITS)
    assert abs(spec.count().total / target - 1) < 0.1
    assert spec.shape == (LARGE if is_large else DIGITS)


def test_a_near_count_comes_before_a_balanced_shape() -> None:
    # 7 blocks of 48 channels are balanced and 13% too many; 3 of 80 are 3% too many.
    spec = FAMILIES["inception"].of_size({"params": 305_053}, DIGITS)
    assert (spec.depth, spec.width, spec.count().total) == (3, 80, 312_910)


def test_a_larger_target_is_deeper_and_wider() -> None:
    specs = [ResNetSpec.of_size({"params": 10**e}, ResNetSpec.example_shape) for e in (5, 6, 7, 8)]
    assert [spec.depth for spec in specs] == sorted(spec.depth for spec in specs)
    assert [spec.width for spec in specs] == sorted(spec.width for spec in specs)


def test_params_with_depth_width_or_a_field_given() -> None:
    shape = ResNetSpec.example_shape
    spec = ResNetSpec.of_size({"params": "1M", "depth": 20, "shortcut": "projection"}, shape)
    assert (spec.depth, spec.shortcut) == (20, "projection")
    assert abs(spec.count().total / 1e6 - 1) < 0.05
    assert ResNetSpec.of_size({"params": 1e6, "width": 24}, shape).width == 24
    assert MLPSpec.of_size({"params": 1e4, "norm": "batch"}, TABLE).norm == "batch"
    convnet = ConvNetSpec.of_size({"params": 1e6, "stage_depths": "2x2"}, shape)
    assert convnet.stage_depths == (2, 2)
    assert abs(convnet.count().total / 1e6 - 1) < 0.05


def test_depth_gives_the_width_and_width_the_depth() -> None:
    assert MLPSpec.of_size({"depth": 3}, TABLE).width == 384
    assert MLPSpec.of_size({"width": 512}, TABLE).depth == 4
    assert ConvNetSpec.of_size({"width": 64}, LARGE).depth == 8
    assert InceptionSpec.of_size({"width": 64}, LARGE).depth == 9
    assert ResNetSpec.of_size({"width": 32}, ResNetSpec.example_shape).depth == 20


def test_stages_are_said_on_the_command_line_and_in_yaml() -> None:
    shape = ResNetSpec.example_shape
    spec = ResNetSpec.of_size({"stage_depths": "3x4x6x3"}, shape)
    assert (spec.stage_depths, spec.width, spec.depth) == ((3, 4, 6, 3), 64, 34)
    assert spec == ResNetSpec.of_size({"stage_depths": [3, 4, 6, 3]}, shape)
    assert InceptionSpec.of_size({"stage_depths": 2}, shape).stage_depths == (2,)


@pytest.mark.parametrize("family", VISION)
@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"num_outputs": 7}, "size: num_outputs belongs to the data, not to the size of the model. Got 'num_outputs=7'"),
        ({"widht": 7}, r"size: unknown key 'widht'\. Did you mean 'width'"),
        ({"params": 1e6, "depth": 20, "width": 16}, "size: depth, width and params cannot all be set"),
        ({"params": "-3"}, "size: params must be a positive number"),
        ({"params": 50}, r"size: params cannot be reached with .*; the nearest has [\d,]+\. Got 50"),
        ({"params": 1e13, "width": 32}, r"size: params cannot be reached with .*; the nearest has [\d,]+\. Got 1"),
        ({"width": 10**7}, "size: width: input should be less than or equal to 1000000"),
        ({"depth": True}, "size: depth: input should be a valid integer"),
        ({"width": 32, "activation": "rleu"}, "size: activation: input should be 'sigmoid', 'tanh', 'relu'"),
        ({"width": 32, "norm": "instance"}, "size: norm: input should be"),
        ({"width": 32, "dropout": 1.0}, "size: dropout: input should be less than 1"),
        ({"width": 32, "init": "zeros"}, "size: init: input should be"),
        ({}, "needs depth, width or params"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(family: str, size: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as raised:
        FAMILIES[family].of_size(size, FAMILIES[family].example_shape)
    assert family in raised.value.message
    assert raised.value.hint is not None or "size: " in raised.value.message


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"depth": 4, "stage_depths": "2x2"}, "depth and stage_depths both say the depth"),
        ({"stage_depths": "2by2"}, "stage_depths: "),
        ({"stage_depths": [2, 0]}, "stage_depths.1: input should be greater than or equal to 1"),
        ({"stage_depths": []}, "stage_depths: "),
        ({"stage_depths": [1.5]}, "stage_depths.0: "),
    ],
)
@pytest.mark.parametrize("family", ["convnet", "inception", "resnet"])
def test_stages_that_are_no_stages_are_refused(family: str, size: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"{family} size: {message}"):
        FAMILIES[family].of_size(size, FAMILIES[family].example_shape)


def test_data_without_outputs_is_refused() -> None:
    shape = DataShape(inputs="images", channels=3, height=32, width=32)
    for family in VISION:
        with pytest.raises(
            RecipeError, match=f"{family} predicts classes or values, .* num_outputs is missing"
        ):
            FAMILIES[family].of_size({"depth": 8}, shape)


def test_data_of_another_kind_is_refused_with_a_family_that_reads_it() -> None:
    with pytest.raises(RecipeError, match=r"resnet reads images\. Got 'features'") as raised:
        ResNetSpec.of_size({"depth": 20}, TABLE)
    assert raised.value.hint == "--set model.family=mlp"
    with pytest.raises(RecipeError, match=r"mlp reads features or images or series\. Got 'tokens'"):
        MLPSpec.of_size({"depth": 2}, DataShape(inputs="tokens", vocab_size=9, context=9, num_outputs=2))
