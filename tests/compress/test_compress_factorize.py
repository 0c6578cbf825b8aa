from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kleiber.compress.calibration import Calibration
from kleiber.compress.factorize import Factorize, factors, rank_of_energy, rank_of_ratio
from kleiber.compress.inputs import hessians
from kleiber.compress.subject import Subject
from kleiber.compress.uses import inputs_of
from kleiber.data import Batch, Data
from kleiber.errors import RecipeError
from kleiber.models import build
from kleiber.models.gpt import GPTSpec
from kleiber.models.resnet import ResNetSpec
from kleiber.models.stored import LowRank, Masked, Quantized
from kleiber.runs import Recipe
from kleiber.tasks import Task

SPEC = GPTSpec.from_dial({"depth": 2, "width": 32, "is_tied": False}, vocab_size=50, context=12)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def calibration() -> Calibration:
    tokens = np.random.default_rng(0).integers(1, 50, (8, 13))
    return Calibration((Batch({"tokens": tokens}, 8),), "a test", 8, 0, "hash")


def subject_of(spec: Any = SPEC) -> Subject:
    module = build(spec)
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.add_(0.1 * random(*parameter.shape, seed=seed))
    return Subject(module.eval(), spec, Recipe(), cast("Data", None), cast("Task", None))


@torch.no_grad()
def outputs(subject: Subject) -> Tensor:
    found: Tensor = subject.module(*inputs_of(calibration().batches[0]))
    return found


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_all_factors_are_the_weight(R: int, C: int, seed: int) -> None:
    weight, inputs = random(R, C, seed=seed), random(40, C, seed=seed + 1)
    left, right, energy = factors(weight, inputs.T @ inputs / 40)
    assert left.shape == (R, min(R, C))
    assert torch.allclose(left @ right, weight, atol=1e-8)
    assert torch.allclose(energy.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert bool((energy[:-1] >= energy[1:]).all())


def test_the_energy_left_off_is_what_the_outputs_lose() -> None:
    weight, inputs = random(7, 5), random(60, 5, seed=1) @ random(5, 5, seed=2)
    second = inputs.T @ inputs / 60
    left, right, energy = factors(weight, second)
    whole = float((inputs @ weight.T).square().sum())
    for K in range(1, 5):
        lost = float((inputs @ (weight - left[:, :K] @ right[:K]).T).square().sum())
        assert lost / whole == pytest.approx(float(energy[K:].sum()), rel=1e-3)


def test_no_product_of_that_rank_loses_less() -> None:
    # Against factors that were fitted to the outputs by alternating least squares, from many starts.
    weight, inputs = random(6, 4), random(50, 4, seed=1) * torch.tensor([5.0, 1.0, 0.2, 3.0])
    asked = inputs @ weight.T
    left, right, _ = factors(weight, inputs.T @ inputs / 50)
    ours = float((asked - inputs @ (left[:, :2] @ right[:2]).T).square().sum())
    for seed in range(3):
        A = random(6, 2, seed=seed)
        for _ in range(200):
            z = torch.linalg.lstsq(A, asked.T).solution
            B = torch.linalg.lstsq(inputs, z.T).solution
            A = torch.linalg.lstsq(inputs @ B, asked).solution.T
        theirs = float((asked - inputs @ B @ A.T).square().sum())
        assert theirs == pytest.approx(ours, rel=1e-4)
    plain_left, plain_right, _ = factors(weight)
    plain = float((asked - inputs @ (plain_left[:, :2] @ plain_right[:2]).T).square().sum())
    assert plain > 1.05 * ours


def test_inputs_that_fill_no_more_than_a_plane_are_taken() -> None:
    inputs = random(30, 2) @ random(2, 6, seed=1)
    weight = random(5, 6, seed=2)
    left, right, energy = factors(weight, inputs.T @ inputs / 30)
    assert bool(left.isfinite().all() and right.isfinite().all())
    assert torch.allclose(inputs @ (left[:, :2] @ right[:2]).T, inputs @ weight.T, atol=1e-2)
    assert rank_of_energy(energy, 0.9999) == 2


def test_ranks() -> None:
    assert rank_of_ratio((30, 20), 0.5) == 6  # 6 x 50 of 600
    assert rank_of_energy(torch.tensor([0.5, 0.3, 0.2]), 0.5) == 1
    assert rank_of_energy(torch.tensor([0.5, 0.3, 0.2]), 0.81) == 3


def test_a_model_in_factors() -> None:
    subject = subject_of()
    small = Factorize(ratio=0.5).apply(subject, calibration())
    assert set(small.forms) == {
        f"blocks.{block}.{name}" for block in (0, 1) for name in ("qkv", "attn_out", "gate_up", "mlp_down")
    }
    for name, form in small.forms.items():
        weight = small.module.get_parameter(name)
        assert isinstance(form, LowRank)
        factor_sizes = cast("Tensor", form.left_RK).numel() + cast("Tensor", form.right_KC).numel()
        assert factor_sizes <= 0.5 * weight.numel()
        assert torch.equal(weight, form.dense())
        assert not torch.equal(weight, subject.module.get_parameter(name))
    # Nothing of the original was written to.
    assert torch.equal(outputs(subject), outputs(subject_of()))


def test_looking_at_inputs_loses_less() -> None:
    subject, name = subject_of(), "blocks.0.mlp_down"
    second = hessians(subject.module, calibration().batches, [name])[name].double()

    def lost(is_activation_aware: bool) -> float:
        step = Factorize(ratio=0.5, layers=(name,), is_activation_aware=is_activation_aware)
        error = step.apply(subject, calibration()).module.get_parameter(name) - subject.module.get_parameter(
            name
        )
        return float((error.double() @ second @ error.double().T).trace().detach())

    assert lost(is_activation_aware=True) < 0.9 * lost(is_activation_aware=False)


def test_more_energy_is_nearer() -> None:
    subject = subject_of()
    errors = [
        float(
            (outputs(Factorize(energy=energy).apply(subject, calibration())) - outputs(subject))
            .square()
            .mean()
        )
        for energy in (0.5, 0.8, 0.9)
    ]
    assert errors == sorted(errors, reverse=True)


def test_where_two_factors_save_nothing_the_layer_stays() -> None:
    subject = subject_of()
    with torch.no_grad():  # of rank 2, while the others need almost all of theirs
        weight = subject.module.get_parameter("blocks.0.mlp_down")
        weight.copy_(random(32, 2) @ random(2, weight.shape[1]))
    small = Factorize(energy=0.9999999).apply(subject, calibration())
    assert set(small.forms) == {"blocks.0.mlp_down"}
    assert "Not factorized: 7 layers (blocks.0.qkv" in small.notes[0]
    with pytest.raises(RecipeError, match="two factors take fewer numbers in none of the layers"):
        Factorize(energy=0.9999999, keep=("blocks.0.mlp_down",)).apply(subject, calibration())


def test_convolutions_are_no_linear_layers() -> None:
    spec = ResNetSpec.of_size({"stage_depths": "1", "width": 4}, ResNetSpec.example_shape)
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    seen = Calibration((Batch({"images": images}, 2),), "a test", 2, 0, "hash")
    with pytest.raises(RecipeError, match="none of the layers") as raised:
        Factorize(ratio=0.5).apply(subject_of(spec), seen)
    assert "factorize:ratio=0.5" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (Masked(torch.ones(1, 1, dtype=torch.bool)), "has zeros that are to stay"),
        (LowRank(torch.ones(1, 1), torch.ones(1, 1)), "is in two factors already"),
        (
            Quantized(torch.zeros(1, 1, dtype=torch.uint8), torch.ones(1, 1), torch.zeros(1, 1), 4),
            "is quantized",
        ),
    ],
)
def test_it_comes_first(form: Any, reason: str) -> None:
    subject = dataclasses.replace(subject_of(), forms={"blocks.0.qkv": form})
    with pytest.raises(RecipeError, match=rf"factorize comes first: blocks\.0\.qkv {reason}"):
        Factorize(ratio=0.5).apply(subject, calibration())


def test_one_bound_is_given() -> None:
    for settings in ({}, {"ratio": 0.5, "energy": 0.9}):
        with pytest.raises(RecipeError, match="takes either a ratio or an energy"):
            Factorize.of(settings, "factorize", RecipeError)
