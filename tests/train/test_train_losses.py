"""What is minimized: micro-batches add up to their batch, and what a module adds to the loss has its effect."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from kleiber.models.gpt.module import GPT
from kleiber.runs import Recipe, RunFolder
from kleiber.train import train

SHORT = (
    "train.num_steps=3", "train.batch_size=8", "train.clip_norm=null", "train.schedule.warmup_steps=0", "parallel.num_threads=1",
    "train.optimizer.name=sgd", "train.optimizer.momentum=0", "train.optimizer.lr=0.1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(cache, monkeypatch):
    monkeypatch.setenv("KLEIBER_CACHE", str(cache))


def trained(recipe, folder):
    train(recipe, folder)
    return load_file(RunFolder(folder).model_path / "model.safetensors")


def test_targets_of_unequal_length_weigh_by_their_tokens(tmp_path):
    path = tmp_path / "pairs.tsv"
    rows = [f"{'ab ' * (1 + i % 5)}\t{'cd ' * (1 + i * i % 7)}" for i in range(60)]
    path.write_text("a\tb\n" + "\n".join(rows) + "\n")
    recipe = Recipe().with_values(
        [
            "model.family=seq2seq", "model.depth=1", "model.width=16", "model.dropout=0", "task.name=seq2seq", f"data.source=pairs:{path}",
            "data.field=a", "data.target=b", "data.vocab_size=260", "data.context=24", "data.val_frac=0.2", *SHORT,
        ]
    )  # fmt: skip
    whole = trained(recipe, tmp_path / "whole")
    parts = trained(recipe.with_values(["train.accumulation=4"]), tmp_path / "parts")
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, atol=1e-6, rtol=1e-4)


def test_the_load_balance_of_a_mixture_is_minimized(recipe, tmp_path):
    mixture = recipe.with_values(["model.num_experts=4", *SHORT])
    plain = trained(mixture.with_values(["model.router_aux_coef=0"]), tmp_path / "plain")
    balanced = trained(mixture.with_values(["model.router_aux_coef=10"]), tmp_path / "balanced")
    router = next(name for name in plain if name.endswith("gate.weight"))
    assert not torch.allclose(plain[router], balanced[router])


def test_what_a_module_adds_counts_once_a_step_in_however_many_parts(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(GPT, "auxiliary_loss", lambda self: 0.01 * self.embedding.sum())
    dense = recipe.with_values(list(SHORT))
    whole = trained(dense, tmp_path / "whole")
    parts = trained(dense.with_values(["train.accumulation=4"]), tmp_path / "parts")
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, atol=1e-6, rtol=1e-4)
