"""What a gpt may have beside the Qwen3 layout, by hand and against references."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.cost.usage import Usage
from kleiber.errors import RecipeError
from kleiber.models import ModelRecipe, resolve_spec, size_of
from kleiber.models.counting import Counted
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.fused import mixed, relu2, softcapped
from kleiber.models.gpt.memory import step_memory
from kleiber.models.gpt.module import GPT, build
from kleiber.models.stored import AS_COMPUTED
from kleiber.runs import Recipe

VOCAB, CONTEXT = 50, 16
FEATURES: dict[str, Any] = {
    "positions": st.sampled_from(["rope", "learned"]),
    "has_qk_norm": st.booleans(),
    "mlp": st.sampled_from(["swiglu", "relu2", "gelu"]),
    "softcap": st.sampled_from([0.0, 15.0]),
    "has_value_residual": st.booleans(),
    "has_x0_skip": st.booleans(),
    "has_embedding_norm": st.booleans(),
    "value_embeddings": st.integers(0, 3),
    "init": st.sampled_from(["zero_out", "small_out", "standard"]),
}


def spec_of(**size: Any) -> GPTSpec:
    whole = {"depth": 3, "width": 16, "num_heads": 4, "num_kv_heads": 2, "head_dim": 4, **size}
    return GPTSpec.from_dial(whole, vocab_size=VOCAB, context=CONTEXT)


def disturbed(spec: GPTSpec) -> GPT:
    module, generator = build(spec), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module


TOKENS = torch.arange(24).view(2, 12) % VOCAB


def copy_shared_(to: GPT, source: GPT) -> None:
    """Give a module the weights of another that it has too."""
    known = source.state_dict()
    to.load_state_dict({name: known.get(name, value) for name, value in to.state_dict().items()})


@settings(max_examples=25)
@given(st.fixed_dictionaries(FEATURES))
def test_counts_and_groups_are_those_of_the_module(features: dict[str, Any]) -> None:
    spec = spec_of(**features)
    module = build(spec)
    assert spec.count().total == sum(parameter.numel() for parameter in module.parameters())
    hidden = [tuple(part.shape) for matrix in module.param_groups().hidden for part in _parts(module, matrix)]
    assert sorted(hidden) == sorted(spec.hidden_shapes())
    assert spec.is_closed_form == (not spec.beyond_qwen3)
    recipe = Recipe(model=ModelRecipe.model_validate(size_of(spec)))
    assert resolve_spec(
        recipe.with_values([f"data.vocab_size={257}", f"data.context={CONTEXT}"])
    ) == spec.model_copy(update={"vocab_size": 257})


def _parts(module: GPT, matrix: Any) -> tuple[torch.Tensor, ...]:
    return torch.split(dict(module.named_parameters())[matrix.name], matrix.row_splits)


def test_defaults_are_left_out_of_documents() -> None:
    assert set(spec_of().model_dump()) & set(FEATURES) == set()
    assert set(spec_of(softcap=15.0, has_qk_norm=False).model_dump()) & set(FEATURES) == {
        "softcap",
        "has_qk_norm",
    }


def test_relu2_by_hand() -> None:
    x = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    relu2(x).backward(torch.tensor([1.0, 1.0, 2.0]))
    assert relu2(x).tolist() == [0.0, 0.0, 9.0]
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0, 12.0]


def test_functions_with_their_own_backward_have_the_right_one() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, weights = (
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((3, 4), (3, 4), (2,))
    )
    assert torch.autograd.gradcheck(relu2, (x,))
    assert torch.autograd.gradcheck(mixed, (x, y, weights))
    assert torch.autograd.gradcheck(softcapped, (x, 1.5))


def test_softcap_holds_logits() -> None:
    plain, capped = disturbed(spec_of()), build(spec_of(softcap=2.0))
    copy_shared_(capped, plain)
    with torch.no_grad():
        plain.embedding.mul_(10)
        capped.embedding.mul_(10)
        expected, found = plain(TOKENS), capped(TOKENS)
    assert expected.abs().max() > 4
    assert torch.allclose(found, 2 * torch.tanh(expected / 2), atol=1e-5)


@pytest.mark.parametrize(
    ("features", "off"),
    [
        ({"has_value_residual": True}, {"value_mix": [1.0, 0.0]}),
        ({"has_x0_skip": True}, {"skip_mix": [1.0, 0.0]}),
        ({"value_embeddings": 2}, {"value_gate": [0.0, 0.0]}),
        ({"positions": "rope", "value_embeddings": 1}, {"value_table": 0.0}),
    ],
)
def test_a_mix_that_lets_nothing_in_is_the_model_without(
    features: dict[str, Any], off: dict[str, Any]
) -> None:
    plain, mixing = disturbed(spec_of()), disturbed(spec_of(**features))
    copy_shared_(mixing, plain)
    with torch.no_grad():
        assert not torch.allclose(mixing(TOKENS), plain(TOKENS), atol=1e-3)
        for name, parameter in mixing.named_parameters():
            for ending, values in off.items():
                if name.endswith(ending):
                    parameter.copy_(torch.tensor(values))
        assert torch.allclose(mixing(TOKENS), plain(TOKENS), atol=1e-6)


def test_value_residual_and_x0_by_hand() -> None:
    """Two blocks of one head without positions, written out."""
    size = {
        "depth": 2, "width": 4, "num_heads": 1, "num_kv_heads": 1, "head_dim": 4, "mlp": "relu2", "mlp_width": 6,
        "positions": "learned", "has_qk_norm": False, "has_value_residual": True, "has_x0_skip": True, "value_embeddings": 1,
        "has_embedding_norm": True, "softcap": 3.0,
    }  # fmt: skip
    module = disturbed(spec_of(**size))
    weights = dict(module.named_parameters())

    def norm(x: torch.Tensor, gain: torch.Tensor | float = 1.0) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * gain

    with torch.no_grad():
        T = TOKENS.shape[1]
        x0 = norm(weights["embedding"][TOKENS] + weights["positions"][:T])
        x, first = x0, None
        for index in range(2):
            block = {
                name.split(".", 2)[2]: one
                for name, one in weights.items()
                if name.startswith(f"blocks.{index}.")
            }
            x = block["skip_mix"][0] * x + block["skip_mix"][1] * x0
            q, k, v = (norm(x, block["attn_norm"]) @ block["qkv"].T).chunk(3, -1)
            if first is None:
                first = v
            else:
                v = block["value_mix"][0] * v + block["value_mix"][1] * first
                v = v + block["value_gate"] * block["value_table"][TOKENS]
            scores = (q @ k.mT / 2).masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
            x = x + scores.softmax(-1) @ v @ block["attn_out"].T
            x = x + F.relu(norm(x, block["mlp_norm"]) @ block["mlp_up"].T) ** 2 @ block["mlp_down"].T
        logits = 3 * torch.tanh(norm(x, weights["final_norm"]) @ weights["embedding"].T / 3)
        assert torch.allclose(module(TOKENS), logits, atol=1e-5)


def test_value_tables_stand_in_every_other_block_from_the_last() -> None:
    assert [spec_of(depth=5, value_embeddings=num).value_table_blocks for num in range(6)] == [
        (), (4,), (2, 4), (0, 2, 4), (0, 2, 3, 4), (0, 1, 2, 3, 4),
    ]  # fmt: skip


def test_initial_weights() -> None:
    size = {"depth": 8, "width": 64, "num_heads": 4, "num_kv_heads": 4, "head_dim": 16}
    stds = {
        init: {
            name: float(one.detach().std())
            for name, one in build(spec_of(**size, init=init)).named_parameters()
            if one.ndim > 1
        }
        for init in ("zero_out", "small_out", "standard")
    }
    assert stds["zero_out"]["blocks.0.attn_out"] == stds["zero_out"]["blocks.7.mlp_down"] == 0
    assert stds["zero_out"]["blocks.0.qkv"] == pytest.approx(64**-0.5, rel=0.05)
    assert stds["small_out"]["blocks.3.attn_out"] == pytest.approx(64**-0.5 / 4, rel=0.05)
    assert stds["standard"]["blocks.0.qkv"] == pytest.approx(0.02, rel=0.05)
    assert stds["standard"]["blocks.5.mlp_down"] == pytest.approx(0.02 / 4, rel=0.05)


def test_the_dial_counts_what_the_features_add() -> None:
    for features in ({"mlp": "relu2", "value_embeddings": 2}, {"positions": "learned"}, {"mlp": "gelu"}):
        spec = GPTSpec.from_dial({"params": 2e6, **features}, vocab_size=1024, context=256)
        assert abs(spec.count().total / 2e6 - 1) < 0.05
    assert spec.mlp_width == 4 * spec.width
    # An ungated MLP of the usual width has as many weights as the gated one.
    gated = GPTSpec.from_dial({"depth": 4, "width": 192}, vocab_size=1024, context=256)
    ungated = GPTSpec.from_dial({"depth": 4, "width": 192, "mlp": "relu2"}, vocab_size=1024, context=256)
    assert gated.count().total == ungated.count().total
    assert gated.flops(1).total == ungated.flops(1).total


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ({"value_embeddings": 4}, "value_embeddings 4 must be at most depth 3, for each is of one block"),
        (
            {"mlp": "relu2", "num_experts": 4},
            "mlp must be swiglu in a mixture, whose experts are gated, got relu2",
        ),
        ({"mlp": "relu"}, "mlp"),
        ({"softcap": -1}, "softcap"),
    ],
)
def test_what_does_not_go_together_is_refused(size: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        spec_of(**size)


def test_what_has_no_closed_form_says_so() -> None:
    with pytest.raises(
        RecipeError, match=r"beyond the Qwen3 layout come from a trace, .* Got 'softcap=15\.0'"
    ):
        step_memory(spec_of(softcap=15.0), Usage(batch_size=2), CONTEXT)


def test_tables_that_are_looked_up_alone_are_not_read_by_every_call() -> None:
    plain, tables = spec_of(), spec_of(value_embeddings=2, positions="learned")
    read = [Counted.of(build(spec), spec, {}, AS_COMPUTED).other_bytes for spec in (plain, tables)]
    assert read[1] - read[0] == 4 * 2 * spec_of().num_kv_heads  # the gates
