from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from exporting import CONTEXT, VOCAB, byte_tokenizer, character_tokenizer, gpt_folder, llama_folder

from kleiber.errors import MissingExtraError, RunFolderError
from kleiber.infer.decoding import Decoder
from kleiber.infer.decoding.llamacpp_stepper import LlamaCppStepper, tokenize
from kleiber.infer.export import open_original
from kleiber.infer.export.gguf import write_gguf

TOKENS = np.random.default_rng(0).integers(0, VOCAB, (3, CONTEXT))


@pytest.fixture(scope="module", params=["gpt", "llama"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Return a file of GGUF, and what the model in it says after each token."""
    pytest.importorskip("llama_cpp")
    pytest.importorskip("gguf")
    folder = tmp_path_factory.mktemp(request.param)
    make, tokenizer = (
        (gpt_folder, byte_tokenizer()) if request.param == "gpt" else (llama_folder, character_tokenizer())
    )
    original = open_original(make(folder / "model"))
    write_gguf(folder / "model.gguf", original.module, original.spec, tokenizer)
    with torch.no_grad():
        said = original.module(torch.from_numpy(TOKENS)).numpy()
    return folder / "model.gguf", said


def test_llamacpp_says_what_the_module_says(pair: tuple[Path, np.ndarray]) -> None:
    path, expected = pair
    decoder = Decoder(LlamaCppStepper(path, 1), CONTEXT)
    assert (decoder.engine, decoder.precision, decoder.notes) == ("llamacpp", "fp32", ())
    said = [decoder.prefill(TOKENS[:, :10]).copy()]
    said += [decoder.decode(TOKENS[:, index]).copy() for index in range(10, CONTEXT)]
    assert np.abs(np.stack(said, 1) - expected[:, 9:]).max() < 5e-5
    alone = decoder.prefill(TOKENS[1:2, :4])
    assert np.abs(alone - expected[1:2, 3]).max() < 5e-5


def test_what_is_forgotten_leaves_no_trace(pair: tuple[Path, np.ndarray]) -> None:
    path, expected = pair
    decoder = Decoder(LlamaCppStepper(path, 1), CONTEXT)
    decoder.prefill(TOKENS[:, :9])
    decoder.extend((TOKENS[:, 9:14] + 1) % VOCAB)
    decoder.rewind(7)
    assert np.abs(decoder.extend(TOKENS[:, 7:12]) - expected[:, 7:12]).max() < 5e-5
    assert np.abs(decoder.decode(TOKENS[:, 12]) - expected[:, 12]).max() < 5e-5


def test_more_tokens_than_a_call_takes(
    pair: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, expected = pair
    monkeypatch.setattr("kleiber.infer.decoding.llamacpp_stepper._MOST_TOKENS", 16)  # five of each of three
    stepper = LlamaCppStepper(path, 1)
    stepper.start(3)
    assert np.abs(stepper.step(TOKENS, 8) - expected[:, -8:]).max() < 5e-5


def test_a_file_that_is_not_whole(pair: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, _ = pair
    with pytest.raises(RunFolderError, match=r"none\.gguf is no file"):
        LlamaCppStepper(tmp_path / "none.gguf", 1)
    (tmp_path / "half.gguf").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(RunFolderError, match=r"half\.gguf is truncated, no GGUF, or of a kind"):
        LlamaCppStepper(tmp_path / "half.gguf", 1)
    with pytest.raises(RunFolderError, match=r"none\.gguf is no file"):
        tokenize(tmp_path / "none.gguf", "a")


def test_without_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(package: str, extra: str, purpose: str) -> None:
        raise MissingExtraError.of(package, extra, purpose)

    monkeypatch.setattr("kleiber.infer.decoding.llamacpp_stepper.require", missing)
    monkeypatch.setattr(
        "kleiber.infer.decoding.llamacpp_stepper._library",
        LlamaCppStepper.__init__.__globals__["_library"].__wrapped__,
    )
    with pytest.raises(
        MissingExtraError, match="The engine llamacpp needs the package 'llama_cpp'"
    ) as caught:
        LlamaCppStepper(tmp_path / "model.gguf", 1)
    assert caught.value.hint == "pip install 'kleiber[llamacpp]'"
