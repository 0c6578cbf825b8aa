from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.errors import DataError, UsageError
from kleiber.infer.generation.translation import Translator, is_translator, open_translator
from kleiber.models import build, save
from kleiber.models.family import FamilyModule
from kleiber.models.gpt import GPTSpec
from kleiber.models.hf import HFSpec
from kleiber.models.seq2seq import Seq2SeqSpec
from kleiber.models.seq2seq.beam import generate
from kleiber.runs import DataShape

VOCAB, CONTEXT = 260, 12
SHAPE = DataShape(inputs="pairs", vocab_size=VOCAB, context=CONTEXT)
TEXTS = ["two dogs", "a", "the cat sat"]
T5 = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 1,
    "num_heads": 2,
    "vocab_size": VOCAB,
    "decoder_start_token_id": 0,
}


def tokenizer() -> TextTokenizer:
    return TextTokenizer(
        train_tokenizer(["two dogs and the cat sat on the mat " * 9], VOCAB, source="text:test")
    )


def perturbed(module: FamilyModule) -> FamilyModule:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module.eval()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours")
    module = perturbed(build(Seq2SeqSpec.of_size({"depth": 1, "width": 16}, SHAPE)))
    save(module, module.spec, folder)  # type: ignore[arg-type]
    tokenizer().write(folder, context=CONTEXT)
    return folder


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, folder = tmp_path_factory.mktemp("t5"), tmp_path_factory.mktemp("theirs")
    (source / "config.json").write_text(json.dumps(T5))
    module = perturbed(build(HFSpec.of_size({"path": str(source)}, SHAPE)))
    save(module, module.spec, folder)  # type: ignore[arg-type]
    tokenizer().write(folder, context=CONTEXT)
    return folder


@pytest.mark.parametrize("num_beams", [1, 3])
def test_what_is_written_is_the_search_of_the_model(ours: Path, num_beams: int) -> None:
    translator = open_translator(ours)
    backend = translator.tokenizer.backend
    expected = []
    for text in TEXTS:
        source_1S = torch.tensor([backend.encode(text).ids])
        targets = generate(translator.module, source_1S, beam_size=num_beams)  # type: ignore[arg-type]
        expected.append(backend.decode(targets[0].tolist()).strip())
    assert translator.translate(TEXTS, num_beams=num_beams) == expected
    assert len(set(expected)) > 1


def test_beams_find_other_texts(ours: Path) -> None:
    translator = open_translator(ours)
    assert translator.translate(TEXTS, num_beams=4) != translator.translate(TEXTS)


def test_many_texts_take_turns(ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = open_translator(ours)
    together = translator.translate(TEXTS)
    monkeypatch.setattr("kleiber.infer.generation.translation._NUM_AT_ONCE", 2)
    assert translator.translate(TEXTS) == together


def test_a_model_of_transformers_writes_by_its_own_search(theirs: Path) -> None:
    translator = open_translator(theirs)
    together = translator.translate(TEXTS, num_beams=2)
    assert [translator.translate([text], num_beams=2)[0] for text in TEXTS] == together
    assert all(together)


@pytest.mark.parametrize(
    ("texts", "num_beams", "message"),
    [
        (["a", ""], 1, "the prompt is empty: there is nothing to write a text from"),
        (["z" * 13], 1, "the prompt is 13 tokens long; the model reads at most 12"),
        (["a"], 0, r"beams must be 1 or more\. Got 0"),
    ],
)
def test_what_cannot_be_translated_is_refused(
    ours: Path, texts: list[str], num_beams: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        open_translator(ours).translate(texts, num_beams=num_beams)


def test_which_models_write_texts_from_texts(ours: Path, theirs: Path, tmp_path: Path) -> None:
    assert is_translator(ours)
    assert is_translator(theirs)
    gpt = build(GPTSpec.from_dial({"depth": 1, "width": 16}, vocab_size=VOCAB, context=8))
    save(gpt, gpt.spec, tmp_path)  # type: ignore[arg-type]
    assert not is_translator(tmp_path)
    with pytest.raises(UsageError, match="does not write a text from a text"):
        open_translator(tmp_path)


def test_a_model_without_a_tokenizer_is_refused(ours: Path, tmp_path: Path) -> None:
    for file in ours.iterdir():
        if file.name != "tokenizer.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DataError, match=r"holds no tokenizer\.json"):
        open_translator(tmp_path)
    assert isinstance(open_translator(ours), Translator)
