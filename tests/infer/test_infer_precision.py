import pytest
import torch

from kleiber.errors import UsageError
from kleiber.infer.precision import in_precision
from kleiber.models import build
from kleiber.models.gpt import GPTSpec


@pytest.fixture
def gpt():
    return build(GPTSpec.from_dial({"depth": 1, "width": 32}, vocab_size=40, context=8))


def test_bits_of_matrices_and_tables(gpt):
    forms = in_precision(gpt, {}, "int4")
    assert {name: form.num_bits for name, form in forms.items()} == {
        "blocks.0.qkv": 4, "blocks.0.attn_out": 4, "blocks.0.gate_up": 4, "blocks.0.mlp_down": 4, "embedding": 8,
    }  # fmt: skip
    fresh = build(gpt.spec)
    assert {form.num_bits for form in in_precision(fresh, {}, "int8").values()} == {8}
    for name, form in forms.items():
        assert torch.equal(dict(gpt.named_parameters())[name], form.dense())


def test_as_stored_and_in_full(gpt):
    stored = in_precision(gpt, {}, "int8")
    assert in_precision(gpt, stored, None) is stored
    assert in_precision(gpt, stored, "fp32") == {}


def test_refusals(gpt):
    stored = in_precision(gpt, {}, "int8")
    with pytest.raises(UsageError, match="would round weights that are stored in few bits already"):
        in_precision(gpt, stored, "int4")
    with pytest.raises(UsageError, match="unknown precision 'int3'"):
        in_precision(gpt, {}, "int3")
