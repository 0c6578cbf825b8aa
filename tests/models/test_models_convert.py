from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kleiber.errors import RunFolderError
from kleiber.models import build, load, save
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.module import GPT

TOKENS = torch.randint(0, 300, (2, 24), generator=torch.Generator().manual_seed(1))


def random_model(**size: object) -> GPT:
    spec = GPTSpec.from_dial({"depth": 2, "width": 32} | size, vocab_size=300, context=32)
    module = build(spec)
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
            parameter.add_(noise * (0.3 if parameter.ndim == 1 else 0.1))
    return module


def saved(folder: Path, **size: object) -> GPT:
    module = random_model(**size)
    save(module, module.spec, folder)
    return module


SIZES = [
    {},
    {"is_tied": False},
    {"num_heads": 4, "num_kv_heads": 2, "rope_theta": 5e5},
    {"num_heads": 3, "head_dim": 10, "num_kv_heads": 1, "is_tied": False, "norm_eps": 1e-3},
]


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_transformers_gives_the_same_logits(tmp_path: Path, size: dict[str, object]) -> None:
    transformers = pytest.importorskip("transformers")
    module = saved(tmp_path, **size)
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert (theirs(TOKENS).logits - module(TOKENS)).abs().max().item() < 1e-5
    assert sum(p.numel() for p in theirs.parameters()) == module.spec.count().total


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_what_transformers_saves_loads(tmp_path: Path, size: dict[str, object]) -> None:
    transformers = pytest.importorskip("transformers")
    module = saved(tmp_path / "ours", **size)
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    back, spec = load(tmp_path / "theirs")
    assert spec == module.spec
    assert torch.equal(back(TOKENS), module(TOKENS))


def test_save_and_load_keep_every_weight(tmp_path: Path) -> None:
    module = saved(tmp_path, num_kv_heads=1)
    back, spec = load(tmp_path)
    assert spec == module.spec
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, back.get_parameter(name))
        assert back.get_parameter(name).requires_grad


def test_half_precision_weights_become_fp32(tmp_path: Path) -> None:
    module = saved(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    back, _ = load(tmp_path)
    assert back.embedding.dtype == torch.float32
    assert torch.equal(back.embedding, module.embedding.bfloat16().float())


def change(folder: Path, **keys: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | keys))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "the architecture must be Qwen3ForCausalLM"),
        ({"architectures": None}, "the architecture must be Qwen3ForCausalLM"),
        ({"attention_bias": True}, "attention_bias must be False"),
        ({"hidden_act": "gelu"}, "hidden_act must be silu"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_type must be default"),
        ({"hidden_size": -1}, "width"),
        ({"hidden_size": 64}, r"model.embed_tokens.weight must be \(300, 64\). Got \(300, 32\)"),
        ({"num_hidden_layers": 3}, r"model.layers.2.* must be \(32,\). Got 'nothing'"),
        ({"num_hidden_layers": 1}, "model.layers.1.* must be absent"),
        ({"tie_word_embeddings": False}, r"lm_head.weight must be \(300, 32\)"),
    ],
)
def test_other_architectures_are_refused(tmp_path: Path, keys: dict[str, object], message: str) -> None:
    saved(tmp_path)
    change(tmp_path, **keys)
    with pytest.raises(RunFolderError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_and_truncated_files_are_refused(tmp_path: Path, name: str) -> None:
    saved(tmp_path)
    content = (tmp_path / name).read_bytes()
    for kept in (len(content) - 40, 5, 0):
        (tmp_path / name).write_bytes(content[:kept])
        with pytest.raises(RunFolderError, match=f"{name} is truncated"):
            load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(RunFolderError, match=f"{name} cannot be read: No such file"):
        load(tmp_path)


def test_a_config_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(RunFolderError, match="must hold a mapping"):
        load(tmp_path)
