from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from safetensors.torch import load_file, save_file

from kleiber.cost.usage import Usage
from kleiber.errors import RecipeError, RunFolderError
from kleiber.models import build, load, save
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.cache import KVCache
from kleiber.models.gpt.experts import Experts
from kleiber.models.gpt.memory import step_memory
from kleiber.models.gpt.module import GPT
from kleiber.models.gpt.operations import step_operations

TOKENS = torch.randint(0, 300, (2, 24), generator=torch.Generator().manual_seed(1))


def dial(**size: object) -> GPTSpec:
    return GPTSpec.from_dial({"depth": 2, "width": 32, "num_experts": 8} | size, 300, 32)


def random_model(**size: object) -> GPT:
    """A mixture in which no weight is zero."""
    module = build(dial(**size))
    assert isinstance(module, GPT)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module


SIZES: list[dict[str, object]] = [
    {},
    {"num_experts": 3, "experts_per_token": 1, "expert_width": 20, "is_tied": False},
    {"num_experts": 2, "experts_per_token": 2, "num_kv_heads": 1},
]


def one_by_one(experts: Experts, x_NW: torch.Tensor) -> torch.Tensor:
    """The formula, written out token by token."""
    E, W, M = experts.spec.num_experts, experts.spec.width, experts.spec.expert_width
    gate_up, down = experts.gate_up.view(E, 2, M, W), experts.down.view(E, W, M)
    rows = []
    for x in x_NW:
        probs = (experts.router @ x).softmax(0)
        chosen = probs.argsort(descending=True)[: experts.spec.experts_per_token]
        rows.append(
            sum(
                probs[e] / probs[chosen].sum() * (down[e] @ (F.silu(gate_up[e, 0] @ x) * (gate_up[e, 1] @ x)))
                for e in chosen
            )
        )
    return torch.stack(rows)


@pytest.mark.parametrize("size", SIZES)
def test_experts_are_their_formula_forward_and_backward(size: dict[str, object]) -> None:
    experts = random_model(**size).blocks[0].experts
    x_NW = torch.randn(21, 32, generator=torch.Generator().manual_seed(3))
    weight = torch.randn(21, 32, generator=torch.Generator().manual_seed(4))
    results = []
    for forward in (experts, lambda x: one_by_one(experts, x)):
        experts.zero_grad()
        x = x_NW.clone().requires_grad_()
        y = forward(x)
        (y * weight).sum().backward()
        results.append([y, x.grad, *(parameter.grad.clone() for parameter in experts.parameters())])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, atol=2e-5)
    # One expert has the weight 1 whatever its probability: its router learns from the balance alone.
    is_learnt = [tensor.abs().max().item() > 1e-3 for tensor in results[0]]
    assert is_learnt == [True, True, experts.spec.experts_per_token > 1, True, True]


def test_an_expert_that_no_token_meets_has_no_gradient() -> None:
    experts = random_model(experts_per_token=1).blocks[0].experts
    x = torch.randn(1, 32).requires_grad_()
    # What freed memory held must not come back as the gradient of the experts without rows.
    junk = [torch.full_like(experts.gate_up, float("nan")) for _ in range(4)]
    del junk
    experts(x).sum().backward()
    per_expert = experts.gate_up.grad.view(8, -1).abs().amax(1)
    assert (per_expert > 0).sum() == 1
    assert per_expert.isfinite().all()


def test_the_same_batch_gives_the_same_bits() -> None:
    def gradients() -> list[torch.Tensor]:
        module = random_model()
        module(TOKENS).square().mean().backward()
        return [parameter.grad for parameter in module.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))


def test_counts_worked_by_hand() -> None:
    # a block: q, k, v, o 4*32*32; router 8*32; 8 experts of 3*32*48; norms 2*32 + 2*16. Around: table 300*32, norm 32
    spec = dial()
    assert (spec.expert_width, spec.experts_per_token) == (48, 2)
    block, expert = 4096 + 256 + 96, 3 * 32 * 48
    assert spec.count().total == 2 * (block + 8 * expert) + 9600 + 32
    assert spec.num_active_params == 2 * (block + 2 * expert) + 9600 + 32
    # the experts that a token meets are as large as the dense MLP: only the router is added
    dense = GPTSpec.from_dial({"depth": 2, "width": 32}, 300, 32)
    assert spec.num_active_params - dense.num_active_params == 2 * 256
    assert dense.num_active_params == dense.count().total
    assert spec.flops(3, 32).forward - dense.flops(3, 32).forward == 2 * 3 * 32 * 2 * 256
    assert (spec.is_mixture, dense.is_mixture) == (True, False)


def test_count_of_qwen3_30b_as_published() -> None:
    # model card: 30.5 B parameters, 3.3 B of them active
    spec = GPTSpec(
        depth=48, width=2048, num_heads=32, num_kv_heads=4, head_dim=128, mlp_width=6144, vocab_size=151_936, context=40_960,
        is_tied=False, num_experts=128, experts_per_token=8, expert_width=768,
    )  # fmt: skip
    assert spec.count().total == 30_532_122_624
    assert round(spec.num_active_params / 1e9, 1) == 3.4  # with the embedding


@pytest.mark.parametrize("size", SIZES)
def test_auxiliary_loss_is_that_of_transformers_for_each_block(size: dict[str, object]) -> None:
    modeling = pytest.importorskip("transformers.models.qwen3_moe.modeling_qwen3_moe")
    module, seen = random_model(**size, router_aux_coef=0.5), []
    for block in module.blocks:
        block.experts.register_forward_hook(
            lambda experts, args, _: seen.append(F.linear(args[0], experts.router))
        )
    module(TOKENS)
    spec = module.spec
    theirs = [
        modeling.load_balancing_loss_func((logits,), spec.num_experts, spec.experts_per_token)
        for logits in seen
    ]
    ours = module.auxiliary_loss()
    assert ours is not None
    assert ours.item() == pytest.approx(0.5 * sum(theirs).item() / 2, rel=1e-5)


def test_auxiliary_loss_is_given_once_and_only_in_training() -> None:
    module = random_model()
    module(TOKENS)
    assert module.auxiliary_loss() is not None
    assert module.auxiliary_loss() is None
    module.eval()(TOKENS)
    assert module.auxiliary_loss() is None
    dense = build(GPTSpec.from_dial({"depth": 1, "width": 32}, 300, 32))
    dense(TOKENS)
    assert dense.auxiliary_loss() is None


def test_auxiliary_loss_spreads_the_tokens() -> None:
    module = random_model(depth=1, router_aux_coef=1.0)
    with torch.no_grad():  # every token prefers the first experts
        module.blocks[0].experts.router[:2] += module.blocks[0].experts.router[:2].sign()
    optimizer = torch.optim.Adam([module.blocks[0].experts.router], lr=0.02)
    losses = []
    for _ in range(60):
        module(TOKENS)
        loss = module.auxiliary_loss()
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert min(losses) >= 2.0 - 0.05  # experts_per_token, where all are equally likely and equally chosen


@pytest.mark.parametrize("chunks", [(1,) * 24, (7, 1, 16)])
@torch.no_grad()
def test_cached_forward_equals_full_forward(chunks: tuple[int, ...]) -> None:
    module = random_model().eval()
    cache = KVCache(module.spec, 2)
    parts = [module(part, cache) for part in TOKENS.split(chunks, 1)]
    assert torch.allclose(torch.cat(parts, 1), module(TOKENS), atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_transformers_gives_the_same_logits_and_back(tmp_path: Path, size: dict[str, object]) -> None:
    transformers = pytest.importorskip("transformers")
    module = random_model(**size).eval()
    save(module, module.spec, tmp_path / "ours")
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert type(theirs).__name__ == "Qwen3MoeForCausalLM"
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert (theirs(TOKENS).logits - module(TOKENS)).abs().max().item() < 1e-5
    assert sum(p.numel() for p in theirs.parameters()) == module.spec.count().total
    theirs.save_pretrained(tmp_path / "theirs")
    back, spec = load(tmp_path / "theirs")
    assert spec == module.spec
    assert torch.equal(back.eval()(TOKENS), module(TOKENS))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"norm_topk_prob": False}, "norm_topk_prob must be True. Got False"),
        ({"norm_topk_prob": None}, "norm_topk_prob must be True"),
        ({"decoder_sparse_step": 2}, "decoder_sparse_step must be 1"),
        ({"mlp_only_layers": [0]}, r"mlp_only_layers must be \[\]"),
        ({"num_experts": None}, "a mixture of experts must say its num_experts"),
        ({"num_experts_per_tok": 9}, "experts_per_token 9 must be between 1 and num_experts 8"),
        ({"num_experts": 7}, r"model.layers.0.mlp.experts.7.* must be absent"),
    ],
)
def test_mixtures_that_we_do_not_compute_are_refused(
    tmp_path: Path, keys: dict[str, object], message: str
) -> None:
    module = random_model()
    save(module, module.spec, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | keys
    config = {key: value for key, value in config.items() if value is not None}  # None: the config is silent
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunFolderError, match=message):
        load(tmp_path)


def test_a_missing_expert_is_named(tmp_path: Path) -> None:
    module = random_model()
    save(module, module.spec, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.experts.3.down_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(RunFolderError, match=r"layers.1.mlp.experts.3.down_proj.weight must be \(32, 48\)"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            {"num_experts": None, "experts_per_token": 2},
            "experts_per_token has no effect without num_experts",
        ),
        ({"num_experts": None, "router_aux_coef": 0.1}, "router_aux_coef has no effect without num_experts"),
        ({"experts_per_token": 9}, "experts_per_token 9 must be between 1 and num_experts 8"),
        ({"expert_width": 30}, "expert_width 30 of a mixture must be a multiple of 4"),
        ({"width": 30, "num_heads": 1, "expert_width": 8}, "width 30 of a mixture must be a multiple of 4"),
        ({"num_experts": 0}, "num_experts"),
        ({"num_experts": 2.5}, "num_experts"),
        ({"num_expert": 8}, "unknown key 'num_expert'. Did you mean 'num_experts'"),
    ],
)
def test_absurd_mixtures_are_refused(size: dict[str, object], message: str) -> None:
    asked = {"depth": 2, "width": 32, "num_experts": 8} | size
    with pytest.raises(RecipeError, match=message):
        GPTSpec.from_dial({key: value for key, value in asked.items() if value is not None}, 300, 32)


def test_fields_of_a_mixture_need_experts() -> None:
    fields = GPTSpec.from_dial({"depth": 2, "width": 32}, 300, 32).model_dump()
    with pytest.raises(RecipeError, match="need num_experts"):
        GPTSpec.of(fields | {"expert_width": 8}, "spec", RecipeError)


def test_closed_forms_are_of_dense_models_alone() -> None:
    usage = Usage(batch_size=2)
    with pytest.raises(RecipeError, match=r"come from a trace, not in closed form. Got 'num_experts=8'"):
        step_memory(dial(), usage, 32)
    with pytest.raises(RecipeError, match="come from a trace"):
        step_operations(dial(), usage, 32)


def test_a_step_with_many_small_experts_is_no_loop_over_them() -> None:
    """Sixteen times as many experts, the same work: the time must not follow their number."""
    modules = [
        random_model(depth=1, num_experts=num, experts_per_token=2, expert_width=16) for num in (4, 64)
    ]
    tokens = torch.randint(0, 300, (8, 32))

    def fastest_s(module: GPT) -> float:
        times = []
        for _ in range(7):
            start = time.process_time()
            module(tokens).square().mean().backward()
            times.append(time.process_time() - start)
        return min(times)

    few_s, many_s = map(fastest_s, modules)
    assert many_s < 3 * few_s
