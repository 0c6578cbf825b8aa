import pytest
import torch

from kleiber.compress.search.candidates import Pipeline, _undominated, candidates
from kleiber.compress.search.halving import marked_front, rungs_of
from kleiber.compress.search.sensitivity import STRENGTHS, LayerChange, Sensitivity, _pruned, _treated
from kleiber.compress.steps import typed_step
from kleiber.runs.receipt import Tried


def made(changes_by_layer, num_numbers=100):
    rows = [
        LayerChange(
            layer=name, num_numbers=num_numbers, kind=kind, strength=strength, loss_change=change * index
        )
        for name, change in changes_by_layer.items()
        for kind, strengths in STRENGTHS.items()
        for index, strength in enumerate(strengths, 1)
    ]
    return Sensitivity(changes=tuple(rows))


def found(**changes):
    settings = {
        "family": "gpt", "num_params": 300, "has_int8_inputs": False, "max_frac": None, "max_tries": 100,
    }  # fmt: skip
    return candidates(made({"a": 0.01, "b": 0.1}), **(settings | changes))


def test_orders_make_sense_and_sizes_fall():
    pipelines = found()
    typed = [" ".join(map(typed_step, one.steps(1000))) for one in pipelines]
    assert len(set(typed)) == len(typed)
    assert [one.size_frac for one in pipelines] == sorted((one.size_frac for one in pipelines), reverse=True)
    # From 4 bits on rounding comes last; fewer are trained with.
    assert "shrink:params=0.5 recover:steps=1000 quantize:bits=4,method=gptq,group_size=64" in typed
    assert "shrink:params=0.5 quantize:bits=3,method=gptq,group_size=64 recover:steps=1000" in typed
    assert "quantize:bits=8" in typed
    assert not any("shrink" in one and one.startswith("quantize") for one in typed)


def test_nothing_is_trained_without_tokens():
    for one in found():
        assert not any(step.name == "recover" for step in one.steps(0))


def test_networks_of_images_shrink_by_their_work():
    assert any(typed_step(step) == "shrink:macs=0.5" for one in found(family="resnet") for step in one.before)


def test_products_of_int8_are_tried_where_speed_counts():
    typed = {typed_step(step) for one in found(has_int8_inputs=True) for step in one.after}
    assert {"quantize:bits=8,inputs=dynamic", "quantize:bits=8,inputs=static,input_clipping=mse"} <= typed


def test_what_would_be_too_large_is_not_tried():
    assert max(one.size_frac for one in found(max_frac=0.15)) <= 0.15
    smallest = found(max_frac=0.0001, max_tries=2)
    assert 1 <= len(smallest) <= 2  # so that there is a closest to name


def test_at_most_so_many():
    assert len(found(max_tries=5)) == 5


def test_what_is_larger_and_hurts_more_goes():
    small, large, unknown = (
        Pipeline((), size_frac=size, damage=damage) for size, damage in ((0.1, 0.1), (0.2, 0.2), (0.9, None))
    )
    assert _undominated([small, large, unknown]) == [small, unknown]


def test_layers_that_bear_it_lose_more():
    ratios = made({"a": 0.01, "b": 0.1}).layer_ratios(0.5)
    assert ratios["a"] > 0.5 > ratios["b"]
    assert sum(ratios.values()) / 2 >= 0.5 - 1e-9


def test_damage_between_strengths():
    sensitivity = made({"a": 1.0})
    assert sensitivity.damage("quantize", 4) == 2
    assert sensitivity.damage("quantize", 3.5) == pytest.approx(2.5)
    assert sensitivity.damage("quantize", 2) == 3


def test_the_smallest_go_first():
    weight = torch.tensor([[1.0, -4.0], [0.5, 3.0]])
    assert _pruned(weight, 0.5).tolist() == [[0.0, -4.0], [0.0, 3.0]]


def test_each_kind_at_each_strength_and_harder_is_worse():
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    errors = {}
    for kind, strength, treated in _treated(weight, is_linear=True):
        errors.setdefault(kind, []).append(float((treated - weight).square().sum()))
        assert strength in STRENGTHS[kind]
    assert {kind: len(one) for kind, one in errors.items()} == {
        kind: len(one) for kind, one in STRENGTHS.items()
    }
    assert all(one == sorted(one) for one in errors.values())
    assert {kind for kind, _, _ in _treated(weight, is_linear=False)} == {"prune", "quantize"}


def test_rungs_share_the_budget():
    rungs = rungs_of(16, 2, 1000)
    assert [one.num for one in rungs] == [16, 5, 2]
    assert sum(one.num * one.num_tokens for one in rungs) == pytest.approx(1000)
    assert rungs_of(2, 4, 10) == rungs_of(2, 2, 10)


def test_the_front():
    points = [(0.0, 9), (0.1, 5), (0.2, 5), (0.3, 1), (0.3, 1)]
    tried = [Tried(steps=("x",), rung=0, quality_loss=loss, stored_bytes=size) for loss, size in points]
    assert [one.is_on_front for one in marked_front(tried)] == [True, True, False, True, True]
