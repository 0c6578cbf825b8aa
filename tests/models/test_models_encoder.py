from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from kleiber.errors import RecipeError, RunFolderError
from kleiber.models import build, load, save
from kleiber.models.encoder import EncoderSpec
from kleiber.models.encoder.module import Encoder
from kleiber.runs import DataShape

TEXTS = DataShape(inputs="tokens", vocab_size=60, context=16, num_outputs=3)
TOKENS = torch.randint(1, 60, (3, 16), generator=torch.Generator().manual_seed(1))
LENGTHS = torch.tensor([16, 5, 1])
PADDED = TOKENS * (torch.arange(16) < LENGTHS[:, None])
SIZES: list[dict[str, Any]] = [
    {},
    {"num_heads": 4, "mlp_width": 20, "activation": "relu", "norm_eps": 1e-3},
    {"num_token_types": 2, "activation": "silu", "dropout": 0.1, "attention_dropout": 0.2, "init": "xavier"},
]


def random_model(shape: DataShape = TEXTS, **size: Any) -> Encoder:
    """A model in which no weight is zero and no gain is 1."""
    module = build(EncoderSpec.of_size({"depth": 2, "width": 32} | size, shape)).eval()
    assert isinstance(module, Encoder)
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    return module


def test_count_of_bert_base_as_published() -> None:
    # BERT base, uncased: 109,482,240 parameters without a head; two classes add 2 x 768 + 2
    shape = DataShape(inputs="tokens", vocab_size=30_522, context=512, num_outputs=2)
    spec = EncoderSpec.of_size({"depth": 12, "num_token_types": 2}, shape)
    assert (spec.width, spec.num_heads, spec.mlp_width) == (768, 12, 3072)
    assert spec.count().total == 109_482_240 + 1538
    assert spec.count().head == 1538


def test_flops_worked_by_hand() -> None:
    # a block of width 32 and mlp 128: 4 * 32 * 32 + 2 * 32 * 128 weights; attention 4 * 10^2 * 32; pooler and head a text
    flops = EncoderSpec.of_size({"depth": 2, "width": 32}, TEXTS).flops(5, 10)
    assert flops.forward == 2 * 5 * (2 * 10 * 12_288 + 4 * 100 * 32) + 2 * 5 * 32 * (32 + 3)
    assert flops.backward == 2 * flops.forward
    full = EncoderSpec.of_size({"depth": 2, "width": 32}, TEXTS).flops(5, 10, convention="full")
    assert full.total == flops.total  # every token sees every other


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_transformers_gives_the_same_logits(tmp_path: Path, size: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    module = random_model(**size)
    save(module, module.spec, tmp_path)
    theirs, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert type(theirs).__name__ == "BertForSequenceClassification"
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    expected = theirs(PADDED, attention_mask=(PADDED != 0).long()).logits
    assert (expected - module(PADDED)).abs().max().item() < 2e-5
    assert sum(p.numel() for p in theirs.parameters()) == module.spec.count().total


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_what_transformers_saves_loads(tmp_path: Path, size: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    module = random_model(**size)
    save(module, module.spec, tmp_path / "ours")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    back, spec = load(tmp_path / "theirs")
    assert spec == module.spec
    assert torch.equal(back.eval()(PADDED), module(PADDED))


@torch.no_grad()
def test_a_config_of_transformers_own_loads(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=30,
        max_position_embeddings=20,
    )
    theirs = transformers.BertForSequenceClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    module, spec = load(tmp_path)
    assert isinstance(spec, EncoderSpec)
    assert (spec.num_outputs, spec.num_token_types, spec.dropout, spec.attention_dropout) == (2, 2, 0.1, 0.1)
    tokens = TOKENS % 39 + 1
    assert (theirs(tokens).logits - module.eval()(tokens)).abs().max().item() < 1e-5


@torch.no_grad()
def test_padding_changes_no_answer() -> None:
    module = random_model()
    for row, length in zip(PADDED, LENGTHS.tolist(), strict=True):
        assert torch.allclose(module(PADDED), torch.cat([module(PADDED[:1]), module(PADDED[1:])]), atol=1e-5)
        assert torch.allclose(module(row[None]), module(row[None, :length]), atol=1e-5)
    assert not torch.allclose(module(TOKENS[1:2]), module(PADDED[1:2]), atol=1e-3)


def test_a_text_of_padding_alone_has_a_finite_answer_and_gradient() -> None:
    module = random_model()
    answers = module(torch.zeros(2, 6, dtype=torch.long))
    answers.sum().backward()
    assert answers.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@torch.no_grad()
def test_the_answer_depends_on_order_and_on_every_token() -> None:
    module = random_model()
    answer = module(TOKENS[:1])
    for position in range(16):
        changed = TOKENS[:1].clone()
        changed[0, position] = changed[0, position] % 59 + 1
        assert (module(changed) - answer).abs().max() > 1e-4
    assert (module(TOKENS[:1].flip(1)) - answer).abs().max() > 1e-3


def test_attention_is_fused_unless_its_weights_drop_out() -> None:
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        random_model(dropout=0.1).train()(PADDED).sum().backward()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), pytest.raises(RuntimeError, match="kernel"):
        random_model(attention_dropout=0.1).train()(PADDED)


def test_dropout_is_of_training_alone() -> None:
    for name in ("dropout", "attention_dropout"):
        module = random_model(**{name: 0.5}).train()
        torch.manual_seed(0)
        one, other = module(TOKENS), module(TOKENS)
        assert not torch.allclose(one, other)
        torch.manual_seed(0)
        assert torch.equal(module(TOKENS), one)
        module.eval()
        assert torch.equal(module(TOKENS), module(TOKENS))


def test_initial_weights() -> None:
    def built(init: str) -> Encoder:
        module = build(EncoderSpec.of_size({"depth": 2, "width": 64, "init": init}, TEXTS))
        assert isinstance(module, Encoder)
        return module

    xavier, zero, default = built("xavier"), built("zero_residual"), built("default")
    bound = (6 / 128) ** 0.5
    for matrix in xavier.blocks[1].qkv.weight.split(64):
        assert 0.95 * bound < matrix.abs().max().item() <= bound
    assert xavier.blocks[0].up.weight.abs().max().item() <= (6 / 320) ** 0.5
    assert xavier.blocks[0].up.bias.eq(0).all()
    for name in ("attn_out", "down"):
        assert zero.blocks[1].get_submodule(name).weight.eq(0).all()
        assert default.blocks[1].get_submodule(name).weight.ne(0).all()
    assert default.blocks[0].qkv.weight.abs().max().item() <= 64**-0.5
    assert default.tokens.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("is_decoder", True, "is_decoder must be False"),
        ("classifier_dropout", 0.3, "classifier_dropout must be None"),
        ("hidden_act", "gelu_new", "activation: input should be"),
        ("architectures", ["BertForMaskedLM"], "the architecture must be BertForSequenceClassification"),
        ("num_attention_heads", 5, "num_heads 5 must divide width 32"),
        ("vocab_size", None, "encoder reads tokens"),
        ("hidden_size", 16, r"model\.safetensors: .* must be .*Got \("),
    ],
)
def test_a_folder_that_the_family_does_not_compute_is_refused(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    from kleiber.models.encoder import convert  # noqa: PLC0415 - `load` would choose another family for another architecture

    module = random_model()
    save(module, module.spec, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(RunFolderError, match=message):
        convert.load(tmp_path)


@pytest.mark.parametrize(
    ("size", "shape", "message"),
    [
        ({"num_heads": 3, "width": 32}, TEXTS, "encoder size: num_heads 3 must divide width 32"),
        ({"num_heads": "many"}, TEXTS, "encoder size: num_heads"),
        ({"num_outputs": 3}, TEXTS, "num_outputs belongs to the data"),
        ({}, TEXTS.model_copy(update={"num_outputs": None}), "num_outputs is missing"),
        ({}, DataShape(inputs="tokens", num_outputs=2), "encoder reads tokens and gives one answer a text"),
    ],
)
def test_what_does_not_fit_is_refused(size: dict[str, Any], shape: DataShape, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        EncoderSpec.of_size({"depth": 1, **size}, shape)


def test_a_target_is_reached_with_the_heads_asked() -> None:
    spec = EncoderSpec.of_size({"params": 1e6, "num_heads": 6}, TEXTS)
    assert spec.num_heads == 6
    assert abs(spec.count().total / 1e6 - 1) < 0.2
