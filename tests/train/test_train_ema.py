import pytest
import torch
from torch import nn

from kleiber.train.ema import Ema


class Net(nn.Module):
    """Weights, a tied weight, statistics, a counter, a constant that no checkpoint holds."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 3, bias=False)
        self.tied = nn.Linear(3, 3, bias=False)
        self.tied.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("constant", torch.ones(2), persistent=False)


def walk(net, ema, num_steps, seed=1):
    """Move everything at random; return what stood there after each step."""
    generator = torch.Generator().manual_seed(seed)
    seen = []
    for _ in range(num_steps):
        with torch.no_grad():
            for tensor in (net.first.weight, net.norm.weight, net.norm.bias):
                tensor.add_(torch.randn(tensor.shape, generator=generator))
            net.norm(torch.randn(8, 3, generator=generator))
        ema.update()
        seen.append({name: value.clone() for name, value in net.state_dict().items()})
    return seen


def test_the_mean_is_the_weighted_mean_of_all_steps():
    net = Net()
    ema, decay = Ema(net, 0.9), 0.9
    seen = walk(net, ema, 7)
    shares = torch.tensor([decay ** (6 - step) for step in range(7)], dtype=torch.float64)
    shares /= shares.sum()
    with ema.applied():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                steps = torch.stack([step[name].double() for step in seen])
                expected = torch.tensordot(shares, steps, dims=1)
                torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    assert net.norm.running_mean.abs().sum() > 0


def test_the_first_step_is_the_mean_of_itself():
    net = Net()
    ema = Ema(net, 0.999)
    after = walk(net, ema, 1)[0]
    with ema.applied():
        assert all(torch.equal(value, after[name]) for name, value in net.state_dict().items())


def test_before_any_step_the_mean_is_the_start():
    net = Net()
    before = net.first.weight.detach().clone()
    with Ema(net, 0.9).applied():
        assert torch.equal(net.first.weight, before)


def test_the_module_comes_back_to_the_last_bit_even_after_an_error():
    net = Net()
    ema = Ema(net, 0.9)
    walk(net, ema, 5)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    mean = {name: value.clone() for name, value in ema.tensors().items()}
    pointers = [param.data_ptr() for param in net.parameters()]
    with ema.applied():
        assert not torch.equal(net.first.weight, before["first.weight"])
        assert torch.equal(net.tied.weight, mean["mean.first.weight"])
        assert torch.equal(net.norm.running_var, mean["mean.norm.running_var"])
        assert [param.data_ptr() for param in net.parameters()] == pointers
    with pytest.raises(RuntimeError, match="evaluation broke"), ema.applied():
        raise RuntimeError("evaluation broke")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(value, mean[name]) for name, value in ema.tensors().items())


def test_integers_are_those_of_the_last_step_and_constants_are_left_alone():
    net = Net()
    ema = Ema(net, 0.5)
    walk(net, ema, 4)
    names = ema.tensors().keys()
    assert int(ema.tensors()["mean.norm.num_batches_tracked"]) == 4
    assert "mean.constant" not in names
    assert sum("first.weight" in name or "tied.weight" in name for name in names) == 1


def test_the_module_takes_the_mean_for_good():
    net = Net()
    ema = Ema(net, 0.9)
    walk(net, ema, 3)
    mean = ema.tensors()["mean.first.weight"].clone()
    ema.copy_to_module_()
    assert torch.equal(net.first.weight, mean)
    assert int(net.norm.num_batches_tracked) == 3


def test_an_interrupted_walk_goes_on_bit_for_bit():
    whole = Net()
    ema = Ema(whole, 0.9)
    walk(whole, ema, 3, seed=1)
    saved = {name: value.clone() for name, value in ema.tensors().items()}
    weights = {name: value.clone() for name, value in whole.state_dict().items()}
    walk(whole, ema, 3, seed=2)

    resumed = Net()
    resumed.load_state_dict(weights)
    second = Ema(resumed, 0.9)
    second.load_tensors_(saved)
    walk(resumed, second, 3, seed=2)
    assert all(torch.equal(value, ema.tensors()[name]) for name, value in second.tensors().items())


def test_the_mean_of_another_model_is_refused():
    ema = Ema(nn.Linear(2, 2), 0.9)
    with pytest.raises(ValueError, match="the running mean has other tensors than the checkpoint"):
        ema.load_tensors_(Ema(nn.Linear(2, 2, bias=False), 0.9).tensors())
    with pytest.raises(ValueError, match=r"mean.weight has shape \(2, 2\), not \(2, 3\)"):
        ema.load_tensors_(Ema(nn.Linear(3, 2), 0.9).tensors())
