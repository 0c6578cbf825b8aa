from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from lowering_examples import ENGINES, OPENED, Exported, answers, install_, miss, rounded
from torch import Tensor, nn

from kleiber.errors import MissingExtraError, RecipeError, UsageError
from kleiber.infer.engines import PredictorModule, open_predictor
from kleiber.infer.lowering import to_bytes
from kleiber.models import build
from kleiber.models.encoder import EncoderSpec
from kleiber.models.gpt import GPTSpec
from kleiber.models.hf import HFSpec
from kleiber.models.resnet import ResNetSpec
from kleiber.runs import DataShape

TEXT = DataShape(inputs="tokens", vocab_size=60, context=16)
TEXTS = TEXT.model_copy(update={"num_outputs": 3})
IMAGES = DataShape(inputs="images", channels=3, height=16, width=16, num_outputs=4)
HEADS = {"num_heads": 2, "num_kv_heads": 1, "head_dim": 16}


def llama(folder: Path) -> HFSpec:
    transformers.LlamaConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=64, max_position_embeddings=16, pad_token_id=0, tie_word_embeddings=True,
    ).save_pretrained(folder)  # fmt: skip
    return HFSpec.of_size({"path": str(folder)}, TEXT)


SPECS: dict[str, Any] = {
    "gpt": lambda _: GPTSpec.of_size({"depth": 1, "width": 32, **HEADS}, TEXT),
    "encoder": lambda _: EncoderSpec.of_size({"depth": 1, "width": 32}, TEXTS),
    "resnet": lambda _: ResNetSpec.of_size({"depth": 8, "width": 8}, IMAGES),
    "llama": llama,
}


def samples(name: str, batch: int, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch * length)
    if name == "resnet":
        return torch.randn(batch, 3, 16, 16, generator=generator)
    tokens = torch.randint(1, 60, (batch, length), generator=generator)
    tokens[-1, length // 2 + 1 :] = 0
    return tokens


@pytest.fixture(scope="module", params=SPECS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Exported]:
    module = build(SPECS[request.param](tmp_path_factory.mktemp(request.param)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return request.param, Exported(module, samples(request.param, 1, 6))


def test_engines_answer_as_the_module_does(exported: tuple[str, Exported]) -> None:
    name, traced = exported
    traced.weights(lambda weight: weight, ())
    for engine in ENGINES:
        model = to_bytes(traced.lowered(engine, {}).model)
        predictor = OPENED[engine](model, precision="fp32", notes=(), num_threads=1)
        for batch, length in ((3, 16), (1, 1), (2, 9)):
            sample = samples(name, batch, length)
            found = predictor(sample.numpy())
            assert found.dtype == np.float32
            assert np.abs(found - traced.expected(sample)).max() < 1e-4, engine
            assert np.array_equal(found, predictor(sample.numpy()))


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_answer_near_it_in_few_bits(exported: tuple[str, Exported], engine: str) -> None:
    name, traced = exported
    if name == "resnet":
        pytest.skip("convolutions have a suite of their own")
    names = tuple(key for key, one in traced.module.named_parameters() if one.ndim == 2)
    forms = traced.weights(rounded, names)
    lowered = traced.lowered(engine, forms)
    assert lowered.precision.startswith("int8 weights, int8 embeddings")
    # Tied or not, no table is left in fp32 but what is sliced.
    left = {key for key, one in lowered.model.graph.initializers.items() if key in names}
    assert left <= {"positions.weight", "token_types.weight"}
    sample = samples(name, 3, 16)
    assert 1e-6 < miss(answers(lowered, engine, sample), traced.expected(sample)) < 0.1


def test_an_engine_is_opened_with_what_is_stored() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(32, 16))
    forms = {"0.weight": rounded(module[0].weight, 4)}
    install_(module, forms)
    sample = torch.randn(6, 32)
    expected = module(sample).detach().numpy()
    for engine in ENGINES:
        predictor = open_predictor(engine, module, (sample[:1],), forms=forms, num_threads=1)
        assert (predictor.engine, predictor.precision) == (engine, "int4 weights")
        assert miss(predictor(sample.numpy()), expected) < 0.05


class Doubled(nn.Module):
    """Knows whether it is in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else 2 * x


def test_torch_computes_in_evaluation_mode_and_leaves_the_module_as_it_was() -> None:
    module = Doubled()
    predictor = open_predictor("torch", module, (torch.ones(1, 2),), num_threads=torch.get_num_threads() + 1)
    before = torch.get_num_threads()
    assert predictor(np.ones((3, 2), np.float32)).tolist() == [[2.0, 2.0]] * 3
    assert module.training
    assert torch.get_num_threads() == before
    assert (predictor.engine, predictor.precision) == ("torch", "fp32")


def test_a_predictor_stands_where_a_module_is_expected() -> None:
    predictor = open_predictor("torch", Doubled(), (torch.ones(1, 2),))
    module = PredictorModule(predictor)
    assert torch.equal(module.eval()(torch.ones(3, 2)), torch.full((3, 2), 2.0))


class Decides(nn.Module):
    """Its forward pass depends on its data."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Pairs(nn.Module):
    """Returns two tensors."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x * 2


def test_what_no_engine_can_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = (torch.ones(2, 3),)
    with pytest.raises(UsageError, match=r"unknown engine 'openvin'\. Did you mean 'openvino'\?"):
        open_predictor("openvin", Doubled(), ones)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="Decides cannot be exported for other engines: "):
        open_predictor("onnxruntime", Decides(), ones)
    with pytest.raises(RecipeError, match="openvino answers with one tensor; Pairs returns 2"):
        open_predictor("openvino", Pairs(), ones)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="needs the package 'onnxscript', which is not installed"):
        open_predictor("onnxruntime", Doubled(), ones)


def test_a_model_larger_than_a_file_can_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # The package's function of that name hides the module from a dotted path.
    monkeypatch.setattr(sys.modules["kleiber.infer.lowering.export"], "_MAX_BYTES", 10)
    with pytest.raises(RecipeError, match=r"must be smaller than 2 GiB\. Got 3\d"):
        open_predictor("onnxruntime", nn.Linear(3, 2, bias=True), (torch.ones(2, 3),))


def test_what_a_predictor_is_given_is_whole_in_memory() -> None:
    seen: list[np.ndarray] = []

    class Noting:
        engine, precision = "noting", "fp32"

        def __call__(self, *inputs: np.ndarray) -> np.ndarray:
            seen.extend(inputs)
            return inputs[0]

    tokens_BT = torch.arange(12).view(3, 4)[:, :-1]
    assert not tokens_BT.is_contiguous()
    answer = PredictorModule(Noting())(tokens_BT)
    assert seen[0].flags.c_contiguous
    assert torch.equal(answer, tokens_BT)
