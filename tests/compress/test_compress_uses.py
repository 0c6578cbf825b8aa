"""Uses of weights: seen by identity, with the rows that they multiply."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.compress.uses import Use, inputs_of, run_batch, watched
from kleiber.data import Batch


def uses_of(module: nn.Module, batch: Batch) -> list[Use]:
    seen: list[Use] = []
    watched(module, batch, seen.append)
    return seen


def images(*shape: int) -> Batch:
    torch.manual_seed(0)
    return Batch({"images": torch.randn(shape).numpy()}, shape[0])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
        {"padding": "same", "dilation": 2},
        {"padding": "valid", "stride": 2},
        {"padding": 1, "padding_mode": "reflect"},
    ],
)
def test_the_rows_of_a_convolution_times_its_weight_are_its_outputs(options: dict[str, Any]) -> None:
    module = nn.Conv2d(3, 5, (3, 2), bias=False, **options)
    batch = images(4, 3, 9, 8)
    (use,) = uses_of(module, batch)
    expected_BRP = run_batch(module, batch).flatten(2)
    got_NR = use.rows() @ module.weight.detach().flatten(1).T
    assert torch.allclose(got_NR, expected_BRP.transpose(1, 2).reshape(-1, 5), atol=1e-5)


def test_a_convolution_of_one_axis_has_rows_too_and_those_of_a_single_sample() -> None:
    module = nn.Conv1d(3, 4, 5, stride=2, padding=1, bias=False)
    for batch in (images(2, 3, 11), images(3, 11)):
        (use,) = uses_of(module, batch)
        out = run_batch(module, batch).detach()
        out_BRP = out if out.ndim == 3 else out.unsqueeze(0)
        got_NR = use.rows() @ module.weight.detach().flatten(1).T
        assert torch.allclose(got_NR, out_BRP.transpose(1, 2).reshape(-1, 4), atol=1e-5)


class Bare(nn.Module):
    """Weights that stand in no layer, one of which is looked up and multiplied by."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(7, 4))
        self.matrix = nn.Parameter(torch.randn(4, 4))
        self.seen: list[bool] = []

    def forward(self, tokens_BT: Tensor) -> Tensor:
        self.seen = [self.training, torch.is_grad_enabled()]
        x_BTW = F.linear(bias=None, weight=self.matrix, input=F.embedding(tokens_BT, self.table))
        return F.linear(x_BTW @ torch.eye(4), self.table)


def test_weights_are_told_by_identity_in_the_order_of_use_in_evaluation() -> None:
    module = Bare()
    batch = Batch({"tokens": np.array([[0, 1, 2], [3, 4, 5]])}, 2)
    uses = uses_of(module, batch)
    assert [(use.name, use.kind, use.has_rows) for use in uses] == [
        ("table", "embedding", False),
        ("matrix", "linear", True),
        ("table", "linear", True),
    ]
    # The last token of running text is only predicted.
    assert torch.equal(uses[0].input, torch.tensor([[0, 1], [3, 4]]))
    assert torch.equal(uses[1].rows(), module.table.detach()[[0, 1, 3, 4]])
    assert module.seen == [False, False]
    assert module.training


def test_a_view_of_a_weight_is_another_weight() -> None:
    class Sliced(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
            return F.linear(input, self.weight[:1])

    assert uses_of(Sliced(3, 2), Batch({"features": np.ones((2, 3), np.float32)}, 2)) == []


def test_inputs_are_those_that_a_task_gives() -> None:
    tokens = np.arange(6).reshape(2, 3)
    ids = torch.from_numpy(tokens)
    pixels = np.zeros((2, 1, 2, 2), np.float32)
    of = lambda **arrays: inputs_of(Batch(arrays, 2))  # noqa: E731
    assert torch.equal(of(tokens=tokens)[0], ids[:, :-1])
    assert torch.equal(of(tokens=tokens, labels=np.zeros(2))[0], ids)
    source, target = of(source=tokens, target=tokens)
    assert torch.equal(source, ids)
    assert torch.equal(target, ids[:, :-1])
    assert [tuple(one.shape) for one in of(tokens=tokens, images=pixels)] == [(2, 1, 2, 2), (2, 3)]
