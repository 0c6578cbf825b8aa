from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from kleiber.models.activation_functions import ACTIVATIONS
from kleiber.models.activations import ActivationName

FORMULAS = {
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": lambda x: (math.exp(x) - math.exp(-x)) / (math.exp(x) + math.exp(-x)),
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "relu2": lambda x: max(x, 0.0) ** 2,
}


def test_every_name_has_a_function() -> None:
    assert list(get_args(ActivationName)) == list(ACTIVATIONS) == list(FORMULAS)


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_equals_its_formula(name: ActivationName) -> None:
    x = torch.tensor([-4.0, -1.5, -0.2, 0.0, 0.3, 1.0, 5.0], dtype=torch.float64)
    expected = torch.tensor([FORMULAS[name](number) for number in x.tolist()], dtype=torch.float64)
    assert torch.allclose(ACTIVATIONS[name](x), expected, rtol=1e-12, atol=1e-12)
