import copy

import pytest
import torch
from benching import SPEC

from kleiber.infer.precision import in_precision
from kleiber.models import build
from kleiber.models.counting import Counted, weight_bytes
from kleiber.models.gpt import GPTSpec
from kleiber.models.mlp import MLPSpec
from kleiber.models.stored import AS_COMPUTED, Activations, LowRank, Quantized
from kleiber.runs import DataShape


def quantized(rows: int, columns: int, bits: int, groups: int) -> Quantized:
    middle = 2 ** (bits - 1)
    return Quantized(
        torch.full((rows, columns), middle, dtype=torch.uint8),
        torch.full((rows, groups), 0.5),
        torch.full((rows, groups), middle, dtype=torch.uint8),
        bits,
    )


def test_bytes_of_a_weight_by_hand() -> None:
    weight = torch.zeros(4, 16)
    assert weight_bytes(weight, None) == 4 * 64
    assert weight_bytes(weight, quantized(4, 16, 8, 1)) == 64 + 4 * 2  # a scale of 16 bits a row
    form = quantized(4, 16, 4, 2)
    assert weight_bytes(weight, form) == 32 + 8 * 2
    odd = Quantized(form.codes_RC, torch.full((4, 2), 0.1), torch.zeros(4, 2, dtype=torch.uint8), 4)
    assert weight_bytes(weight, odd) == 32 + 8 * 4 + 8 * 0.5  # scales of 32 bits, and zeros
    assert weight_bytes(weight, LowRank(torch.zeros(4, 2), quantized(2, 16, 8, 1))) == 4 * 8 + 32 + 2 * 2


def counted(spec: GPTSpec, **activations: int) -> Counted:
    return Counted.of(build(spec), spec, {}, Activations(**activations))


def test_a_token_reads_all_weights_and_the_cache_of_what_was_read() -> None:
    found = counted(SPEC).decode(3, 10)
    weights = 4 * SPEC.count().total
    assert (
        found.read_bytes == weights + 2 * 2 * 32 * 3 * 11 * 4
    )  # keys and values of 2 blocks, 11 tokens of 3 sequences
    hidden = sum(rows * columns for rows, columns in SPEC.hidden_shapes())
    by_hand = 2 * (hidden + 300 * 32) + 4 * 2 * 32 * 11
    assert found.flops == 3 * by_hand
    assert counted(SPEC, cache_bits=8).decode(3, 10).read_bytes == weights + 2 * 2 * 32 * 3 * 11


def test_tables_that_are_looked_up_are_not_read_whole() -> None:
    untied = SPEC.model_copy(update={"is_tied": False})
    assert counted(untied).decode(1, 0).read_bytes == counted(SPEC).decode(1, 0).read_bytes


def test_a_prompt_has_the_head_work_on_its_last_token() -> None:
    found = counted(SPEC).prefill(2, 8)
    whole = SPEC.flops(2, 8).forward
    assert found.flops == whole - 2 * 7 * 2 * 300 * 32
    assert found.read_bytes == 4 * SPEC.count().total


def test_few_bits_read_fewer_bytes() -> None:
    module = build(SPEC)
    sizes = []
    for precision in ("fp32", "int8", "int4"):
        held = copy.deepcopy(module)
        forms = in_precision(held, {}, precision)
        sizes.append(Counted.of(held, SPEC, forms, AS_COMPUTED).decode(1, 0).read_bytes)
    assert sizes[0] > 3 * sizes[1] > 3 * sizes[2]


def test_experts_are_read_as_far_as_tokens_meet_them() -> None:
    spec = GPTSpec.from_dial(
        {"depth": 1, "width": 32, "num_experts": 4, "experts_per_token": 2}, vocab_size=300, context=32
    )
    found = Counted.of(build(spec), spec, {}, AS_COMPUTED)
    assert found.expert_bytes > 0
    one, many = found.decode(1, 0).read_bytes, found.prefill(8, 32).read_bytes
    assert many - one == pytest.approx(found.expert_bytes / 2, rel=0.05)


def test_samples_are_read_once_whatever_their_number() -> None:
    spec = MLPSpec.of_size(
        {"depth": 1, "width": 8}, DataShape(inputs="features", num_features=4, num_outputs=2)
    )
    found = Counted.of(build(spec), spec, {}, AS_COMPUTED)
    assert found.forward(5).flops == 5 * spec.flops(1).forward
    assert found.forward(5).read_bytes == found.forward(1).read_bytes == 4 * spec.count().total
