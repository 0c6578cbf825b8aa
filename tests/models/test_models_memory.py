from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kleiber.models import build
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.cache import KVCache
from kleiber.models.gpt.memory import kv_cache_bytes, saved_bytes, train_memory
from kleiber.runs import OptimizerRecipe
from kleiber.train.optimizer import Optimizer

SIZES = [
    {"depth": 2, "width": 64, "num_heads": 4},
    {"depth": 3, "width": 48, "num_heads": 3, "num_kv_heads": 1, "is_tied": False},
    {"depth": 1, "width": 96, "mlp_width": 600},
]


class LiveBytes(TorchDispatchMode):
    """Follow every storage that operations make, from its birth to its death."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak, self._known = 0, 0, weakref.WeakSet()

    def __torch_dispatch__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self._known:
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        self._known.add(storage)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, storage.nbytes())

    def _forget(self, num_bytes: int) -> None:
        self.live -= num_bytes


def loss_of(module: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    logits = module(tokens[:, :-1]).flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("batch", "context"), [(4, 128), (2, 48)])
def test_saved_bytes_are_what_the_module_saves(size: dict[str, object], batch: int, context: int) -> None:
    spec = GPTSpec.from_dial(size, vocab_size=500, context=128)
    module = build(spec)
    storages = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    for tensor in (*module.parameters(), *module.buffers()):
        storages[tensor.untyped_storage().data_ptr()] = torch.empty(0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loss_of(module, torch.zeros(batch, context + 1, dtype=torch.long))
    counted = sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
    assert loss.isfinite()
    assert saved_bytes(spec, batch, context) == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize(
    ("size", "vocab_size", "batch", "accumulation", "optimizer", "moment"),
    [
        ({"depth": 2, "width": 64}, 500, 4, 1, "adamw", "backward of the loss"),
        ({"depth": 2, "width": 64}, 500, 4, 3, "adamw", "backward of the loss"),
        (
            {"depth": 3, "width": 48, "num_kv_heads": 1, "is_tied": False},
            900,
            4,
            1,
            "muon",
            "backward of the loss",
        ),
        ({"depth": 3, "width": 192}, 100, 1, 1, "muon", "optimizer step"),
        ({"depth": 3, "width": 192}, 100, 1, 1, "adamw", "backward of the first block"),
    ],
)
def test_peak_is_what_a_step_holds(  # noqa: PLR0917 - a grid of cases
    size: dict[str, object], vocab_size: int, batch: int, accumulation: int, optimizer: str, moment: str
) -> None:
    spec = GPTSpec.from_dial(size, vocab_size=vocab_size, context=64)
    with LiveBytes() as meter:
        module = build(spec)
        steps = Optimizer(module, module.param_groups(), OptimizerRecipe(name=optimizer))
        for _ in range(2):
            for _ in range(accumulation):
                loss_of(module, torch.zeros(batch, spec.context + 1, dtype=torch.long)).backward()
            steps.step(1.0)
            steps.zero_grad()
    memory = train_memory(spec, batch, accumulation=accumulation, optimizer=optimizer)
    assert memory.fullest_moment == moment
    assert memory.summary().peak == pytest.approx(meter.peak, rel=0.1)
    assert memory.weights + memory.optimizer == pytest.approx(meter.live, rel=0.02)


@torch.no_grad()
def test_peak_of_a_validation() -> None:
    spec = GPTSpec.from_dial({"depth": 2, "width": 32}, vocab_size=1024, context=128)
    module = build(spec)
    with LiveBytes() as meter:
        loss_of(module, torch.zeros(32, 129, dtype=torch.long))
    memory = train_memory(spec, 4, val_batch=32)
    assert memory.fullest_moment == "validation"
    assert memory.moments["validation"] == pytest.approx(meter.peak, rel=0.1)


def test_half_precision_halves_the_activations_but_not_the_loss() -> None:
    spec = GPTSpec.from_dial({"depth": 2, "width": 64}, vocab_size=500, context=128)
    loss = 4 * 128 * (4 * 500 + 16)
    full, half = saved_bytes(spec, 4, 128), saved_bytes(spec, 4, 128, value_bytes=2)
    assert full - loss == 2 * (half - loss)


@pytest.mark.parametrize("size", SIZES)
def test_cache_bytes_are_the_caches(size: dict[str, object]) -> None:
    spec = GPTSpec.from_dial(size, vocab_size=500, context=128)
    assert kv_cache_bytes(spec, 3, 40) == KVCache(spec, 3, max_tokens=40).num_bytes
