from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from kleiber.cost.trace.operation_flops import Call, call_flops
from kleiber.errors import RecipeError
from kleiber.models import build, parse_size
from kleiber.models.rnn import RNNSpec
from kleiber.models.rnn.module import EMBEDDING_STD, RNN
from kleiber.runs import DataShape

TOKENS = DataShape(inputs="tokens", vocab_size=50, context=12)
TEXTS = DataShape(inputs="tokens", vocab_size=50, context=12, num_outputs=3)
SERIES = DataShape(inputs="series", context=12, num_features=2, num_outputs=4)


def model(shape: DataShape, **size: Any) -> RNN:
    module = build(RNNSpec.of_size({"depth": 2, "width": 8} | size, shape))
    assert isinstance(module, RNN)
    return module


def test_counts_worked_by_hand() -> None:
    # Press and Wolf's tie leaves a language model with table and cells: 4 gates of 8 x (8 + 8) and two biases of 8, twice
    tied = RNNSpec.of_size({"depth": 2, "width": 8, "is_tied": True}, TOKENS).count()
    assert (tied.embedding, tied.body, tied.head, tied.is_tied) == (400, 2 * 4 * (128 + 16), 0, True)
    untied = RNNSpec.of_size({"depth": 2, "width": 8}, TOKENS).count()
    assert (untied.body, untied.head) == (tied.body, 400)
    # a GRU over 2 features: 3 gates of 8 x (2 + 8) and two biases; a head of 4 x 8 and 4
    series = RNNSpec.of_size({"depth": 1, "width": 8, "cell": "gru"}, SERIES).count()
    assert (series.embedding, series.body, series.head) == (0, 3 * (80 + 16), 36)


def test_flops_worked_by_hand() -> None:
    # 5 series of 12 steps, Elman: 8 x (2 + 8) weights a step; the head 4 x 8 once a series
    spec = RNNSpec.of_size({"depth": 1, "width": 8, "cell": "elman"}, SERIES)
    flops = spec.flops(5)
    assert flops.forward == 2 * 5 * 12 * 80 + 2 * 5 * 32
    # nobody asks for the gradient of the series (8 x 2 a step), nor of the state before the first step (8 x 8)
    assert flops.backward == 2 * flops.forward - 2 * 5 * 12 * 16 - 2 * 5 * 64
    fused = RNNSpec.of_size({"depth": 1, "width": 8}, SERIES).flops(5, 6)
    assert fused.forward == 2 * 5 * 6 * 4 * 80 + 2 * 5 * 32
    assert fused.backward == 2 * fused.forward


class Traced(TorchDispatchMode):
    """Counts what is run as the planner's tracer does."""

    flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.flops += call_flops(Call(func, args, kwargs or {}, out))
        return out


@pytest.mark.parametrize(
    "shape", [TOKENS, TEXTS, SERIES], ids=lambda shape: f"{shape.inputs}-{shape.num_outputs}"
)
@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
@pytest.mark.parametrize("depth", [1, 3])
def test_flops_equal_the_tracers(cell: str, shape: DataShape, depth: int) -> None:
    module = model(shape, cell=cell, depth=depth)
    inputs = torch.randn(5, 9, 2) if shape == SERIES else torch.ones(5, 9, dtype=torch.long)
    with Traced() as forward:
        loss = module(inputs).sum()
    with Traced() as backward:
        loss.backward()
    flops = module.spec.flops(5, 9)
    assert (flops.forward, flops.backward) == (forward.flops, backward.flops)


def steps_of(module: RNN, series_BTF: Tensor) -> Tensor:
    """The states of the last layer [B, T, W], by the equations of each cell."""
    spec, params = module.spec, dict(module.recurrence.named_parameters())
    x_BTW = series_BTF
    for layer in range(spec.depth):
        w_ih, w_hh, b_ih, b_hh = (
            params[f"{kind}_l{layer}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h = c = torch.zeros(len(series_BTF), spec.width)
        states = []
        for x in x_BTW.unbind(1):
            into, back = x @ w_ih.T + b_ih, h @ w_hh.T + b_hh
            if spec.cell == "elman":
                h = torch.tanh(into + back) if spec.activation == "tanh" else torch.relu(into + back)
            elif spec.cell == "lstm":
                i, f, g, o = (into + back).chunk(4, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            else:
                (r_in, z_in, n_in), (r_h, z_h, n_h) = into.chunk(3, 1), back.chunk(3, 1)
                z = torch.sigmoid(z_in + z_h)
                h = (1 - z) * torch.tanh(n_in + torch.sigmoid(r_in + r_h) * n_h) + z * h
            states.append(h)
        x_BTW = torch.stack(states, 1)
    return x_BTW


@pytest.mark.parametrize(
    "size", [{"cell": "lstm"}, {"cell": "gru"}, {"cell": "elman"}, {"cell": "elman", "activation": "relu"}]
)
@pytest.mark.parametrize("pooling", ["last", "mean"])
@torch.no_grad()
def test_cells_are_their_equations(size: dict[str, Any], pooling: str) -> None:
    module = model(SERIES, pooling=pooling, **size)
    series = torch.randn(3, 12, 2, generator=torch.Generator().manual_seed(0))
    states = steps_of(module, series)
    pooled = states[:, -1] if pooling == "last" else states.mean(1)
    assert torch.allclose(module(series), pooled @ module.head.weight.T + module.head.bias, atol=1e-6)


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
@torch.no_grad()
def test_padding_changes_no_answer(cell: str, pooling: str) -> None:
    module = model(TEXTS, cell=cell, pooling=pooling)
    text = torch.tensor([[7, 3, 9, 4]])
    padded = torch.tensor([[7, 3, 9, 4, 0, 0, 0], [5, 5, 5, 5, 5, 5, 5]])
    assert torch.allclose(module(padded)[0], module(text)[0], atol=1e-6)
    assert not torch.allclose(module(text[:, :3])[0], module(text)[0], atol=1e-4)


@pytest.mark.parametrize("pooling", ["last", "mean"])
@torch.no_grad()
def test_a_text_of_padding_alone_has_a_finite_answer(pooling: str) -> None:
    assert model(TEXTS, pooling=pooling)(torch.zeros(2, 5, dtype=torch.long)).isfinite().all()


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
@torch.no_grad()
def test_no_token_sees_a_later_one(cell: str) -> None:
    module = model(TOKENS, cell=cell)
    tokens = torch.arange(12)[None] * 7 % 50
    changed = tokens.clone()
    changed[0, 8:] += 1
    before, after = module(tokens), module(changed)
    assert torch.equal(before[:, :8], after[:, :8])
    assert (before[:, 8:] - after[:, 8:]).abs().amax(-1).min() > 1e-6


@torch.no_grad()
def test_a_tied_head_is_the_table() -> None:
    module = model(TOKENS, is_tied=True)
    tokens = torch.tensor([[3, 1, 4]])
    states = module.recurrence(module.embedding(tokens))[0]
    assert torch.allclose(module(tokens), states @ module.embedding.weight.T, atol=1e-6)
    assert not hasattr(module, "head")


def test_initial_weights() -> None:
    module = model(TOKENS, width=64, init="orthogonal")
    params = dict(module.recurrence.named_parameters())
    for gate in params["weight_hh_l1"].split(64):
        assert torch.allclose(gate @ gate.T, torch.eye(64), atol=1e-5)
    glorot = (6 / 128) ** 0.5
    for gate in params["weight_ih_l1"].split(64):
        assert 0.95 * glorot < gate.abs().max().item() <= glorot
    # gates of an LSTM are in, forget, cell, out; the forget gate starts open
    assert params["bias_ih_l0"].view(4, 64)[1].eq(1).all()
    assert params["bias_ih_l0"].view(4, 64)[[0, 2, 3]].eq(0).all()
    assert params["bias_hh_l0"].eq(0).all()
    assert module.embedding.weight.std().item() == pytest.approx(EMBEDDING_STD, rel=0.05)
    default = dict(model(TOKENS, width=64).recurrence.named_parameters())
    assert default["weight_hh_l0"].abs().max().item() <= 64**-0.5
    assert default["bias_ih_l0"].view(4, 64)[1].eq(1).all()
    assert 0 < default["bias_hh_l0"].abs().max().item() <= 64**-0.5


def test_dropout_is_of_training_alone_and_not_of_steps() -> None:
    module = model(TEXTS, dropout=0.5)
    tokens = torch.tensor([[3, 1, 4]])
    module.train()
    torch.manual_seed(0)
    one, other = module(tokens), module(tokens)
    assert not torch.equal(one, other)
    torch.manual_seed(0)
    assert torch.equal(module(tokens), one)
    module.eval()
    assert torch.equal(module(tokens), module(tokens))
    assert module.recurrence.dropout == 0.5
    assert model(TEXTS, depth=1, dropout=0.5).recurrence.dropout == 0.0


def test_an_lstm_of_a_language_model_is_one_operation_a_layer() -> None:
    module = model(TOKENS)
    assert isinstance(module.recurrence, nn.LSTM)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        module(torch.ones(2, 12, dtype=torch.long))
    calls = {event.key: event.count for event in profile.key_averages()}
    assert calls["aten::mkldnn_rnn_layer"] == 2


@pytest.mark.parametrize(
    ("size", "shape", "message"),
    [
        ({"cell": "lstn"}, TOKENS, "rnn size: cell: input should be 'elman', 'gru' or 'lstm'"),
        ({"activation": "relu"}, TOKENS, "rnn size: activation relu is for cell elman, got cell lstm"),
        ({"pooling": "mean"}, TOKENS, "rnn size: pooling has no effect on a language model, got mean"),
        ({"is_tied": True}, TEXTS, "rnn size: is_tied is for language models, got data with num_outputs"),
        ({"num_heads": 2}, TOKENS, "rnn size: unknown key 'num_heads'"),
        ({"vocab_size": 9}, TOKENS, "vocab_size belongs to the data"),
        ({}, SERIES.model_copy(update={"num_outputs": None}), "rnn reads tokens, .* Got 'series'"),
    ],
)
def test_what_does_not_fit_is_refused(size: dict[str, Any], shape: DataShape, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        RNNSpec.of_size({"depth": 1, **size}, shape)


def test_a_spec_refuses_data_that_it_cannot_read() -> None:
    with pytest.raises(
        ValueError, match=r"rnn reads tokens, to model or to answer, and series, to answer\. Got images"
    ):
        RNNSpec(depth=1, width=8, shape=DataShape(inputs="images"))


def test_the_dial_grows_wide_before_it_grows_deep() -> None:
    sizes = [parse_size(f"rnn:params={target}").size for target in (1e5, 1e7, 1e9)]
    shape = DataShape(inputs="tokens", vocab_size=257, context=128)
    assert [RNNSpec.of_size(size, shape).depth for size in sizes] == [1, 3, 4]
    assert [RNNSpec.of_size({"depth": depth}, shape).width for depth in (1, 2, 3, 4, 8)] == [
        64,
        256,
        1024,
        4096,
        4096,
    ]
