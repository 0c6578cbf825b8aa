"""Causal masks of transformers are the same on fakes as on real tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import masking_utils

from kleiber.cost.usage import Usage
from kleiber.models.foreign import open_subject
from kleiber.models.foreign.packing import nothing_packed
from kleiber.study.traced import trace

CONFIG = Path(__file__).parents[2] / "bench" / "configs" / "llama-10m.json"


def test_it_holds_inside_and_no_longer():
    look = masking_utils.find_packed_sequence_indices
    with nothing_packed():
        assert masking_utils.find_packed_sequence_indices(torch.zeros(1, 2)) is None
    assert masking_utils.find_packed_sequence_indices is look


def test_it_ends_with_an_error_too():
    look = masking_utils.find_packed_sequence_indices
    with pytest.raises(ValueError, match="inside"), nothing_packed():
        raise ValueError("inside")
    assert masking_utils.find_packed_sequence_indices is look


def test_grouped_queries_are_traced_without_a_mask():
    # With a mask the attention is spelled out in products, and its square is held.
    traced = trace(open_subject(str(CONFIG), batch_size=1, context=64), Usage(batch_size=1))
    kinds = {operation.kind for operation in traced.operations}
    assert "attention" in kinds
