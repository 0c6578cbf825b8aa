"""What generation asks of a decoder, of the engines themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scripted_models import words_tokenizer

from kleiber.infer import Request, Sampling, TextGenerator, TextModel
from kleiber.infer.decoding import Decoder, open_decoder
from kleiber.infer.generation.reader import Reader
from kleiber.models import build
from kleiber.models.gpt import GPTSpec

VOCAB, CONTEXT = 20, 64


def decoder(engine: str) -> Decoder:
    size = {"depth": 1, "width": 32, "num_kv_heads": 1}
    module = build(GPTSpec.from_dial(size, vocab_size=VOCAB, context=CONTEXT))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return open_decoder(engine, module.eval(), num_threads=1)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["torch", "onnxruntime", "openvino"])
def model(request: pytest.FixtureRequest) -> TextModel:
    if request.param != "torch":
        pytest.importorskip(request.param)
    return TextModel(
        decoder=decoder(request.param),
        tokenizer=words_tokenizer(VOCAB),
        end_ids=frozenset(),
        start_ids=(),
        folder=Path("here"),
    )


def test_a_beginning_that_is_held_gives_the_same_logits(model: TextModel) -> None:
    tokens = np.random.default_rng(0).integers(0, VOCAB, (2, 30))
    fresh = model.decoder.prefill(tokens).copy()
    reader = Reader(model.decoder)
    reader.read(np.concatenate((tokens[:, :20], (tokens[:, 20:25] + 1) % VOCAB), 1))
    reader.num_read = 0
    assert np.allclose(reader.read(tokens), fresh, atol=2e-4)
    assert reader.num_read == 10


# A draft that is drawn takes random numbers of its own: its texts are spread alike, and are others.
@pytest.mark.parametrize(("draft", "temperature"), [("lookup", 0.0), ("lookup", 0.7), ("model", 0.0)])
def test_drafts_change_no_text(
    model: TextModel, draft: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A draft as slow as the model would never be tried.
    monkeypatch.setattr("kleiber.infer.generation.speculation.draft_model._times_s", lambda _: (0.0, 0.0))
    request = Request(max_tokens=100, sampling=Sampling(temperature=temperature), seed=1)
    prompt = [1, 2, 3, 4, 1, 2, 3]
    alone = [piece.token for piece in TextGenerator(model).generate([prompt], request)]
    helper = TextModel(**{**vars(model), "decoder": decoder("torch")}) if draft == "model" else "lookup"
    generator = TextGenerator(model, helper)  # type: ignore[arg-type]
    assert [piece.token for piece in generator.generate([prompt], request)] == alone
    done = generator.speculation
    assert done is not None
    assert done.num_kept > 0 or temperature
