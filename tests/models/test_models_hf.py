from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from kleiber.cost.usage import Usage
from kleiber.errors import RecipeError, RunFolderError
from kleiber.models import build, load, parse_size, resolve_spec, save, size_of
from kleiber.models.foreign.family import subject_of
from kleiber.models.hf import HFSpec
from kleiber.models.hf.fitted import fitted
from kleiber.models.hf.module import HF
from kleiber.runs import DataShape, ModelRecipe, Recipe
from kleiber.study.model_cost import costed_family

TEXT = DataShape(inputs="tokens", vocab_size=50, context=16)
TEXTS = TEXT.model_copy(update={"num_outputs": 3})
IMAGES = DataShape(inputs="images", channels=1, height=16, width=16, num_outputs=4)
PAIRS = DataShape(inputs="pairs", vocab_size=50, context=12)

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
TINY_TEXT: dict[str, Any] = {"vocab_size": 60, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
CONFIGS: dict[str, Any] = {
    "bert": lambda: transformers.BertConfig(max_position_embeddings=64, **TINY_TEXT, **SMALL),
    "llama": lambda: transformers.LlamaConfig(num_key_value_heads=1, max_position_embeddings=64, **TINY_TEXT, **SMALL),
    "gpt2": lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, **TINY_TEXT),
    "vit": lambda: transformers.ViTConfig(image_size=32, patch_size=8, num_labels=7, **SMALL),
    "resnet": lambda: transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic"
    ),
    "t5": lambda: transformers.T5Config(
        vocab_size=60, d_model=32, d_ff=64, num_layers=2, num_heads=2, d_kv=16, decoder_start_token_id=0
    ),
    "moe": lambda: transformers.Qwen3MoeConfig(
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, head_dim=16, num_key_value_heads=1,
        max_position_embeddings=64, **TINY_TEXT, **SMALL,
    ),
}  # fmt: skip
CASES = [
    pytest.param(name, shape, model_class, id=model_class)
    for name, shape, model_class in (
        ("bert", TEXTS, "BertForSequenceClassification"),
        ("bert", TEXT, "BertLMHeadModel"),
        ("llama", TEXT, "LlamaForCausalLM"),
        ("llama", TEXTS, "LlamaForSequenceClassification"),
        ("gpt2", TEXT, "GPT2LMHeadModel"),
        ("vit", IMAGES, "ViTForImageClassification"),
        ("resnet", IMAGES, "ResNetForImageClassification"),
        ("t5", PAIRS, "T5ForConditionalGeneration"),
        ("moe", TEXT, "Qwen3MoeForCausalLM"),
    )
]
every_case = pytest.mark.parametrize(("name", "shape", "model_class"), CASES)


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config a name."""
    folder = tmp_path_factory.mktemp("configs")
    for name, config in CONFIGS.items():
        config().save_pretrained(folder / name)
    return folder


def spec_of(folder: Path, name: str, shape: DataShape, **size: Any) -> HFSpec:
    return HFSpec.of_size({"path": str(folder / name), **size}, shape)


def inputs_of(shape: DataShape, batch: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    if shape.inputs == "images":
        return (torch.randn(batch, 1, 16, 16, generator=generator),)
    tokens = torch.randint(1, 50, (2, batch, shape.context or 1), generator=generator)
    return (tokens[0], tokens[1]) if shape.inputs == "pairs" else (tokens[0],)


@every_case
def test_the_head_follows_from_the_data(configs: Path, name: str, shape: DataShape, model_class: str) -> None:
    spec = spec_of(configs, name, shape)
    module = build(spec)
    assert type(module.model).__name__ == model_class
    logits = module(*inputs_of(shape))
    asked = (3, shape.num_outputs) if shape.num_outputs else (3, shape.context, 50)
    assert tuple(logits.shape) == asked
    assert min(spec.depth, spec.width) >= 2


@every_case
def test_it_counts_what_is_built(configs: Path, name: str, shape: DataShape, model_class: str) -> None:
    del model_class
    spec = spec_of(configs, name, shape)
    params = dict(build(spec).named_parameters())
    groups = build(spec).param_groups()
    assert spec.count().total == sum(param.numel() for param in params.values())
    assert sorted(groups.names) == sorted(params)
    assert sum(rows * columns for rows, columns in spec.hidden_shapes()) == sum(
        params[matrix.name].numel() for matrix in groups.hidden
    )
    if shape.num_outputs:
        assert spec.count().head == shape.num_outputs * (spec.width if name != "resnet" else 16)


def test_a_gpt_of_transformers_does_what_our_own_does(configs: Path) -> None:
    # Llama: per block q and o of 32 x 32, k and v of 16 x 32, three of 64 x 32; a head of 50 x 32.
    spec = spec_of(configs, "llama", TEXT)
    weights = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32) + 50 * 32
    attention = 2 * 4 * 32 * 16 * 16
    full = spec.flops(5, convention="full")
    assert full.forward == 5 * (2 * 16 * weights + attention)
    assert full.backward == 2 * full.forward
    assert spec.flops(5).forward == 5 * (2 * 16 * weights + attention // 2)


@every_case
def test_a_plan_counts_what_the_spec_does(
    configs: Path, name: str, shape: DataShape, model_class: str
) -> None:
    del model_class
    spec = spec_of(configs, name, shape)
    cost = costed_family("hf", spec, batch_size=4).cost(Usage(batch_size=4))
    assert cost.flops("forward") + cost.flops("backward") == spec.flops(4).total
    assert cost.num_params == spec.count()
    assert cost.memory.weights >= 4 * cost.num_params.total
    if name == "moe":
        # Of 4 experts a token meets 2: of gate, up and down, 32 x 32 each, in two blocks.
        assert cost.num_params.total - cost.num_active == 2 * 2 * 3 * 32 * 32


@every_case
def test_the_seed_alone_gives_the_weights(
    configs: Path, name: str, shape: DataShape, model_class: str
) -> None:
    del model_class
    spec, state = spec_of(configs, name, shape), torch.get_rng_state()
    one, same, other = (build(spec, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@every_case
def test_what_is_saved_is_loaded_here_and_by_transformers(
    configs: Path, tmp_path: Path, name: str, shape: DataShape, model_class: str
) -> None:
    spec = spec_of(configs, name, shape)
    module = build(spec).eval()
    save(module, spec, tmp_path)
    back, back_spec = load(tmp_path)
    assert back_spec == spec
    with torch.no_grad():
        expected = module(*inputs_of(shape))
        assert torch.equal(back.eval()(*inputs_of(shape)), expected)
        theirs: nn.Module = getattr(transformers, model_class).from_pretrained(tmp_path).eval()
        assert torch.equal(HF(spec, theirs)(*inputs_of(shape)), expected)


def test_padding_is_not_read(configs: Path) -> None:
    module = build(spec_of(configs, "bert", TEXTS)).eval()
    short = inputs_of(TEXTS)[0][:, :9]
    padded = torch.nn.functional.pad(short, (0, 7))
    assert torch.allclose(module(short), module(padded), atol=1e-5)


def test_an_encoder_that_models_text_does_not_look_ahead(configs: Path) -> None:
    module = build(spec_of(configs, "bert", TEXT)).eval()
    tokens = inputs_of(TEXT)[0]
    other = tokens.clone()
    other[:, 10:] = 1
    assert torch.allclose(module(tokens)[:, :10], module(other)[:, :10], atol=1e-5)
    assert not torch.allclose(module(tokens)[:, 10:], module(other)[:, 10:], atol=1e-2)


def test_the_data_says_vocabulary_and_images_of_what_starts_from_scratch(configs: Path) -> None:
    assert fitted(spec_of(configs, "bert", TEXTS)).notes == (
        "The vocabulary is the data's 50 tokens, not the config's 60.",
    )
    assert spec_of(configs, "vit", IMAGES).notes() == (
        "num_channels is the data's 1, not the config's 3.",
        "image_size is the data's 16, not the config's 32.",
    )


@pytest.fixture(scope="module")
def trained(configs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of a ViT and a BERT, as somebody trained them."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(1)
    transformers.ViTForImageClassification(CONFIGS["vit"]()).save_pretrained(folder / "vit")
    transformers.BertForMaskedLM(CONFIGS["bert"]()).save_pretrained(folder / "bert")
    return folder


def test_a_pretrained_trunk_keeps_its_weights_and_gets_a_head(trained: Path) -> None:
    shape = DataShape(inputs="images", channels=3, height=32, width=32, num_outputs=4)
    spec = spec_of(trained, "vit", shape, pretrained=True)
    assert spec.notes() == (f"The head is made anew: {trained / 'vit'} has 7 outputs, the data 4.",)
    module, theirs = build(spec), transformers.ViTForImageClassification.from_pretrained(trained / "vit")
    for name, weight in theirs.vit.named_parameters():
        assert torch.equal(weight, module.model.vit.get_parameter(name))
    assert module.model.classifier.weight.shape == (4, 32)
    same = build(spec_of(trained, "vit", shape.model_copy(update={"num_outputs": 7}), pretrained=True))
    assert torch.equal(same.model.classifier.weight, theirs.classifier.weight)
    assert build(spec, seed=1).model.classifier.weight.equal(build(spec, seed=1).model.classifier.weight)


def test_a_language_model_becomes_a_classifier(trained: Path) -> None:
    shape = TEXTS.model_copy(update={"vocab_size": 60})
    module = build(spec_of(trained, "bert", shape, pretrained=True))
    theirs = transformers.BertForMaskedLM.from_pretrained(trained / "bert")
    ours = module.model.bert.embeddings.word_embeddings.weight
    assert torch.equal(ours, theirs.bert.embeddings.word_embeddings.weight)


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("vit", IMAGES, r"trained with num_channels 3, and the data's images have 1: its weights do not fit"),
        (
            "vit",
            DataShape(inputs="images", channels=3, height=16, width=16, num_outputs=7),
            r"trained with image_size 32, and the data's images have 16: its weights do not fit",
        ),
        (
            "bert",
            TEXTS.model_copy(update={"vocab_size": 61}),
            r"trained with a vocabulary of 60 tokens, and that of the data has 61",
        ),
    ],
)
def test_a_pretrained_model_does_not_change_its_sizes(
    trained: Path, name: str, shape: DataShape, sentence: str
) -> None:
    with pytest.raises(RecipeError, match=sentence):
        spec_of(trained, name, shape, pretrained=True)


def test_weights_that_do_not_fit_their_config_are_named(trained: Path, tmp_path: Path) -> None:
    shape = DataShape(inputs="images", channels=3, height=32, width=32, num_outputs=7)
    config = json.loads((trained / "vit" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    (tmp_path / "model.safetensors").write_bytes((trained / "vit" / "model.safetensors").read_bytes())
    spec = HFSpec.of_size({"path": str(tmp_path), "pretrained": True}, shape)
    with pytest.raises(
        RecipeError, match=r"do not fit its config: .* is \(64.*\) and must be \(48.*and \d+ more"
    ):
        build(spec)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"the weights of .* cannot be loaded: .*model.safetensors"):
        build(spec)


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("bert", IMAGES, "transformers has no 'bert' for image classification"),
        ("vit", TEXT, "transformers has no 'vit' for causal lm"),
        ("llama", PAIRS, "transformers has no 'llama' for seq to seq causal lm"),
        ("bert", TEXTS.model_copy(update={"context": 65}), "has 64 positions, .* have up to 65 tokens"),
        (
            "vit",
            IMAGES.model_copy(update={"height": 4, "width": 4}),
            "patches of 8 pixels, and the data's have 4",
        ),
        (
            "bert",
            DataShape(inputs="features", num_features=3, num_outputs=2),
            "hf reads tokens, images or pairs",
        ),
    ],
)
def test_data_that_a_config_has_no_use_for(configs: Path, name: str, shape: DataShape, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        spec_of(configs, name, shape)


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ({}, "hf needs the path of a config"),
        ({"path": "x", "zzz": 3}, "hf size: unknown key 'zzz'. Known: path, pretrained"),
        ({"path": "x", "pretrain": True}, "unknown key 'pretrain'. Did you mean 'pretrained'"),
        ({"path": "x", "pretrained": "yes"}, "hf size: pretrained"),
        ({"path": ""}, "hf size: path"),
        ({"path": "."}, r"hf: \. has no config.json"),
    ],
)
def test_what_is_no_model(
    size: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=sentence):
        HFSpec.of_size(size, TEXT)


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        RecipeError, match="'nobody/nothing-here' is no folder here, and the hub did not give it"
    ):
        HFSpec.of_size({"path": "nobody/nothing-here"}, TEXT)


def test_a_config_says_what_it_was_made_for(configs: Path) -> None:
    images = HFSpec.usual_shape({"path": str(configs / "vit")})
    assert images == DataShape(inputs="images", channels=3, height=32, width=32, num_outputs=7)
    assert HFSpec.usual_shape({"path": str(configs / "llama")}) == DataShape(
        inputs="tokens", vocab_size=60, context=64
    )
    assert HFSpec.usual_shape({"path": str(configs / "t5")}).inputs == "pairs"
    with pytest.raises(RecipeError, match="hf needs the path"):
        HFSpec.usual_shape({})


def test_a_folder_without_its_spec_or_weights_is_refused(configs: Path, tmp_path: Path) -> None:
    spec = spec_of(configs, "vit", IMAGES)
    save(build(spec), spec, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(RunFolderError, match="cannot be loaded: "):
        load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"kleiber_hf": {"path": 3}}))
    with pytest.raises(RunFolderError, match="kleiber_hf: path"):
        load(tmp_path)


def test_it_is_typed_as_a_path(configs: Path) -> None:
    assert parse_size("hf:a/b,pretrained=true").size == {"path": "a/b", "pretrained": True}
    assert parse_size("hf:path=a/b").size == {"path": "a/b"}
    subject = subject_of(spec_of(configs, "llama", TEXT), "hf:llama")
    assert subject.has_cache
    assert subject.blocks is not None
    assert subject.blocks.num_kv_heads == 1


def test_it_learns(configs: Path) -> None:
    torch.manual_seed(0)
    module, labels = build(spec_of(configs, "bert", TEXTS)), torch.tensor([0, 1, 2])
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(10):
        loss = nn.functional.cross_entropy(module(*inputs_of(TEXTS)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@torch.no_grad()
def test_sizes_are_set_beside_those_of_the_config(configs: Path, tmp_path: Path) -> None:
    sizes = [["num_hidden_layers", 1], ["intermediate_size", 24]]
    spec = spec_of(configs, "llama", TEXT, sizes=sizes)
    module = build(spec).eval()
    assert (module.config.num_hidden_layers, module.config.intermediate_size) == (1, 24)
    assert spec.depth == 1
    assert spec.count().total == sum(p.numel() for p in module.parameters())
    save(module, spec, tmp_path)
    back, loaded = load(tmp_path)
    assert loaded == spec
    assert torch.equal(back.eval()(*inputs_of(TEXT)), module(*inputs_of(TEXT)))
    recipe = Recipe(model=ModelRecipe(**size_of(spec)))
    assert (
        resolve_spec(recipe.model_copy(update={"data": recipe.data.model_copy(update={"shape": TEXT})}))
        == spec
    )


def test_a_size_that_the_config_has_not_is_refused(configs: Path) -> None:
    with pytest.raises(RecipeError, match=r"has no number 'hidden_sise'\. Did you mean 'hidden_size'"):
        spec_of(configs, "llama", TEXT, sizes=[["hidden_sise", 8]])
