import pytest
import torch
from torch import nn

from kleiber.models.groups import HiddenMatrix, ParamGroups
from kleiber.runs import OptimizerRecipe
from kleiber.train.optimizer import Optimizer

GROUPS = ParamGroups(
    hidden=(HiddenMatrix("matrix", (6,)),), embedding=("embedding",), head=(), norms=("norm",)
)


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Parameter(torch.randn(5, 4))
        self.matrix = nn.Parameter(torch.randn(6, 4))
        self.norm = nn.Parameter(torch.randn(4))

    def loss(self):
        return ((self.embedding * self.norm) @ self.matrix.T).square().mean()


def _adamw_by_hand(w, gradients, *, lr, weight_decay, beta1=0.9, beta2=0.99, eps=1e-8):
    """Loshchilov & Hutter 2019, algorithm 2."""
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        w = w - lr * weight_decay * w
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        w = w - lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + eps)
    return w


def test_adamw_follows_the_paper_and_decays_only_hidden_matrices():
    module = Toy()
    recipe = OptimizerRecipe(name="adamw", lr=0.01, matrix_lr=0.02, weight_decay=0.5)
    optimizer = Optimizer(module, GROUPS, recipe)
    starts = {name: p.detach().clone() for name, p in module.named_parameters()}
    gradients = {name: [torch.randn_like(p) for _ in range(3)] for name, p in module.named_parameters()}
    for step in range(3):
        for name, param in module.named_parameters():
            param.grad = gradients[name][step].clone()
        optimizer.step(1.0)
    for name, (lr, decay) in {"embedding": (0.01, 0), "matrix": (0.02, 0.5), "norm": (0.01, 0)}.items():
        expected = _adamw_by_hand(starts[name], gradients[name], lr=lr, weight_decay=decay)
        torch.testing.assert_close(module.get_parameter(name).detach(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_schedule_scales_every_step(name):
    def move(scale):
        module = Toy()
        optimizer = Optimizer(module, GROUPS, OptimizerRecipe(name=name))
        before = {n: p.detach().clone() for n, p in module.named_parameters()}
        module.loss().backward()
        optimizer.step(scale)
        return {n: p.detach() - before[n] for n, p in module.named_parameters()}

    whole, half = move(1.0), move(0.5)
    for key, value in whole.items():
        torch.testing.assert_close(half[key], value / 2, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_round_trips(name):
    recipe = OptimizerRecipe(name=name)

    def steps(module, optimizer, count):
        for _ in range(count):
            module.loss().backward()
            optimizer.step(1.0)
            optimizer.zero_grad()

    whole = Toy()
    steps(whole, Optimizer(whole, GROUPS, recipe), 5)
    module = Toy()
    first = Optimizer(module, GROUPS, recipe)
    steps(module, first, 2)
    saved = {key: value.clone() for key, value in first.tensors().items()}
    second = Optimizer(module, GROUPS, recipe)
    second.load_tensors_(saved)
    steps(module, second, 3)
    for a, b in zip(whole.parameters(), module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_state_of_another_optimizer_is_refused():
    module = Toy()
    muon = Optimizer(module, GROUPS, OptimizerRecipe(name="muon"))
    adamw = Optimizer(module, GROUPS, OptimizerRecipe(name="adamw"))
    with pytest.raises(ValueError, match="other tensors than the checkpoint"):
        adamw.load_tensors_(muon.tensors())
    wrong = {k: torch.zeros(1, 2, 3) for k in adamw.tensors()}
    with pytest.raises(ValueError, match="has shape"):
        adamw.load_tensors_(wrong)


def test_clip_returns_the_norm_before_and_bounds_it_after():
    module = Toy()
    optimizer = Optimizer(module, GROUPS, OptimizerRecipe())
    for param in module.parameters():
        param.grad = torch.ones_like(param)
    expected = sum(p.numel() for p in module.parameters()) ** 0.5
    assert optimizer.clip_(1.0) == pytest.approx(expected)
    assert sum(float(p.grad.square().sum()) for p in module.parameters()) == pytest.approx(1.0, rel=1e-4)
    assert optimizer.clip_(2.0) == pytest.approx(1.0, rel=1e-4)
    assert sum(float(p.grad.square().sum()) for p in module.parameters()) == pytest.approx(1.0, rel=1e-4)
