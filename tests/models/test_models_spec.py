from __future__ import annotations

import math
import subprocess
import sys
import time

import pytest
import torch
from family_examples import gpt_specs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kleiber.errors import RecipeError
from kleiber.models import FAMILIES, build, parse_size, resolve_spec
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.module import GPT
from kleiber.runs import DataRecipe, Recipe


def dial(vocab_size: int = 1024, context: int = 128, **size: object) -> GPTSpec:
    return GPTSpec.from_dial(size, vocab_size, context)


def test_count_worked_by_hand() -> None:
    # a block: q, k, v, o 4*32*32 = 4096; gate, up, down 3*32*96 = 9216; norms 2*32 + 2*16 = 96; together 13408
    count = dial(depth=2, width=32).count()
    assert (count.embedding, count.body, count.head) == (1024 * 32, 2 * 13_408 + 32, 0)
    assert count.by("matmul") == count.total
    untied = dial(depth=2, width=32, is_tied=False).count()
    assert (untied.head, untied.total) == (32_768, count.total + 32_768)


@given(gpt_specs(is_dense=True))
@settings(max_examples=60)
def test_count_equals_the_module(spec: GPTSpec) -> None:
    module = GPT(spec, device="meta")
    assert spec.count().total == sum(parameter.numel() for parameter in module.parameters())
    assert spec.count().embedding == module.embedding.numel()


def test_count_of_qwen3_as_published() -> None:
    # Qwen3-0.6B: 596,049,920 parameters, 440,467,456 of them without the embedding (model card: 0.6 B, 0.44 B)
    spec = GPTSpec(
        depth=28, width=1024, num_heads=16, num_kv_heads=8, head_dim=128, mlp_width=3072, vocab_size=151_936, context=40_960
    )  # fmt: skip
    assert (spec.count().total, spec.count().body) == (596_049_920, 440_467_456)


def test_flops_worked_by_hand() -> None:
    # weights 2*13312 + 32768 = 59392; 2 * 59392 * 512 tokens; attention 2 blocks * 4 * 32 * 128^2 * 4 sequences
    flops = dial(depth=2, width=32).flops(4, 128, convention="full")
    assert flops.forward == 2 * 59_392 * 512 + 2 * 4 * 32 * 128**2 * 4
    assert (flops.backward, flops.total) == (2 * flops.forward, 3 * flops.forward)
    causal = dial(depth=2, width=32).flops(4, 128)
    assert flops.forward - causal.forward == 2 * 2 * 32 * 128**2 * 4
    assert (causal.convention, flops.convention) == ("causal", "full")


@pytest.mark.parametrize(
    "size", [{}, {"num_kv_heads": 1}, {"is_tied": False}, {"num_heads": 6, "head_dim": 8}]
)
def test_flops_equal_torch_flop_counter(size: dict[str, object]) -> None:
    spec = dial(vocab_size=300, depth=2, width=32, **size)
    module = build(spec)
    tokens = torch.zeros(3, 40, dtype=torch.long)
    # torch counts the whole square of attention (ours: `full`), and only the plain kernel shows each product.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        logits = module(tokens)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    flops = spec.flops(3, 40, convention="full")
    assert (flops.forward, flops.backward) == (forward.get_total_flops(), backward.get_total_flops())


def test_depth_gives_the_width_and_width_the_depth() -> None:
    assert (dial(depth=12).width, dial(width=768).depth, dial(width=32).depth) == (768, 12, 2)
    assert (dial(depth=12).mlp_width, dial(depth=12).num_heads, dial(depth=12).num_kv_heads) == (2048, 12, 12)


@pytest.mark.parametrize(
    ("width", "head_dim"),
    [(32, 16), (48, 16), (96, 16), (128, 32), (144, 16), (256, 64), (288, 32), (272, 16)],
)
def test_default_heads_divide_the_width(width: int, head_dim: int) -> None:
    spec = dial(width=width)
    assert (spec.head_dim, spec.attn_width) == (head_dim, width)


@given(st.floats(4.6, 14), st.sampled_from([257, 1024, 50_257]))
@settings(max_examples=40)
def test_params_are_reached(log_params: float, vocab_size: int) -> None:
    target = 10**log_params
    if target < 40 * vocab_size:
        return
    spec = dial(vocab_size, params=target)
    assert abs(spec.count().total / target - 1) < 0.2
    assert spec.width % 16 == 0
    if target > 1e8:
        assert abs(spec.count().total / target - 1) < 0.02
        assert 16 < spec.width / spec.depth < 130


def test_a_small_target_with_a_large_vocabulary_takes_an_odd_shape() -> None:
    # 48 is the widest table that fits, and leaves 8 blocks: more than a width of 48 has by the dial's aspect ratio
    spec = dial(50_257, params=2_641_648)
    assert (spec.depth, spec.width) == (8, 48)


def test_params_of_gpt2_small() -> None:
    spec = dial(50_257, 1024, params=124e6)
    assert (spec.depth, spec.width, spec.count().total) == (12, 768, 123_552_768)
    assert spec == dial(50_257, 1024, params="124M")


def test_params_with_depth_or_width_given() -> None:
    assert dial(params=5e6, depth=7).depth == 7
    assert dial(params=5e6, width=192).width == 192
    assert abs(dial(params=5e6, width=192).count().total / 5e6 - 1) < 0.05


def test_widths_that_break_a_rule_are_passed_over() -> None:
    assert abs(dial(32_768, params=1e14).count().total / 1e14 - 1) < 0.02  # some widths have too many heads
    assert dial(32_768, params=1e9, num_kv_heads=5).num_heads % 5 == 0
    with pytest.raises(RecipeError, match="num_kv_heads 5 must divide num_heads 4"):  # at every width
        dial(32_768, params=1e9, num_heads=4, num_kv_heads=5)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        ({"params": 1}, "527,696"),
        ({"params": 1e3}, "527,696"),
        ({"params": 1e14, "depth": 12}, "59,003,879,041,536"),  # 10,000 heads of 64
        ({"params": 1e14, "width": 1024}, "126,539,795,456"),  # 10,000 blocks
    ],
)
def test_a_target_out_of_reach_is_said_at_once(size: dict[str, object], nearest: str) -> None:
    times = []
    for _ in range(3):  # the fastest: a collection of garbage belongs to other tests
        start = time.process_time()
        with pytest.raises(RecipeError, match=f"params cannot be reached with .*; the nearest has {nearest}"):
            GPTSpec.from_dial(size, 32_768, 1024)
        times.append(time.process_time() - start)
    assert min(times) < 0.1


@pytest.mark.parametrize("value", [-3, 0, 10**9, 2.5, math.nan, math.inf, "twelve", True, [4]])
@pytest.mark.parametrize("key", ["depth", "width", "num_heads", "mlp_width"])
def test_absurd_numbers_are_refused(key: str, value: object) -> None:
    with pytest.raises(RecipeError, match=f"gpt size: {key}: "):
        dial(**({"depth": 2, "width": 32} | {key: value}))


@pytest.mark.parametrize("value", [-124e6, 0, 1e30, math.nan, "many", True])
def test_absurd_targets_are_refused(value: object) -> None:
    with pytest.raises(RecipeError, match="params"):
        dial(params=value)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({}, "needs depth, width or params"),
        ({"dept": 3}, "unknown key 'dept'. Did you mean 'depth'"),
        ({"depth": 3, "vocab_size": 9}, "vocab_size belongs to the data"),
        ({"width": 100}, "width must be a multiple of head_dim 16"),
        ({"width": 64, "num_heads": 5}, "num_heads must divide width 64"),
        ({"width": 64, "head_dim": 24}, "width must be a multiple of head_dim 24"),
        ({"width": 64, "num_kv_heads": 3}, "num_kv_heads 3 must divide num_heads 4"),
        ({"width": 66, "head_dim": 33}, "head_dim 33 must be even"),
        ({"params": 2000}, "params cannot be reached with vocab_size 1024"),
        ({"params": 1e9, "depth": 1, "width": 32}, "cannot all be set"),
        ({"params": 1e6, "width": 7, "head_dim": 2}, "width must be a multiple of head_dim 2"),
        ({"depth": 2, "is_tied": 1}, "is_tied"),
    ],
)
def test_what_does_not_fit_together_is_refused(size: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        GPTSpec.from_dial(size, 1024, 128)


def test_spec_survives_its_document() -> None:
    spec = dial(depth=3, num_kv_heads=1, is_tied=False)
    assert GPTSpec.of(spec.model_dump(mode="json"), "spec", RecipeError) == spec


def test_parse_size() -> None:
    assert parse_size("gpt:params=124e6,is_tied=false").size == {"params": 124e6, "is_tied": False}
    assert parse_size("gpt").size == {}
    assert FAMILIES["gpt"] is GPTSpec


@pytest.mark.parametrize(
    "text", ["gpt:depth", "gpt:=3", "gpt:depth=", "gpt:depth=1,depth=2", "gpt:family=gpt"]
)
def test_malformed_sizes_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="is not KEY=VALUE"):
        parse_size(text)


def test_unknown_family_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"unknown family 'gtp'\. Did you mean 'gpt'"):
        parse_size("gtp:depth=3")


def test_resolve_spec_takes_vocabulary_and_context_from_the_data() -> None:
    recipe = Recipe(model=parse_size("gpt:depth=2"), data=DataRecipe(vocab_size=500, context=64))
    assert (resolve_spec(recipe).vocab_size, resolve_spec(recipe).context) == (500, 64)


def test_specs_do_not_import_torch() -> None:
    code = "import sys, kleiber.models as m; m.parse_size('gpt:depth=3'); print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )
