"""The step that is traced and measured: what it leaves in weights, gradients and state."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from kleiber.cost.trace.checkpointing import enable_checkpointing_, repeated_blocks
from kleiber.cost.trace.training_step import build_optimizer, prepare_, run_step
from kleiber.cost.usage import OPTIMIZERS, Usage
from kleiber.errors import RecipeError
from kleiber.models.gpt.module import GPT
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.subject import Inputs
from kleiber.train.muon import Muon


class Residual(nn.Module):
    """A block that counts its forward passes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.num_passes = 0

    def forward(self, x):
        self.num_passes += 1
        return x + torch.tanh(self.linear(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Residual() for _ in range(3))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def mean_square(output):
    return output.float().square().mean()


def inputs_of(batch_size=4):
    return Inputs((torch.linspace(-1, 1, 8 * batch_size).view(batch_size, 8),))


def num_state_values(optimizer):
    # A step's number is a scalar, which a plan leaves out.
    return sum(
        value.numel() for state in optimizer.state.values() for value in state.values() if value.ndim > 0
    )


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "muon"])
@pytest.mark.parametrize("is_fake", [False, True])
def test_the_state_is_what_a_plan_counts(name, is_fake):
    mode = FakeTensorMode() if is_fake else torch.enable_grad()
    with mode:
        module = Net()
        optimizer = build_optimizer(name, module)
        for _ in range(2):
            run_step(module, inputs_of(), mean_square, optimizer, Usage(batch_size=4, optimizer=name))
        num_params = sum(param.numel() for param in module.parameters())
        assert num_state_values(optimizer) == OPTIMIZERS[name] * num_params
        assert all(param.grad is None for param in module.parameters())


def test_muon_takes_the_hidden_matrices_alone():
    """Of 3 x (8x8 + 8) and 8x2 + 2: Muon has 3 x 64, AdamW 3 x 8 + 16 + 2."""
    module = Net()
    optimizer = build_optimizer("muon", module, muon=Muon)
    before = {name: param.detach().clone() for name, param in module.named_parameters()}
    run_step(module, inputs_of(), mean_square, optimizer, Usage(batch_size=4, optimizer="muon"))
    assert sum(tensor.numel() for tensor in optimizer._muon.tensors().values()) == 192
    assert num_state_values(optimizer._adamw) == 2 * 42
    assert all(not torch.equal(before[name], param) for name, param in module.named_parameters())
    assert all(param.grad is None for param in module.parameters())


def test_muon_leaves_embeddings_to_adamw():
    module = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 8), nn.Linear(8, 10))
    optimizer = build_optimizer("muon", module, muon=Muon)
    assert [tuple(param.shape) for param in optimizer._muon.params] == [(8, 8)]


def test_muon_asks_a_module_that_groups_its_parameters():
    spec = GPTSpec.from_dial({"depth": 2, "width": 32, "head_dim": 16}, vocab_size=64, context=8)
    module = GPT(spec).init_weights_(0)
    optimizer = build_optimizer("muon", module, muon=Muon)
    hidden = {id(module.get_parameter(matrix.name)) for matrix in module.param_groups().hidden}
    assert {id(param) for param in optimizer._muon.params} == hidden


def test_muon_needs_its_factory():
    with pytest.raises(ValueError, match="the optimizer muon needs its factory"):
        build_optimizer("muon", Net())


def test_frozen_weights_are_left_out():
    module = Net()
    module.head.requires_grad_(False)
    params = build_optimizer("adam", module).param_groups[0]["params"]
    assert len(params) == 6


def gradients_after(usage, batch_size):
    torch.manual_seed(0)
    module, seen = Net(), {}

    class Keep:
        def step(self):
            seen.update({name: param.grad.clone() for name, param in module.named_parameters()})

        def zero_grad(self):
            pass

    prepare_(module, usage)
    run_step(module, inputs_of(batch_size), mean_square, Keep(), usage)
    return module, seen


def test_accumulated_micro_batches_mean_the_same_gradient():
    _, once = gradients_after(Usage(batch_size=4), 4)
    _, thrice = gradients_after(Usage(batch_size=12, accumulation=3), 4)
    assert once.keys() == thrice.keys()
    assert all(torch.allclose(once[name], thrice[name], atol=1e-7) for name in once)


def test_checkpointed_blocks_run_twice_and_mean_the_same_gradient():
    plain_module, plain = gradients_after(Usage(batch_size=4), 4)
    module, checkpointed = gradients_after(Usage(batch_size=4, is_checkpointed=True), 4)
    assert [block.num_passes for block in plain_module.blocks] == [1, 1, 1]
    assert [block.num_passes for block in module.blocks] == [2, 2, 2]
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)


def test_half_precision_keeps_weights_and_gradients():
    seen = []
    module = Net()
    module.head.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    optimizer = build_optimizer("sgd", module)
    run_step(module, inputs_of(), mean_square, optimizer, Usage(batch_size=4, precision="bf16"))
    assert seen == [torch.bfloat16]
    assert {param.dtype for param in module.parameters()} == {torch.float32}


@pytest.mark.parametrize("is_fake", [False, True])
def test_serving_casts_weights_once_and_keeps_them_shared(is_fake):
    usage = Usage(mode="infer", batch_size=4, precision="bf16")
    with FakeTensorMode() if is_fake else torch.enable_grad():
        module = Net()
        module.blocks[1].linear.weight = module.blocks[0].linear.weight
        module.register_buffer("scale", torch.ones(2))
        module.register_buffer("index", torch.ones(2, dtype=torch.int64))
        prepare_(module, usage)
        seen = []
        module.head.register_forward_hook(lambda _, __, out: seen.append((out.dtype, out.requires_grad)))
        run_step(module, inputs_of(), mean_square, None, usage)
    assert seen == [(torch.bfloat16, False)]
    assert module.blocks[1].linear.weight is module.blocks[0].linear.weight
    assert {param.dtype for param in module.parameters()} == {torch.bfloat16}
    assert (module.scale.dtype, module.index.dtype) == (torch.bfloat16, torch.int64)
    assert not module.training


def test_phases_are_told_as_they_begin():
    phases = []
    module = Net()
    usage = Usage(batch_size=8, accumulation=2, optimizer="sgd")
    run_step(module, inputs_of(), mean_square, build_optimizer("sgd", module), usage, entering=phases.append)
    assert phases == ["forward", "backward", "forward", "backward", "optimizer"]


def test_blocks_are_the_members_of_the_innermost_lists_of_one_type():
    def layer():
        return nn.Sequential(nn.Linear(2, 2), nn.ReLU())

    assert repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) == []
    assert repeated_blocks(nn.ModuleList()) == []
    assert repeated_blocks(nn.Sequential(nn.ReLU(), nn.ReLU())) == []
    assert len(repeated_blocks(Net())) == 3
    sequence = nn.Sequential(layer(), layer())
    assert repeated_blocks(sequence) == list(sequence)
    for stage in (nn.ModuleList, nn.Sequential):
        stages = nn.ModuleList(
            stage([Residual(), Residual()]) if stage is nn.ModuleList else stage(Residual(), Residual())
            for _ in range(2)
        )
        assert repeated_blocks(stages) == [block for one in stages for block in one]


def test_without_blocks_nothing_can_be_checkpointed():
    with pytest.raises(RecipeError, match="Linear has no repeated blocks to checkpoint"):
        enable_checkpointing_(nn.Linear(2, 2))


def test_a_model_that_refuses_checkpointing():
    class Refuses(nn.Linear):
        def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs):
            assert gradient_checkpointing_kwargs == {"use_reentrant": False}
            raise ValueError("no")

    with pytest.raises(
        RecipeError, match="Refuses of transformers does not support activation checkpointing"
    ):
        enable_checkpointing_(Refuses(2, 2))


class Balanced(nn.Module):
    """Adds to its task's loss what its router would."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._extra: torch.Tensor | None = 10 * self.weight
        return self.weight * x

    def auxiliary_loss(self) -> torch.Tensor | None:
        taken, self._extra = self._extra, None
        return taken


def test_what_a_module_adds_to_its_loss_is_minimized_too() -> None:
    module = Balanced()
    gradients: list[float] = []

    class Look:
        def step(self) -> None:
            gradients.append(float(module.weight.grad))

        def zero_grad(self) -> None:
            module.weight.grad = None

    inputs = Inputs(args=(torch.tensor(3.0),))
    run_step(module, inputs, lambda value: value, Look(), Usage(batch_size=4, accumulation=2))
    # Twice half of 3 from the task and 10 from the module.
    assert gradients == [13.0]
    assert module.auxiliary_loss() is None
