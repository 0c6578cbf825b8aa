import pytest
import torch
from torch import nn

from kleiber.cost.optimizers import optimizer_of
from kleiber.cost.usage import OPTIMIZERS
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


REFERENCES = {
    "sgd": (torch.optim.SGD, {"momentum": 0.0}, {"momentum": 0.0}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}, {"momentum": 0.9}),
    "nesterov": (
        torch.optim.SGD,
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.9, "is_nesterov": True},
    ),
    "adagrad": (torch.optim.Adagrad, {"eps": 1e-6}, {"eps": 1e-6}),
    "rmsprop": (
        torch.optim.RMSprop,
        {"alpha": 0.9, "eps": 1e-6},
        {"beta2": 0.9, "eps": 1e-6, "momentum": 0.0},
    ),
    "rmsprop momentum": (
        torch.optim.RMSprop,
        {"alpha": 0.9, "eps": 1e-6, "momentum": 0.5},
        {"beta2": 0.9, "eps": 1e-6, "momentum": 0.5},
    ),
    "adam": (
        torch.optim.Adam,
        {"betas": (0.8, 0.9), "eps": 1e-6},
        {"beta1": 0.8, "beta2": 0.9, "eps": 1e-6},
    ),
    "adamw": (
        torch.optim.AdamW,
        {"betas": (0.8, 0.9), "eps": 1e-6},
        {"beta1": 0.8, "beta2": 0.9, "eps": 1e-6},
    ),
}
"""torch's class, its options, the same in a recipe; the names of torch's classes in lower case are the recipe's."""


def _walk(module, step, num_steps=20):
    """Step along gradients of noise that do not depend on where the weights are."""
    generator = torch.Generator().manual_seed(1)
    for index in range(num_steps):
        for param in module.parameters():
            param.grad = torch.randn(param.shape, generator=generator)
        step(1 - index / num_steps)
    return module


@pytest.mark.parametrize("case", REFERENCES)
def test_twenty_steps_are_torchs(case):
    """Without fused kernels, its own state, no weight decay but of the matrix."""
    kind, options, keys = REFERENCES[case]
    recipe = OptimizerRecipe(name=kind.__name__.lower(), lr=0.02, matrix_lr=0.01, weight_decay=0.3, **keys)
    module, reference = Toy(), Toy()
    ours = Optimizer(module, GROUPS, recipe)
    theirs = kind(
        [
            {"params": [reference.matrix], "lr": 0.01, "weight_decay": 0.3},
            {"params": [reference.embedding, reference.norm], "lr": 0.02, "weight_decay": 0.0},
        ],
        **options,
        foreach=False,
    )
    peaks = [group["lr"] for group in theirs.param_groups]

    def step(scale):
        for group, peak in zip(theirs.param_groups, peaks, strict=True):
            group["lr"] = peak * scale
        theirs.step()

    _walk(module, ours.step)
    _walk(reference, step)
    start = Toy()
    for name, param in module.named_parameters():
        torch.testing.assert_close(param, reference.get_parameter(name), rtol=1e-5, atol=1e-6)
        assert (param - start.get_parameter(name)).abs().max() > 0.01


@pytest.mark.parametrize("case", [*REFERENCES, "muon"])
def test_the_state_is_what_a_plan_counts(case):
    kind, _, keys = REFERENCES.get(case, (None, None, {}))
    recipe = OptimizerRecipe(name=kind.__name__.lower() if kind else "muon", **keys)
    module = Toy()
    optimizer = Optimizer(module, GROUPS, recipe)
    for _ in range(2):  # before the first step and after it
        values = sum(tensor.numel() for tensor in optimizer.tensors().values() if tensor.ndim)
        num_params = sum(param.numel() for param in module.parameters())
        muon_saves = module.matrix.numel() if case == "muon" else 0
        assert values == OPTIMIZERS[optimizer_of(recipe)] * num_params - muon_saves
        _walk(module, optimizer.step, num_steps=1)


def test_muon_without_hidden_matrices_is_adamw():
    groups = ParamGroups(hidden=(), embedding=("embedding",), head=("matrix",), norms=("norm",))
    muon, adamw = Toy(), Toy()
    _walk(muon, Optimizer(muon, groups, OptimizerRecipe(name="muon", weight_decay=0.1)).step)
    _walk(adamw, Optimizer(adamw, groups, OptimizerRecipe(name="adamw", weight_decay=0.1)).step)
    assert all(torch.equal(a, b) for a, b in zip(muon.parameters(), adamw.parameters(), strict=True))


@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "adam", "adamw", "muon"])
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


@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "adam", "adamw", "muon"])
def test_state_round_trips(name):
    recipe = OptimizerRecipe(name=name, lr=0.001)

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


def test_without_a_bound_nothing_is_clipped_and_the_norm_is_returned():
    module = Toy()
    optimizer = Optimizer(module, GROUPS, OptimizerRecipe())
    for param in module.parameters():
        param.grad = torch.full_like(param, 100.0)
    module.norm.grad = None
    assert optimizer.clip_(None) == pytest.approx(100 * (20 + 24) ** 0.5)
    assert (module.matrix.grad == 100).all()
    assert (module.embedding.grad == 100).all()
