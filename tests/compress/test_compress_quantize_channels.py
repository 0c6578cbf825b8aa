"""Where AWQ's scales can be taken back: in which modules, by which parameters, and that no output changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.compress.quantize.channels import find_folds
from kleiber.compress.quantize.folding import fold_scales_
from kleiber.data import Batch
from kleiber.models import build
from kleiber.models.family import FamilyModule
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.stored.grid import Grid

GRID = Grid(3, group_size=16, is_symmetric=False)


def tokens(num: int = 4, length: int = 17, vocab_size: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch({"tokens": torch.randint(vocab_size, (num, length), generator=generator).numpy()}, num)


def gpt(**size: object) -> FamilyModule:
    """Return a decoder with weights everywhere, and a few large gains as trained norms have."""
    module = build(GPTSpec.from_dial({"depth": 2, "width": 32} | size, vocab_size=64, context=32))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(
                    torch.randn(parameter.shape, generator=generator) * parameter.shape[1] ** -0.5
                )
            elif name.endswith("norm"):
                parameter.copy_(0.3 + torch.rand(parameter.shape, generator=generator) ** 4 * 6)
    return module


def test_folds_of_a_gpt() -> None:
    folds = find_folds(gpt(), tokens())
    found = [(fold.layers, fold.sources, (fold.rows.start, fold.rows.stop)) for fold in folds]
    of_block = [
        (("blocks.{}.qkv",), ("blocks.{}.attn_norm",), (0, 32)),
        (("blocks.{}.gate_up",), ("blocks.{}.mlp_norm",), (0, 32)),
    ]
    mlp_width = gpt().get_parameter("blocks.0.mlp_down").shape[1]
    of_block.append((("blocks.{}.mlp_down",), ("blocks.{}.gate_up",), (mlp_width, 2 * mlp_width)))
    expected = [
        (tuple(name.format(i) for name in layers), tuple(name.format(i) for name in sources), rows)
        for i in range(2)
        for layers, sources, rows in of_block
    ]
    # The last norm's channels are read by the tied head, which is the embedding as well: no fold.
    assert found == expected


def test_an_untied_head_reads_the_last_norm() -> None:
    assert find_folds(gpt(is_tied=False), tokens())[-1].layers == ("head",)


def test_folding_keeps_the_function_and_lowers_the_error() -> None:
    module, batch = gpt(), tokens(16)
    grids = {
        name: GRID
        for name, parameter in module.named_parameters()
        if name.startswith("blocks") and parameter.ndim > 1
    }
    inputs = torch.from_numpy(batch.tokens[:, :-1])
    with torch.no_grad():
        before = module(inputs)
        scaled = fold_scales_(module, [batch], grids)
        assert torch.allclose(module(inputs), before, atol=1e-4)
    assert set(scaled) == {f"blocks.{i}.{name}" for i in range(2) for name in ("qkv", "gate_up", "mlp_down")}


def test_what_is_fixed_is_left_alone() -> None:
    module = gpt()
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    scaled = fold_scales_(
        module, [tokens()], {"blocks.0.qkv": GRID, "blocks.0.mlp_down": GRID}, frozenset({"blocks.0.gate_up"})
    )
    assert scaled == ("blocks.0.qkv",)
    changed = {
        name for name, parameter in module.named_parameters() if not torch.equal(parameter, before[name])
    }
    assert changed == {"blocks.0.qkv", "blocks.0.attn_norm"}


NORMED = {"norm", "residual", "twice", "returned"}


class _Net(nn.Module):
    """Linear, norm and linear in ways that allow a fold, or do not."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.norm, self.second = nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.gain = nn.Parameter(torch.rand(8) + 0.5)
        with torch.no_grad():
            self.norm.weight.copy_(torch.rand(8, generator=torch.Generator().manual_seed(0)) * 5)
            self.norm.bias.fill_(0.3)

    def forward(self, x_NC: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h_NC = self.first(x_NC)
        # A norm that nobody reads spoils what it was made from.
        n_NC = self.norm(h_NC) if self.kind in NORMED else h_NC
        made: dict[str, Callable[[], Tensor | tuple[Tensor, Tensor]]] = {
            "norm": lambda: self.second(n_NC),
            # as transformers writes its RMS norms
            "gain": lambda: self.second(self.gain * (h_NC / h_NC.square().mean(1, keepdim=True).sqrt())),
            "relu": lambda: self.second(F.relu(h_NC)),
            "gelu": lambda: self.second(F.gelu(h_NC)),
            "residual": lambda: n_NC + self.second(n_NC),
            "square": lambda: self.second(h_NC * h_NC),
            "twice": lambda: self.second(self.norm(self.second(n_NC))),
            "returned": lambda: (self.second(n_NC), n_NC),
        }
        return made[self.kind]()


@pytest.mark.parametrize(
    ("kind", "sources"),
    [
        ("norm", ("norm.weight", "norm.bias")),
        ("gain", ("gain",)),
        ("relu", ("first.weight", "first.bias")),
        ("gelu", None),
        ("residual", None),
        ("square", None),
        ("twice", None),
    ],
)
def test_folds_of_small_nets(kind: str, sources: tuple[str, ...] | None) -> None:
    torch.manual_seed(0)
    module = _Net(kind)
    batch = Batch({"features": torch.randn(32, 8).numpy()}, 32)
    folds = find_folds(module, batch)
    assert [fold.sources for fold in folds] == ([] if sources is None else [sources])
    assert all(fold.layers == ("second.weight",) for fold in folds)
    x_NC = torch.from_numpy(batch.arrays["features"])
    with torch.no_grad():
        before = module(x_NC)
        fold_scales_(module, [batch], {"second.weight": Grid(2)})
        assert torch.allclose(module(x_NC), before, atol=1e-4)


def test_a_fold_that_the_outputs_notice_is_undone() -> None:
    module = _Net("returned")
    batch = Batch({"features": torch.randn(32, 8, generator=torch.Generator().manual_seed(0)).numpy()}, 32)
    assert len(find_folds(module, batch)) == 1  # that the channels are returned is not seen
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    assert fold_scales_(module, [batch], {"second.weight": Grid(2)}) == ()
    assert all(torch.equal(before[name], parameter) for name, parameter in module.named_parameters())
