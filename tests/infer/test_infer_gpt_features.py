"""A gpt beyond the Qwen3 layout behind every engine and in every file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exporting import byte_tokenizer, perturbed

from kleiber.errors import RecipeError
from kleiber.infer.decoding import open_decoder
from kleiber.infer.export.gguf.write import write_gguf
from kleiber.infer.export.text_graph import INPUT_IDS, MASK, POSITIONS, past_names, text_graph
from kleiber.infer.lowering import to_bytes
from kleiber.models import build, load, save
from kleiber.models.config_file import read_config
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.cache import KVCache
from kleiber.models.gpt.module import GPT

VOCAB, CONTEXT = 260, 24
ALL: dict[str, Any] = {
    "mlp": "relu2", "softcap": 5.0, "has_value_residual": True, "has_x0_skip": True, "has_embedding_norm": True,
    "value_embeddings": 2,
}  # fmt: skip
PLAIN: dict[str, Any] = {"positions": "learned", "has_qk_norm": False, "mlp": "gelu", "init": "standard"}
TOKENS = np.random.default_rng(0).integers(0, VOCAB, (1, 16))


def gpt_of(**features: Any) -> GPT:
    size = {"depth": 3, "width": 32, "num_heads": 2, "num_kv_heads": 1, "head_dim": 16}
    module = perturbed(build(GPTSpec.from_dial({**size, **features}, vocab_size=VOCAB, context=CONTEXT)))
    assert isinstance(module, GPT)
    return module.eval()


def logits(module: GPT) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        found: np.ndarray[Any, Any] = module(torch.from_numpy(TOKENS)).numpy()
    return found


@pytest.mark.parametrize("features", [ALL, PLAIN, {"has_qk_norm": False}], ids=["all", "plain", "bare"])
@pytest.mark.parametrize("bits", [None, 8])
def test_reading_in_pieces_is_reading_at_once(features: dict[str, Any], bits: int | None) -> None:
    module = gpt_of(**features)
    cache = KVCache(module.spec, 1, cache_bits=bits)
    with torch.inference_mode():
        pieces = [module(torch.from_numpy(TOKENS[:, a:b]), cache) for a, b in ((0, 6), (6, 7), (7, 16))]
    assert np.allclose(torch.cat(pieces, 1).numpy(), logits(module), atol=1e-4 if bits is None else 0.2)


@pytest.mark.parametrize("features", [ALL, PLAIN, {"has_qk_norm": False}], ids=["all", "plain", "bare"])
@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_engines_agree(engine: Any, features: dict[str, Any]) -> None:
    if engine != "torch":
        pytest.importorskip(engine)
    module = gpt_of(**features)
    decoder = open_decoder(engine, module, num_threads=1)
    first = decoder.prefill(TOKENS[:, :9])
    expected = logits(module)
    assert np.allclose(np.asarray(first).reshape(-1), expected[0, 8], atol=2e-3)
    for place in range(9, 12):
        assert np.allclose(
            np.asarray(decoder.decode(TOKENS[:, place])).reshape(-1), expected[0, place], atol=2e-3
        )


@pytest.mark.parametrize("features", [ALL, PLAIN], ids=["all", "plain"])
def test_a_graph_for_others_takes_positions_from_outside(features: dict[str, Any]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    module = gpt_of(**features)
    session = onnxruntime.InferenceSession(to_bytes(text_graph(module)), providers=["CPUExecutionProvider"])
    empty = np.zeros((1, 1, 0, 16), np.float32)
    num_filled = 3
    tokens = np.concatenate((np.zeros((1, num_filled), np.int64), TOKENS), 1)
    mask = np.concatenate((np.zeros((1, num_filled), np.int64), np.ones_like(TOKENS)), 1)
    inputs = {INPUT_IDS: tokens, MASK: mask, POSITIONS: np.maximum(mask.cumsum(1) - 1, 0)}
    found = session.run(["logits"], inputs | dict.fromkeys(past_names(3), empty))[0]
    assert np.allclose(found[:, num_filled:], logits(module), atol=2e-3)


@pytest.mark.parametrize("features", [ALL, PLAIN], ids=["all", "plain"])
def test_saved_and_loaded_it_says_the_same(features: dict[str, Any], tmp_path: Path) -> None:
    module = gpt_of(**features)
    save(module, module.spec, tmp_path)
    loaded, spec = load(tmp_path)
    assert isinstance(loaded, GPT)
    assert spec == module.spec
    assert np.array_equal(logits(loaded.eval()), logits(module))
    # transformers finds no architecture by this name, so that nobody opens the folder as Qwen3.
    assert read_config(tmp_path)["architectures"] == ["KleiberGPT"]
    assert read_config(tmp_path)["model_type"] == "kleiber"


def test_formats_of_others_refuse_it_and_say_why(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    module = gpt_of(softcap=5.0, mlp="relu2")
    with pytest.raises(RecipeError, match=r"beyond the Qwen3 layout.* Got 'mlp=relu2, softcap=5\.0'"):
        write_gguf(tmp_path / "model.gguf", module, module.spec, byte_tokenizer())
    assert not (tmp_path / "model.gguf").exists()
