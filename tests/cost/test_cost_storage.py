from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kleiber.cost import SERVED_FORMATS, checkpoint_bytes, optimizer_cost, send_time_s, served_bytes
from kleiber.cost.storage import RNG_STATE_BYTES
from kleiber.errors import RecipeError
from kleiber.models import build, save
from kleiber.models.gpt.spec import GPTSpec
from kleiber.runs import Recipe
from kleiber.train.checkpoint import write_checkpoint
from kleiber.train.state import TrainState


def tensor_bytes(path):
    """Bytes of a safetensors file without its header: 8 bytes that hold the header's length, then the header."""
    with path.open("rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
    return path.stat().st_size - 8 - header


def recipe_and_spec(optimizer, *, is_tied=True):
    recipe = Recipe().with_values([f"train.optimizer.name={optimizer}", "data.vocab_size=512"])
    size = {"depth": 2, "width": 64, "is_tied": is_tied}
    return recipe, GPTSpec.from_dial(size, vocab_size=512, context=32)


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_saved_model_holds_exactly_these_bytes(tmp_path, is_tied):
    _, spec = recipe_and_spec("adamw", is_tied=is_tied)
    save(build(spec), spec, tmp_path)
    predicted = served_bytes(spec.count().total, "safetensors-fp32")
    assert tensor_bytes(tmp_path / "model.safetensors") == predicted
    assert (tmp_path / "model.safetensors").stat().st_size == pytest.approx(predicted, rel=0.01)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_checkpoint_holds_these_bytes(tmp_path, optimizer):
    recipe, spec = recipe_and_spec(optimizer)
    state = TrainState.start(recipe, spec)
    checkpoint = state.to_checkpoint(recipe, "c")
    path = write_checkpoint(tmp_path, checkpoint) / "tensors.safetensors"
    cost = optimizer_cost(optimizer, spec.count().total, spec.hidden_shapes())
    predicted = checkpoint_bytes(spec.count().total, cost.state_bytes)
    counters = 4 * sum(name.endswith(".step") for name in checkpoint.tensors)
    assert tensor_bytes(path) == predicted + counters
    assert path.stat().st_size == pytest.approx(predicted, rel=0.01)


def test_the_generator_state_is_as_large_as_torch_writes_it():
    assert torch.get_rng_state().nbytes == RNG_STATE_BYTES


def test_blocks_by_hand():
    # A block of 32: a 16-bit scale and 32 weights of 8 or 4 bits. A block of 256: 144 bytes in Q4_K, 210 in Q6_K.
    assert served_bytes(32 * 10, "gguf-q8_0") == 34 * 10
    assert served_bytes(32 * 10, "gguf-q4_0") == 18 * 10
    assert served_bytes(256 * 8, "gguf-q4_0", num_output=256 * 8) == 210 * 8
    assert served_bytes(256 * 8, "gguf-q4_k_m", num_embedding=256 * 8) == 144 * 8
    assert served_bytes(256 * 8, "gguf-q4_k_m", num_output=256 * 8) == 210 * 8
    assert served_bytes(100, "gguf-q4_k_m", num_vectors=100) == 400
    assert served_bytes(100, "int8", num_vectors=10) == 90 + 20


LLAMA_3_8B = {
    "num_params": 8_030_261_248,
    "num_embedding": 128_256 * 4096,
    "num_output": 128_256 * 4096,
    "num_vectors": 65 * 4096,
}
LLAMA_2_7B = {
    "num_params": 6_738_415_616,
    "num_embedding": 32_000 * 4096,
    "num_output": 32_000 * 4096,
    "num_vectors": 65 * 4096,
}


@pytest.mark.parametrize(
    ("model", "format_name", "published_bits"),
    [
        # llama.cpp, tools/quantize/README.md: bits a weight of whole files.
        (LLAMA_3_8B, "gguf-q8_0", 8.5008),
        (LLAMA_3_8B, "gguf-q4_k_m", 4.8944),
        (LLAMA_2_7B, "gguf-q4_k_m", 4.84),
    ],
)
def test_published_files_of_llama(model, format_name, published_bits):
    bits = 8 * served_bytes(format_name=format_name, **model) / model["num_params"]
    assert bits == pytest.approx(published_bits, rel=0.003)


def test_a_format_is_smaller_the_fewer_bits_it_has():
    sizes = [served_bytes(format_name=name, **LLAMA_3_8B) for name in SERVED_FORMATS]
    fp32, bf16, int8, q8_0, q4_0, q4_k_m = sizes
    assert fp32 == 2 * bf16 == 4 * LLAMA_3_8B["num_params"]
    assert bf16 > q8_0 > int8 > q4_k_m > q4_0


@given(st.integers(0, 10**12), st.sampled_from(sorted(SERVED_FORMATS)))
def test_what_is_kept_finer_only_adds(num_params, format_name):
    plain = served_bytes(num_params, format_name)
    for part in ("num_output", "num_vectors"):
        assert served_bytes(num_params, format_name, **{part: num_params}) >= plain


def test_an_unknown_format_is_refused_with_the_nearest():
    with pytest.raises(RecipeError, match=r"unknown format 'gguf-q4_k'\. Did you mean 'gguf-q4_k_m'\?"):
        served_bytes(10, "gguf-q4_k")


@pytest.mark.parametrize(
    "parts", [{"num_output": 11}, {"num_embedding": -1}, {"num_embedding": 6, "num_vectors": 5}]
)
def test_parts_that_exceed_the_whole_are_refused(parts):
    with pytest.raises(RecipeError, match=r"together at most the 10 parameters\. Got \("):
        served_bytes(10, "int8", **parts)


def test_sending_by_hand():
    # 16 GB are 128 Gbit.
    assert [send_time_s(16e9, rate) for rate in (1, 10, 100)] == [128.0, 12.8, 1.28]
    assert send_time_s(0, 1) == 0
    for rate in (0, -1, float("nan")):
        with pytest.raises(RecipeError, match=r"a link's rate must be positive \[Gbit/s\]\. Got"):
            send_time_s(1, rate)
