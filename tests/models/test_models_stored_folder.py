from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from family_examples import EXAMPLES, TOKENS, inputs_of
from safetensors.torch import load_file, save_file
from stored_examples import assert_same, mixed_forms_, rounded, set_

from kleiber.errors import RecipeError, RunFolderError
from kleiber.models import Spec, build, load, save
from kleiber.models.family import FamilyModule
from kleiber.models.gpt import GPTSpec
from kleiber.models.hf import HFSpec
from kleiber.models.stored import (
    Activations,
    Forms,
    LowRank,
    Masked,
    raw_bytes,
    read_activations,
    read_forms,
    stored_bytes,
    write_forms,
)
from kleiber.runs import DataShape

CASES = [
    pytest.param(example.spec(family), example.shape, id=f"{family}-{index}")
    for family, examples in EXAMPLES.items()
    for index, example in enumerate(examples)
]
GPT = GPTSpec.of_size({"depth": 1, "width": 32}, TOKENS)
HF_CONFIG: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 48,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def saved(folder: Path, spec: Spec, forms: Forms | None = None) -> FamilyModule:
    module = build(spec).eval()
    for name, form in (forms or {}).items():
        set_(module.get_parameter(name), form)
    save(module, spec, folder)
    return module


def quantized(folder: Path, *names: str) -> tuple[FamilyModule, Forms]:
    module = build(GPT).eval()
    forms: Forms = {name: rounded(module.get_parameter(name), num_groups=2) for name in names}
    for name, form in forms.items():
        set_(module.get_parameter(name), form)
    save(module, GPT, folder)
    write_forms(folder, module, forms)
    return module, forms


@torch.no_grad()
def difference(one: FamilyModule, other: FamilyModule, inputs: tuple[torch.Tensor, ...]) -> float:
    """Return the largest difference of two modules' outputs."""
    pairs = zip(_tensors(one(*inputs)), _tensors(other(*inputs)), strict=True)
    return max(float((first - second).abs().max()) for first, second in pairs)


def _tensors(output: Any) -> tuple[torch.Tensor, ...]:
    return output if isinstance(output, tuple) else (output,)


@pytest.mark.parametrize(("spec", "shape"), CASES)
def test_every_family_comes_back_with_its_forms(tmp_path: Path, spec: Spec, shape: DataShape) -> None:
    module = build(spec).eval()
    forms = mixed_forms_(module)
    save(module, spec, tmp_path)
    write_forms(tmp_path, module, forms)
    loaded, loaded_spec = load(tmp_path)
    assert loaded_spec == spec
    assert difference(module, loaded.eval(), inputs_of(shape, 2)) <= 1e-6
    found = read_forms(tmp_path, loaded)
    assert found.keys() == forms.keys()
    for name, form in forms.items():
        assert_same(found[name], form)


def hf_spec(folder: Path, config: transformers.PretrainedConfig) -> HFSpec:
    config.save_pretrained(folder / "config")
    return HFSpec.of_size({"path": str(folder / "config")}, TOKENS)


def test_a_model_of_transformers_comes_back_with_its_forms(tmp_path: Path) -> None:
    spec = hf_spec(tmp_path, transformers.LlamaConfig(tie_word_embeddings=True, **HF_CONFIG))
    module = build(spec).eval()
    forms = mixed_forms_(module)
    save(module, spec, tmp_path / "model")
    write_forms(tmp_path / "model", module, forms)
    loaded, _ = load(tmp_path / "model")
    assert difference(module, loaded.eval(), inputs_of(TOKENS, 2)) <= 1e-6
    found = read_forms(tmp_path / "model", loaded)
    assert found.keys() == forms.keys()
    for name, form in forms.items():
        assert_same(found[name], form)
    save(loaded, spec, tmp_path / "again")
    assert "quantization_config" not in json.loads((tmp_path / "again/config.json").read_text())


def test_pretrained_weights_may_be_stored_in_few_bits(tmp_path: Path) -> None:
    spec = hf_spec(tmp_path, transformers.LlamaConfig(**HF_CONFIG))
    module = build(spec).eval()
    forms = mixed_forms_(module)
    save(module, spec, tmp_path / "model")
    write_forms(tmp_path / "model", module, forms)
    pretrained = build(HFSpec.of_size({"path": str(tmp_path / "model"), "pretrained": True}, TOKENS)).eval()
    assert difference(module, pretrained, inputs_of(TOKENS, 2)) <= 1e-6


def test_experts_in_three_dimensions_are_no_rows_of_a_file(tmp_path: Path) -> None:
    config = transformers.Qwen3MoeConfig(
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, head_dim=16, **HF_CONFIG
    )
    module = saved(tmp_path / "model", hf_spec(tmp_path, config))
    name = next(name for name, param in module.named_parameters() if param.ndim == 3)
    form = rounded(module.get_parameter(name))
    set_(module.get_parameter(name), form)
    with pytest.raises(
        RecipeError, match=rf"{name} cannot be stored .* one after the other.\n  try: leave {name}"
    ):
        write_forms(tmp_path / "model", module, {name: form})


def test_transformers_reads_the_folder(tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    module = build(GPT).eval()
    forms: Forms = {
        name: rounded(param, num_groups=2, is_symmetric=True)
        for name, param in module.named_parameters()
        if param.ndim > 1 and name != "embedding"
    }
    for name, form in forms.items():
        set_(module.get_parameter(name), form)
    save(module, GPT, tmp_path)
    write_forms(tmp_path, module, forms)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    inputs = inputs_of(TOKENS, 2)
    with torch.no_grad():
        assert torch.allclose(module(*inputs), theirs(*inputs).logits, atol=1e-5)


def test_fused_weights_stand_apart_under_their_own_names(tmp_path: Path) -> None:
    quantized(tmp_path, "blocks.0.qkv")
    names = [name for name in load_file(tmp_path / "model.safetensors") if name.endswith("_packed")]
    layer = "model.layers.0.self_attn"
    assert sorted(names) == [f"{layer}.{part}_proj.weight_packed" for part in "kqv"]
    block = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert block["config_groups"]["group_0"]["targets"] == [f"{layer}.{part}_proj" for part in "qkv"]


def test_the_file_is_as_small_as_its_bits_say(tmp_path: Path) -> None:
    module, _ = quantized(tmp_path, "embedding", "blocks.0.gate_up")
    tensors = load_file(tmp_path / "model.safetensors")
    params = dict(module.named_parameters())
    for name, stored in (
        ("embedding", "model.embed_tokens"),
        ("blocks.0.gate_up", "model.layers.0.mlp.up_proj"),
    ):
        packed = tensors[f"{stored}.weight_packed"]
        fused = 1 if name == "embedding" else 2
        assert packed.numel() * 32 * fused == params[name].numel() * 4
    assert stored_bytes(tmp_path) == sum(
        (tmp_path / name).stat().st_size for name in ("model.safetensors", "config.json")
    )
    assert raw_bytes(module) == 4 * GPT.count().total


def test_activations_come_back(tmp_path: Path) -> None:
    module = saved(tmp_path, GPT)
    assert read_activations(tmp_path) == Activations()
    activations = Activations(input_ranges={"blocks.0.qkv": (-2.5, 3.0)}, cache_bits=8)
    write_forms(tmp_path, module, {}, activations)
    assert read_activations(tmp_path) == activations
    assert read_forms(tmp_path, load(tmp_path)[0]) == {}


def test_a_folder_may_be_written_again(tmp_path: Path) -> None:
    module, _ = quantized(tmp_path, "blocks.0.qkv")
    mask = Masked(torch.ones(*module.get_parameter("embedding").shape, dtype=torch.bool))
    write_forms(tmp_path, module, {"embedding": mask})
    assert read_forms(tmp_path, module).keys() == {"embedding"}
    write_forms(tmp_path, module, {})
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    assert load_file(tmp_path / "model.safetensors").keys() == _plain_names(module, tmp_path / "plain")
    assert difference(module, load(tmp_path)[0], inputs_of(TOKENS, 2)) == 0


def _plain_names(module: FamilyModule, folder: Path) -> set[str]:
    save(module, GPT, folder)
    return set(load_file(folder / "model.safetensors"))


def test_the_module_itself_is_left_as_it_was(tmp_path: Path) -> None:
    module = saved(tmp_path, GPT)
    before = copy.deepcopy(module.state_dict())
    form = Masked(torch.ones(*module.get_parameter("blocks.0.qkv").shape, dtype=torch.bool))
    write_forms(tmp_path, module, {"blocks.0.qkv": form})
    read_forms(tmp_path, module)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("kind", ["quantized", "masked", "low_rank"])
def test_a_form_must_stand_for_the_weight(tmp_path: Path, kind: str) -> None:
    module = saved(tmp_path, GPT)
    weight = module.get_parameter("blocks.0.qkv")
    form = {
        "quantized": rounded(weight, num_bits=2),
        "masked": Masked(weight.detach() > 0),
        "low_rank": LowRank(weight.detach()[:, :2], weight.detach()[:2]),
    }[kind]
    with pytest.raises(ValueError, match=r"blocks\.0\.qkv is not the weight that its form stands for"):
        write_forms(tmp_path, module, {"blocks.0.qkv": form})
    with pytest.raises(ValueError, match="the module has no parameter qkv"):
        write_forms(tmp_path, module, {"qkv": form})


def test_fused_weights_of_different_forms_are_refused(tmp_path: Path) -> None:
    module, _ = quantized(tmp_path, "blocks.0.qkv")
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    stem = "model.layers.0.self_attn.k_proj.weight"
    plain = module.get_parameter("blocks.0.qkv").detach()[GPT.attn_width :][: GPT.kv_width]
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(stem)}
    save_file(rest | {stem: plain.contiguous()}, path)
    loaded, _ = load(tmp_path)
    assert torch.equal(loaded.get_parameter("blocks.0.qkv"), module.get_parameter("blocks.0.qkv"))
    with pytest.raises(RunFolderError, match=r"what is fused into blocks\.0\.qkv must all be stored alike"):
        read_forms(tmp_path, loaded)


def test_a_form_without_a_parameter_is_refused(tmp_path: Path) -> None:
    module, _ = quantized(tmp_path, "embedding")
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    more = {name.replace("model.embed_tokens", "lm_head"): tensor.clone() for name, tensor in tensors.items()}
    save_file(tensors | more, path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"]["config_groups"]["group_0"]["targets"].append("lm_head")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        RunFolderError, match=r"lm_head\.weight is not stored as it is, and no parameter has its rows"
    ):
        read_forms(tmp_path, module)


def test_the_layout_of_another_tool_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, GPT)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "gptq"}})
    )
    with pytest.raises(RunFolderError, match=r"quant_method must be compressed-tensors\. Got 'gptq'"):
        load(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    module, _ = quantized(tmp_path, "embedding")
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RunFolderError, match=r"model\.safetensors is truncated or corrupt"):
        read_forms(tmp_path, module)
