from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kleiber.errors import UsageError
from kleiber.infer.decoding import Decoder, WithCache, open_decoder, step_model
from kleiber.infer.decoding.cached_forward import cached_forward
from kleiber.infer.measure import Opening, staged_decode
from kleiber.models import build
from kleiber.models.encoder import EncoderSpec
from kleiber.models.family import FamilyModule
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.cache import KVCache
from kleiber.models.hf import HFSpec
from kleiber.models.stored import Activations, Quantized
from kleiber.runs import DataShape

CONTEXT, VOCAB = 32, 300
TEXT = DataShape(inputs="tokens", vocab_size=VOCAB, context=CONTEXT)
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "max_position_embeddings": CONTEXT,
}


def perturbed(module: FamilyModule) -> FamilyModule:
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
            parameter.add_(noise * 0.15)
    return module.eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def gpt() -> FamilyModule:
    size = {"depth": 2, "width": 32, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16}
    return perturbed(build(GPTSpec.from_dial(size, vocab_size=VOCAB, context=CONTEXT), seed=0))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> FamilyModule:
    folder = tmp_path_factory.mktemp("llama")
    (folder / "config.json").write_text(json.dumps(LLAMA))
    return perturbed(build(HFSpec.of_size({"path": str(folder)}, TEXT), seed=0))


TOKENS = np.random.default_rng(0).integers(0, VOCAB, (3, CONTEXT))


def full_logits(module: FamilyModule) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(TOKENS)).numpy()


def largest_error(decoder: Decoder, expected: np.ndarray, batch: int = 3, num_prefilled: int = 10) -> float:
    said = [decoder.prefill(TOKENS[:batch, :num_prefilled])]
    said += [decoder.decode(TOKENS[:batch, index]) for index in range(num_prefilled, CONTEXT)]
    return float(np.abs(np.stack(said, 1) - expected[:batch, num_prefilled - 1 :]).max())


def check(decoder: Decoder, module: FamilyModule, tolerance: float = 2e-5) -> None:
    """Every step says what a whole forward pass says; a second sequence, of another number, starts afresh."""
    expected = full_logits(module)
    assert largest_error(decoder, expected) < tolerance
    assert decoder.length == CONTEXT
    assert largest_error(decoder, expected, batch=1, num_prefilled=1) < tolerance
    check_rewinding(decoder, expected, tolerance)


def check_rewinding(decoder: Decoder, expected: np.ndarray, tolerance: float) -> None:
    """Several tokens at once say what they say one by one; what was forgotten leaves no trace."""
    other = (TOKENS + 1) % VOCAB
    decoder.prefill(TOKENS[:, :9])
    decoder.extend(other[:, 9:14])
    decoder.rewind(7)
    assert decoder.length == 7
    said = decoder.extend(TOKENS[:, 7:12])
    assert said.shape == (3, 5, VOCAB)
    assert np.abs(said - expected[:, 7:12]).max() < tolerance
    assert np.abs(decoder.decode(TOKENS[:, 12]) - expected[:, 12]).max() < tolerance


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_torch_decodes_what_the_module_says(name: str, request: pytest.FixtureRequest) -> None:
    module = request.getfixturevalue(name)
    decoder = open_decoder("torch", module, num_threads=1)
    assert (decoder.engine, decoder.precision, decoder.context) == ("torch", "fp32", CONTEXT)
    check(decoder, module)


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_an_int8_cache_is_near_and_not_the_same(name: str, request: pytest.FixtureRequest) -> None:
    module = request.getfixturevalue(name)
    decoder = open_decoder("torch", module, activations=Activations(cache_bits=8), num_threads=1)
    assert decoder.precision == "fp32, int8 cache"
    assert 1e-3 < largest_error(decoder, full_logits(module)) < 0.15  # the logits' standard deviation is 1


@pytest.mark.parametrize("cache_bits", [None, 8])
@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_whole_sequences_over_a_cache_are_what_is_decoded(
    name: str, cache_bits: int | None, request: pytest.FixtureRequest
) -> None:
    module = request.getfixturevalue(name)
    with torch.no_grad():
        said = WithCache(module, cache_bits)(torch.from_numpy(TOKENS)).numpy()
    activations = Activations(cache_bits=cache_bits)
    assert largest_error(open_decoder("torch", module, activations=activations, num_threads=1), said) < 2e-5
    is_same = bool(np.abs(said - full_logits(module)).max() < 2e-5)
    assert is_same is (cache_bits is None)


def test_a_cache_of_other_bits_is_refused_before_anything_is_read(gpt: FamilyModule) -> None:
    with pytest.raises(UsageError, match=r"a cache keeps keys and values in 8 bits.*Got 4"):
        WithCache(gpt, 4)


def test_a_model_of_transformers_is_as_it_was_after_a_step(llama: FamilyModule) -> None:
    before = full_logits(llama)
    with torch.no_grad():
        cached_forward(llama, torch.from_numpy(TOKENS[:, :3]), KVCache(gpt_like(), 3))
    assert np.array_equal(full_logits(llama), before)


def gpt_like() -> GPTSpec:
    """Sizes of a cache for the llama."""
    size = {"depth": 1, "width": 32, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
    return GPTSpec.from_dial(size, vocab_size=VOCAB, context=CONTEXT)


def test_onnxruntime_decodes_in_its_buffers(gpt: FamilyModule, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    staged = staged_decode(
        "onnxruntime", tmp_path, gpt, gpt.spec, TOKENS, num_threads=1, activations=Activations(cache_bits=8)
    )
    work = Opening.model_validate_json(staged.model_dump_json()).open()
    assert (work.engine, work.precision, staged.packages) == ("onnxruntime", "fp32", ("onnxruntime",))
    assert work.notes == (
        "onnxruntime keeps keys and values as computed: on a CPU it has no cache in 8 bits.",
    )
    check(work._decoder, gpt)


def test_onnxruntime_decodes_a_llama_in_int8(llama: FamilyModule) -> None:
    pytest.importorskip("onnxruntime")
    forms = int8_(llama)
    decoder = open_decoder("onnxruntime", llama, forms=forms, num_threads=1)
    assert decoder.precision == "int8 weights"
    expected = full_logits(llama)
    said = [decoder.prefill(TOKENS[:, :10]), *(decoder.decode(TOKENS[:, index]) for index in range(10, 16))]
    # Inputs are rounded too where the weights are in 8 bits.
    assert (np.stack(said, 1) - expected[:, 9:16]).std() < 0.05 * expected.std()


def int8_(module: FamilyModule) -> Mapping[str, Quantized]:
    """Round the projections of a module to int8, a scale a row."""
    forms = {}
    for name, parameter in module.named_parameters():
        if "proj" in name:
            scale = parameter.abs().amax(1, keepdim=True) / 127
            codes = (parameter / scale).round() + 128
            forms[name] = Quantized(
                codes.to(torch.uint8), scale, torch.full_like(scale, 128).to(torch.uint8), 8
            )
            parameter.data.copy_(forms[name].dense())
    return forms


def test_openvino_keeps_its_state(gpt: FamilyModule, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    step = step_model("openvino", gpt)
    decoder = step.open(1)
    assert (decoder.engine, decoder.precision, decoder.notes) == ("openvino", "fp32", ())
    check(decoder, gpt)
    in_int8 = replace(step, cache_bits=8)
    decoder = in_int8.open(1)
    assert (decoder.precision, decoder.notes) == ("fp32, int8 cache", ())
    assert 1e-3 < largest_error(decoder, full_logits(gpt)) < 0.15
    monkeypatch.setattr("kleiber.infer.decoding.openvino_stepper._attends_over_states", lambda _: False)
    decoder = in_int8.open(1)
    assert decoder.precision == "fp32"
    assert decoder.notes == (
        "openvino keeps keys and values as computed: it does not see attention over a cache in this model.",
    )


def test_openvino_decodes_a_model_of_transformers(llama: FamilyModule) -> None:
    pytest.importorskip("openvino")
    decoder = open_decoder("openvino", llama, num_threads=1)
    assert (decoder.engine, decoder.precision, decoder.notes) == ("openvino", "fp32", ())
    expected = full_logits(llama)
    said = [decoder.prefill(TOKENS[:, :10]), *(decoder.decode(TOKENS[:, index]) for index in range(10, 16))]
    assert np.abs(np.stack(said, 1) - expected[:, 9:16]).max() < 2e-5


def test_what_a_decoder_refuses(gpt: FamilyModule) -> None:
    decoder = open_decoder("torch", gpt, num_threads=1)
    with pytest.raises(UsageError, match="prefill comes before decode"):
        decoder.decode(TOKENS[:, 0])
    with pytest.raises(UsageError, match=r"prefill takes the tokens of each sequence.*Got \(3, 0\)"):
        decoder.prefill(TOKENS[:, :0])
    with pytest.raises(UsageError, match=r"reads at most 32 tokens. Got 64"):
        decoder.prefill(np.concatenate((TOKENS, TOKENS), 1))
    decoder.prefill(TOKENS)
    with pytest.raises(UsageError, match=r"reads at most 32 tokens. Got 33"):
        decoder.decode(TOKENS[:, 0])
    with pytest.raises(UsageError, match=r"a token of each of the 3 sequences. Got \(2,\)"):
        decoder.decode(TOKENS[:2, 0])


def test_what_cannot_be_opened(gpt: FamilyModule) -> None:
    with pytest.raises(UsageError, match=r"unknown engine 'onnx'. Did you mean 'onnxruntime'"):
        open_decoder("onnx", gpt)
    with pytest.raises(UsageError, match=r"in 8 bits, or as they are computed. Got 4"):
        open_decoder("torch", gpt, activations=Activations(cache_bits=4))
    shape = DataShape(inputs="tokens", vocab_size=VOCAB, context=CONTEXT, num_outputs=2)
    encoder = build(EncoderSpec.of_size({"depth": 1, "width": 16}, shape), seed=0)
    with pytest.raises(UsageError, match="Encoder does not write text token by token"):
        open_decoder("torch", encoder)
