from __future__ import annotations

import math

import pytest
import torch

from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.rotary import norm_and_rotate, rotations

SPEC = GPTSpec.from_dial({"depth": 1, "width": 16, "head_dim": 4, "num_kv_heads": 2}, vocab_size=9, context=6)


def rope(dtype: torch.dtype = torch.float32, heads: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = (table.to(dtype)[:, None].expand(-1, heads, -1) for table in rotations(SPEC, "cpu"))
    return cos, sin


def test_a_head_worked_by_hand() -> None:
    # [3, 0, 4, 0] has mean square 25/4: normalized [1.2, 0, 1.6, 0]; at token 1 the first pair turns by 1 radian
    x = torch.tensor([3.0, 0, 4, 0]).expand(1, 2, 1, 4)
    y = norm_and_rotate(
        x, torch.ones(4), torch.ones(4), tuple(t[:2] for t in rope(heads=1)), num_heads=1, eps=1e-12
    )
    turned = [1.2 * math.cos(1) - 1.6 * math.sin(1), 0, 1.6 * math.cos(1) + 1.2 * math.sin(1), 0]
    assert y[0, 0, 0].tolist() == pytest.approx([1.2, 0, 1.6, 0], abs=1e-6)
    assert y[0, 1, 0].tolist() == pytest.approx(turned, abs=1e-6)


def test_scores_depend_on_the_distance_only() -> None:
    x = torch.randn(1, 1, 2, 4, generator=torch.Generator().manual_seed(0)).expand(1, 6, 2, 4)
    y = norm_and_rotate(x, torch.ones(4), torch.ones(4), rope(heads=2), num_heads=1, eps=1e-6)
    scores = y[0, :, 0] @ y[0, :, 1].T
    assert torch.allclose(scores.diagonal(1), scores[0, 1].expand(5), atol=1e-5)
    assert (scores[0, 1] - scores[0, 2]).abs() > 1e-3


def test_gains_belong_to_their_heads() -> None:
    x = torch.ones(1, 1, 6, 4)
    y = norm_and_rotate(
        x, torch.full((4,), 2.0), torch.full((4,), 5.0), tuple(t[:1] for t in rope()), num_heads=4, eps=0.0
    )
    assert y[0, 0, :, 0].tolist() == [2, 2, 2, 2, 5, 5]


def test_backward_matches_differences() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 6, 6, 4, dtype=torch.float64, generator=generator).requires_grad_()
    q, k = (torch.randn(4, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    tables = rope(torch.float64)
    assert torch.autograd.gradcheck(
        lambda x, q, k: norm_and_rotate(x, q, k, tables, num_heads=4, eps=1e-2), (x, q, k)
    )
