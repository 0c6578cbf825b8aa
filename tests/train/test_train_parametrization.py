import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import nn

from kleiber.errors import RecipeError
from kleiber.models import resolve_spec
from kleiber.models.convnet.module import build as build_convnet
from kleiber.models.convnet.spec import ConvNetSpec
from kleiber.models.gpt.module import GPT, build
from kleiber.models.gpt.spec import GPTSpec
from kleiber.runs import (
    DataShape,
    ModelRecipe,
    OptimizerRecipe,
    ParametrizationRecipe,
    Recipe,
    TrainRecipe,
    hash_of,
)
from kleiber.train.muon import Muon
from kleiber.train.optimizer import Optimizer
from kleiber.train.parametrization import optimizer_at_horizon, scale_weights_, scales_of
from kleiber.train.state import TrainState

WIDE, DEEP = 3.0, 2.0
RULE = ParametrizationRecipe(name="completep", base_width=16, base_depth=2)
LR, MATRIX_LR, DECAY, EPS, CLIP = 0.02, 0.01, 0.3, 1e-3, 0.5


def spec_of(**changes):
    size = {"depth": 4, "width": 48, "head_dim": 16, "init": "small_out", **changes}
    return GPTSpec.from_dial(size, vocab_size=19, context=8)


class Explicit(nn.Module):
    """A gpt with CompleteP's multipliers in its forward pass and the weights that belong to them."""

    def __init__(self, gpt: GPT) -> None:
        super().__init__()
        self.gpt = gpt

    def forward(self, tokens_BT):
        gpt, spec = self.gpt, self.gpt.spec
        B, T = tokens_BT.shape
        x, rope = F.embedding(tokens_BT, gpt.embedding), gpt._rope(0, T)
        x0 = x
        for block in gpt.blocks:
            if spec.has_x0_skip:
                x = block.skip_mix[0] * x + block.skip_mix[1] * x0
            normed = F.rms_norm(x, (spec.width,), block.attn_norm, spec.norm_eps)
            heads = F.linear(normed, block.qkv).view(B, T, -1, spec.head_dim)
            qk, v = torch.split(heads, [spec.num_heads + spec.num_kv_heads, spec.num_kv_heads], 2)
            q, k = block._placed(qk, rope)
            y = block._attend(q, k, v, None).transpose(1, 2).reshape(B, T, spec.attn_width)
            x = x + F.linear(y, block.attn_out) / DEEP
            normed = F.rms_norm(x, (spec.width,), block.mlp_norm, spec.norm_eps)
            inner = F.linear(normed, block.gate_up if spec.is_gated else block.mlp_up)
            x = x + F.linear(block._activated(inner), block.mlp_down) / DEEP
        x = F.rms_norm(x, (spec.width,), gpt.final_norm, spec.norm_eps)
        return F.linear(x, gpt.embedding if spec.is_tied else gpt.head) / WIDE


def is_hidden(name):
    return name.endswith(("qkv", "attn_out", "gate_up", "mlp_down"))


def adam_by_hand(name):
    """Table 1 of the paper: rate, decay and eps of one parameter."""
    if is_hidden(name):
        return MATRIX_LR / WIDE, DECAY * WIDE, EPS / WIDE / DEEP
    if name.endswith(("attn_norm", "mlp_norm")):
        return LR, 0.0, EPS / WIDE / DEEP
    if name.endswith(("q_norm", "k_norm")):
        return LR, 0.0, EPS / DEEP
    if name.endswith("skip_mix"):
        return LR / DEEP, 0.0, EPS
    return LR, 0.0, EPS / WIDE  # embedding, head, last norm


def sgd_by_hand(name):
    if is_hidden(name):
        return MATRIX_LR * DEEP, DECAY / DEEP
    if name.endswith(("attn_norm", "mlp_norm")):
        return LR * WIDE * DEEP, 0.0
    if name.endswith(("q_norm", "k_norm")):
        return LR * DEEP, 0.0
    if name.endswith("skip_mix"):
        return LR / DEEP, 0.0
    return LR * WIDE, 0.0


def reference_step(gpt, optimizer_name, recipe):
    """Return a function that steps the explicit model by hand-worked settings."""
    named = dict(gpt.named_parameters())
    if optimizer_name == "sgd":
        groups = [
            {"params": [p], "lr": sgd_by_hand(n)[0], "weight_decay": sgd_by_hand(n)[1]}
            for n, p in named.items()
        ]
        return [torch.optim.SGD(groups, momentum=recipe.momentum).step]
    steps = []
    if optimizer_name == "muon":
        hidden = gpt.param_groups().hidden
        muon = Muon(
            [named.pop(matrix.name) for matrix in hidden],
            [matrix.row_splits for matrix in hidden],
            lr=MATRIX_LR * WIDE**-0.5,
            momentum=recipe.momentum,
            weight_decay=DECAY * WIDE**0.5,
        )
        steps.append(lambda: muon.step(1.0))
    settings = {name: adam_by_hand(name) for name in named}
    groups = [
        {"params": [p], "lr": settings[n][0], "weight_decay": settings[n][1], "eps": settings[n][2]}
        for n, p in named.items()
    ]
    return [*steps, torch.optim.AdamW(groups, betas=(recipe.beta1, recipe.beta2)).step]


@pytest.mark.parametrize("changes", [{}, {"is_tied": False}, {"has_x0_skip": True}])
@pytest.mark.parametrize("optimizer_name", ["adamw", "muon", "sgd"])
def test_the_folded_model_goes_the_way_of_one_with_multipliers(optimizer_name, changes, monkeypatch):
    # Muon adds a little to the norm of a gradient, which folding changes: nothing here, so that all digits agree.
    monkeypatch.setattr("kleiber.train.muon._EPS", 0.0)
    spec = spec_of(**changes)
    eps = {} if optimizer_name == "sgd" else {"eps": EPS}
    recipe = OptimizerRecipe(name=optimizer_name, lr=LR, matrix_lr=MATRIX_LR, weight_decay=DECAY, **eps)
    folded = build(spec, seed=1).double()
    scales = scales_of(folded, folded.param_groups(), RULE, recipe)
    scale_weights_(folded, scales)
    explicit = Explicit(build(spec, seed=1).double())
    with torch.no_grad():  # small_out divides by sqrt(2 x depth); the base model, of half the depth, by less
        for name, weight in explicit.gpt.named_parameters():
            if name.endswith(("attn_out", "mlp_down")):
                weight.mul_(DEEP**0.5)
    optimizer = Optimizer(folded, folded.param_groups(), recipe, scales)
    steps = reference_step(explicit.gpt, optimizer_name, recipe)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        tokens = torch.randint(19, (2, 9), generator=generator)
        losses = []
        for module in (folded, explicit):
            logits = module(tokens[:, :-1])
            losses.append(F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()))
            losses[-1].backward()
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-9, atol=0)
        norm = nn.utils.clip_grad_norm_(explicit.parameters(), CLIP)
        assert optimizer.clip_(CLIP) == pytest.approx(float(norm), rel=1e-9)
        optimizer.step(1.0)
        for step in steps:
            step()
        folded.zero_grad()
        explicit.zero_grad()
    assert float(norm) > CLIP / 10
    weights = dict(folded.named_parameters())
    for name, weight in explicit.gpt.named_parameters():
        torch.testing.assert_close(weights[name], scales[name].fold * weight, rtol=1e-7, atol=1e-9)


def test_scales_are_those_of_the_paper_after_folding():
    module = build(spec_of())
    scales = scales_of(module, module.param_groups(), RULE, OptimizerRecipe(name="adamw"))
    found = {
        name: (scale.init, scale.rate, scale.eps)
        for name, scale in scales.items()
        if name.startswith("blocks.0") or "blocks" not in name
    }
    third, half = 1 / WIDE, 1 / DEEP
    branch_end = (half * DEEP**0.5, third * half, third)
    expected = {
        "blocks.0.qkv": (1, third, third * half),
        "blocks.0.gate_up": (1, third, third * half),
        "blocks.0.attn_out": branch_end,
        "blocks.0.mlp_down": branch_end,
        "blocks.0.attn_norm": (1, 1, third * half),
        "blocks.0.mlp_norm": (1, 1, third * half),
        "blocks.0.q_norm": (1, 1, half),
        "blocks.0.k_norm": (1, 1, half),
        "embedding": (1, 1, third),
        "final_norm": (third, third, 1),
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values), name


@pytest.mark.parametrize(
    ("init", "hidden", "out"), [("zero_out", 1, None), ("standard", WIDE**-0.5, (2 * WIDE) ** -0.5)]
)
def test_weights_start_with_the_base_deviation_scaled(init, hidden, out):
    module, recipe = build(spec_of(init=init), seed=3), OptimizerRecipe(name="adamw")
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    scale_weights_(module, scales_of(module, module.param_groups(), RULE, recipe))
    after = dict(module.named_parameters())
    torch.testing.assert_close(after["blocks.1.qkv"], before["blocks.1.qkv"] * hidden)
    torch.testing.assert_close(after["embedding"], before["embedding"])
    if out is None:
        assert not after["blocks.1.mlp_down"].any()
    else:
        torch.testing.assert_close(after["blocks.1.mlp_down"], before["blocks.1.mlp_down"] * out)


def test_at_the_base_size_nothing_changes():
    module = build(spec_of())
    rule = ParametrizationRecipe(name="completep", base_width=48, base_depth=4)
    scales = scales_of(module, module.param_groups(), rule, OptimizerRecipe(name="adamw"))
    assert {(s.init, s.rate, s.eps, s.fold) for s in scales.values()} == {(1, 1, 1, 1)}
    standard = ParametrizationRecipe()
    assert scales_of(module, module.param_groups(), standard, OptimizerRecipe(name="adamw")) == {}


def test_a_mixtures_router_writes_as_many_features_at_all_widths():
    module = build(GPTSpec.from_dial({"depth": 4, "width": 48, "num_experts": 2}, vocab_size=19, context=8))
    for name, rate in {"adamw": 1 / WIDE, "muon": 1 / WIDE}.items():
        scales = scales_of(module, module.param_groups(), RULE, OptimizerRecipe(name=name))
        assert scales["blocks.0.experts.router"].rate == pytest.approx(rate)
        assert scales["blocks.0.experts.down"].fold == 1 / DEEP


@pytest.mark.parametrize(("name", "rate"), [("adamw", 1 / WIDE), ("muon", WIDE**-0.5)])
def test_mup_simple_changes_the_rates_of_hidden_matrices_alone(name, rate):
    module = build(spec_of())
    rule = ParametrizationRecipe(name="mup_simple", base_width=16)
    scales = scales_of(module, module.param_groups(), rule, OptimizerRecipe(name=name))
    assert scales.keys() == {matrix.name for matrix in module.param_groups().hidden}
    assert {(s.init, s.eps, s.fold) for s in scales.values()} == {(1, 1, 1)}
    assert [s.rate for s in scales.values()] == pytest.approx([rate] * len(scales))


def test_a_family_without_marks_is_refused():
    shape = DataShape(inputs="images", channels=1, height=8, width=8, num_outputs=2)
    module = build_convnet(ConvNetSpec.of_size({"depth": 2, "width": 4}, shape))
    with pytest.raises(RecipeError, match="completep is worked out for gpt alone") as caught:
        scales_of(module, module.param_groups(), RULE, OptimizerRecipe(name="adamw"))
    assert caught.value.got == "ConvNet"


def test_rates_fall_with_the_horizon():
    optimizer = OptimizerRecipe(name="adamw", lr=0.02, matrix_lr=0.01, weight_decay=0.1)
    rule = ParametrizationRecipe(base_tokens=1000, token_exponent=0.5)
    train = TrainRecipe(num_steps=100, batch_size=1, optimizer=optimizer, parametrization=rule)
    recipe = Recipe(train=train).with_values(["data.context=40"])
    found = optimizer_at_horizon(recipe)
    assert (found.lr, found.matrix_lr, found.weight_decay) == (0.01, 0.005, 0.1)
    fixed = recipe.with_values(["train.parametrization.horizon_tokens=1000"])
    assert optimizer_at_horizon(fixed) == optimizer
    assert optimizer_at_horizon(Recipe(train=TrainRecipe(optimizer=optimizer))) is optimizer


def test_a_state_starts_scaled_and_goes_to_a_checkpoint_and_back():
    values = [
        "model.depth=4", "model.width=48", "model.init=small_out", "train.parametrization.name=completep",
        "train.parametrization.base_width=16", "train.parametrization.base_depth=2", "train.optimizer.name=muon",
    ]  # fmt: skip
    recipe = Recipe().with_values(values)

    def step(state):
        loss = state.module(torch.arange(64).view(4, 16)).square().mean()
        loss.backward()
        state.optimizer.clip_(1.0)
        state.optimizer.step(1.0)
        state.optimizer.zero_grad()

    first, second = (TrainState.start(recipe, resolve_spec(recipe)) for _ in range(2))
    torch.testing.assert_close(first.module.final_norm.detach(), torch.full((48,), 1 / WIDE))
    for _ in range(2):
        step(first)
    checkpoint = first.to_checkpoint(recipe, "corpus")
    checkpoint.tensors.update({name: tensor.clone() for name, tensor in checkpoint.tensors.items()})
    second.load_(checkpoint)
    step(first)
    step(second)
    for name, weight in first.module.named_parameters():
        assert torch.equal(weight, second.module.get_parameter(name)), name


def test_recipes_without_a_rule_keep_their_hash():
    assert "parametrization" not in TrainRecipe().model_dump(mode="json")
    with_rule = Recipe().with_values(
        ["train.parametrization.name=mup_simple", "train.parametrization.base_width=64"]
    )
    assert hash_of(with_rule) != hash_of(Recipe())
    assert Recipe.model_validate(with_rule.model_dump(mode="json")) == with_rule


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["name=completep"], "completep needs base_width"),
        (["base_width=64"], "base_width and base_depth have no effect on standard"),
        (["name=mup_simple", "base_width=64", "base_depth=2"], "base_depth has no effect on mup_simple"),
        (["horizon_tokens=100"], "horizon_tokens has no effect without base_tokens, got 100"),
        (["token_exponent=-1", "base_tokens=5"], "token_exponent"),
    ],
)
def test_a_rule_that_says_too_little_or_too_much_is_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        Recipe().with_values([f"train.parametrization.{value}" for value in values])


def test_a_rule_is_refused_for_optimizers_that_it_does_not_know():
    rule = ["train.parametrization.name=completep", "train.parametrization.base_width=64"]
    with pytest.raises(
        RecipeError, match=r"completep has rules for adamw, muon, sgd, got optimizer\.name rmsprop"
    ):
        Recipe().with_values([*rule, "train.optimizer.name=rmsprop"])
    rule[0] = "train.parametrization.name=mup_simple"
    with pytest.raises(RecipeError, match=r"mup_simple has rules for adamw, muon, got optimizer\.name sgd"):
        Recipe().with_values([*rule, "train.optimizer.name=sgd"])


def test_a_model_that_is_recovered_keeps_its_weights():
    rule = {"name": "completep", "base_width": 64}
    raw = {"recover": {"model": "runs/a"}, "train": {"parametrization": rule}}
    with pytest.raises(RecipeError, match="a model that is recovered keeps the weights it has"):
        Recipe.of(raw, "recipe.yaml", RecipeError)
    assert ModelRecipe().family == "gpt"
