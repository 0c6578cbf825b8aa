from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kleiber.errors import RecipeError, RunFolderError, UsageError
from kleiber.models import build, load, save
from kleiber.models.seq2seq import Seq2SeqSpec
from kleiber.models.seq2seq.convert import load as load_seq2seq
from kleiber.models.seq2seq.decoder_block import TargetCache
from kleiber.models.seq2seq.module import Seq2Seq
from kleiber.runs import DataShape

PAIRS = DataShape(inputs="pairs", vocab_size=60, context=12)
SIZES: list[dict[str, object]] = [
    {},
    {"is_pre_norm": False, "activation": "gelu"},
    {"decoder_depth": 1, "num_heads": 4, "mlp_width": 20, "activation": "relu2"},
]


def dial(**size: object) -> Seq2SeqSpec:
    return Seq2SeqSpec.of_size({"depth": 2, "width": 32} | size, PAIRS)


def random_model(**size: object) -> Seq2Seq:
    """A model in which no weight is zero, in evaluation."""
    module = build(dial(**size))
    assert isinstance(module, Seq2Seq)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module.eval()


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    """Sources of several lengths, and targets behind their start."""
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(1, 60, (4, 12), generator=generator)
    target = torch.randint(1, 60, (4, 13), generator=generator)
    for row, length in enumerate((12, 7, 1, 0)):
        source[row, length:] = 0
    target[:, 0] = 0
    return source, target


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_transformers_gives_the_same_logits_and_back(tmp_path: Path, size: dict[str, object]) -> None:
    transformers = pytest.importorskip("transformers")
    module = random_model(**size)
    save(module, module.spec, tmp_path / "ours")
    theirs, info = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    name = "PegasusForConditionalGeneration" if module.spec.is_pre_norm else "MarianMTModel"
    assert type(theirs).__name__ == name
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    source, target = (part[:3] for part in pairs())
    logits = theirs.eval()(
        input_ids=source, attention_mask=(source != 0).long(), decoder_input_ids=target
    ).logits
    assert (logits - module(source, target)).abs().max().item() < 1e-5
    learnt = {name: p.numel() for name, p in theirs.named_parameters() if "embed_positions" not in name}
    assert sum(learnt.values()) == module.spec.count().total
    theirs.save_pretrained(tmp_path / "theirs")
    back, spec = load(tmp_path / "theirs")
    assert spec == module.spec
    assert torch.equal(back.eval()(source, target), module(source, target))


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_padding_changes_nothing(size: dict[str, object]) -> None:
    module = random_model(**size)
    source, target = pairs()
    for row, length in enumerate((12, 7, 1)):
        alone = module(source[row : row + 1, :length], target[row : row + 1])
        assert torch.allclose(alone, module(source, target)[row : row + 1], atol=1e-5)
    # padding at a target's end changes nothing before it, and an empty source is read without a NaN
    padded = target.clone()
    padded[:, 6:] = 0
    assert torch.allclose(module(source, padded)[:, :6], module(source, target)[:, :6], atol=1e-6)
    assert module(source, target).isfinite().all()


@pytest.mark.parametrize("size", SIZES)
def test_every_target_token_sees_the_source_and_what_is_before_it(size: dict[str, object]) -> None:
    module = random_model(**size)
    source, target = (part[:1] for part in pairs())
    changed = target.clone()
    changed[0, 5] += 1
    before, after = module(source, target), module(source, changed)
    assert torch.allclose(before[:, :5], after[:, :5], atol=1e-6)
    assert ((before[:, 5:] - after[:, 5:]).abs().amax(-1) > 1e-4).all()
    source_changed = source.clone()
    source_changed[0, -1] = 1 + source[0, -1] % 59
    assert ((before - module(source_changed, target)).abs().amax(-1) > 1e-5).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("chunks", [(1,) * 13, (5, 1, 7), (13,)])
@torch.no_grad()
def test_cached_decoding_equals_a_full_forward(size: dict[str, object], chunks: tuple[int, ...]) -> None:
    module = random_model(**size)
    source, target = pairs()
    memory, cache = module.encode(source), TargetCache()
    parts = [module.decode(part, memory, cache) for part in target.split(chunks, 1)]
    assert cache.length == 13
    assert torch.allclose(torch.cat(parts, 1), module(source, target), atol=1e-5)


@torch.no_grad()
def test_a_cache_goes_on_with_the_rows_that_are_selected() -> None:
    module = random_model()
    source, target = pairs()
    rows = torch.tensor([2, 0, 0, 1])
    cache = TargetCache()
    module.decode(target[:, :6], module.encode(source), cache)
    cache.select(rows)
    ours = module.decode(target[:, 6:7], module.encode(source[rows]), cache)
    whole = module(source[rows], torch.cat((target[rows, :6], target[:, 6:7]), 1))
    assert torch.allclose(ours, whole[:, -1:], atol=1e-5)


def test_dropout_is_of_training_alone() -> None:
    module = random_model(dropout=0.3)
    source, target = pairs()
    assert torch.equal(module(source, target), module(source, target))
    module.train()
    assert not torch.equal(module(source, target), module(source, target))


def test_initial_scales() -> None:
    module = build(Seq2SeqSpec.of_size({"depth": 1, "width": 64}, PAIRS))
    block = module.decoder[0]
    assert block.cross_kv.weight.std().item() == pytest.approx(64**-0.5, rel=0.05)
    for layer in (block.attn_out, block.cross_out, block.down):
        assert not layer.weight.any()
    assert torch.equal(block.cross_norm.weight, torch.ones(64))


def test_longer_texts_than_the_model_reads_are_refused() -> None:
    module = random_model()
    with pytest.raises(UsageError, match=r"reads at most 13 tokens of a text, its start included. Got 14"):
        module(torch.ones(1, 14, dtype=torch.long), torch.ones(1, 3, dtype=torch.long))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"num_heads": 5}, "num_heads 5 must divide width 32"),
        ({"width": 33}, "width 33 must be even"),
        ({"decoder_depth": 0}, "decoder_depth"),
        ({"activation": "tan"}, "activation"),
        ({"dropout": 1.0}, "dropout"),
        ({"vocab_size": 9}, "vocab_size belongs to the data"),
    ],
)
def test_absurd_sizes_are_refused(size: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        dial(**size)


def test_a_spec_of_other_data_is_refused() -> None:
    raw = dial().model_dump() | {"shape": {"inputs": "features", "num_features": 3}}
    with pytest.raises(
        RecipeError, match=r"seq2seq reads pairs of texts, a source and a target. Got features"
    ):
        Seq2SeqSpec.of(raw, "spec", RecipeError)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"architectures": ["T5Model"]}, "must be PegasusForConditionalGeneration or MarianMTModel"),
        ({"scale_embedding": None}, "scale_embedding must be True. Got False"),
        ({"attention_dropout": 0.2}, "attention_dropout must be 0.0"),
        ({"pad_token_id": 5}, "pad_token_id must be 0"),
        ({"decoder_ffn_dim": 5}, "decoder_ffn_dim must be encoder_ffn_dim 128. Got 5"),
        ({"activation_function": "swish"}, "activation"),
        ({"max_position_embeddings": None}, "context|pairs"),
        ({"max_position_embeddings": 20}, "embed_positions.weight must hold sinusoids"),
        ({"encoder_layers": 3}, r"model.encoder.layers.2.* must be \(128,\). Got 'nothing'"),
    ],
)
def test_other_architectures_are_refused(tmp_path: Path, keys: dict[str, object], message: str) -> None:
    module = random_model()
    save(module, module.spec, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | keys
    config = {key: value for key, value in config.items() if value is not None}  # None: the config is silent
    (tmp_path / "config.json").write_text(json.dumps({"forced_eos_token_id": None} | config))
    with pytest.raises(RunFolderError, match=message):
        load_seq2seq(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("final_logits_bias", "final_logits_bias must be 0. Got 2"),
        ("model.encoder.embed_positions.weight", "embed_positions.weight must hold sinusoids"),
    ],
)
def test_what_we_do_not_learn_must_be_what_we_compute(tmp_path: Path, name: str, message: str) -> None:
    module = random_model()
    save(module, module.spec, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors[name] = tensors.get(name, torch.zeros(1, 60)) + 2.0
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(RunFolderError, match=message):
        load(tmp_path)
