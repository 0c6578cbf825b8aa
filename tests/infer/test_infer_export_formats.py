from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from exporting import CONTEXT, VOCAB, gpt_folder, llama_folder, original_of, perturbed

from kleiber.errors import GateError, MissingExtraError, RecipeError, UsageError
from kleiber.infer.export import Original, export_model, open_original
from kleiber.infer.export.run import FORMATS
from kleiber.models import build, load
from kleiber.models.convnet import ConvNetSpec
from kleiber.models.dual import DualSpec
from kleiber.models.encoder import EncoderSpec
from kleiber.models.gpt import GPTSpec
from kleiber.models.mlp import MLPSpec
from kleiber.models.seq2seq import Seq2SeqSpec
from kleiber.models.stored import Activations, Masked
from kleiber.models.vit import ViTSpec
from kleiber.runs import DataShape
from kleiber.runs.export_receipt import ExportReceipt
from kleiber.runs.record import InputScale

FLOATS = np.random.default_rng(0).standard_normal
TOKENS = np.random.default_rng(0).integers(1, VOCAB, (4, CONTEXT))


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return open_original(gpt_folder(tmp_path_factory.mktemp("gpt") / "model"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return open_original(llama_folder(tmp_path_factory.mktemp("llama") / "model"))


def check_text(receipt: ExportReceipt, folder: Path) -> None:
    """The receipt is on disk, its files are what it says, and both models said the same."""
    assert ExportReceipt.read(folder / "receipt.json") == receipt
    for one in receipt.files:
        content = (folder / one.name).read_bytes()
        assert (one.num_bytes, one.sha256) == (len(content), sha256(content).hexdigest())
    assert {one.name for one in receipt.files} == {path.name for path in folder.iterdir()} - {"receipt.json"}
    found = receipt.agreement
    assert found.is_met
    assert found.largest_difference < 5e-5
    assert found.num_same_answer == found.num_answers == 4 * CONTEXT
    assert found.inputs == "modules of this Python's own library"
    assert found.greedy is not None
    assert found.greedy.num_same == found.greedy.num_tokens == 4 * (CONTEXT // 2 + 1)


def logits_of(original: Original, tokens_BT: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return original.module(torch.from_numpy(tokens_BT)).numpy()


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_transformers_loads_what_hf_writes(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    original = request.getfixturevalue(name)
    receipt = export_model(original, "hf", tmp_path / "out", num_threads=1)
    check_text(receipt, tmp_path / "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        theirs = model(torch.from_numpy(TOKENS)).logits.numpy()
    assert np.abs(theirs - logits_of(original, TOKENS)).max() < 5e-5
    assert "kleiber_hf" not in json.loads((tmp_path / "out" / "config.json").read_text())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ours = original.tokenizer.backend.encode("the low tower", add_special_tokens=False).ids
    assert tokenizer("the low tower", add_special_tokens=False)["input_ids"] == ours
    assert model.generation_config.eos_token_id == original.tokenizer.end_id


def test_onnx_is_two_graphs_by_names_that_others_know(gpt: Original, tmp_path: Path) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    receipt = export_model(gpt, "onnx", tmp_path / "out", num_threads=1)
    check_text(receipt, tmp_path / "out")
    forward, decode = receipt.files[:2]
    assert [(one.name, one.type, one.shape) for one in (*forward.inputs, *forward.outputs)] == [
        ("input_ids", "int64", ("batch", "tokens")),
        ("logits", "float32", ("batch", "tokens", VOCAB)),
    ]
    assert [(one.name, one.shape) for one in decode.inputs[:4]] == [
        ("input_ids", ("batch", "tokens")),
        ("attention_mask", ("batch", "past + tokens")),
        ("position_ids", ("batch", "tokens")),
        ("past_key_values.0.key", ("batch", 2, "past", 16)),
    ]
    assert [one.name for one in decode.outputs] == [
        "logits",
        "present.0.key",
        "present.0.value",
    ]
    for one in (forward, decode):
        onnx.checker.check_model(str(tmp_path / "out" / one.name))
    # Texts of two lengths side by side: the shorter is filled up on the left, and says what it says alone.
    session = runtime.InferenceSession(tmp_path / "out" / decode.name, providers=["CPUExecutionProvider"])
    padded = np.concatenate([np.zeros((1, 3), np.int64), TOKENS[1:2, :7]], 1)
    mask = np.ones((2, 10), np.int64)
    mask[1, :3] = 0
    said = session.run(
        ["logits"],
        {
            "input_ids": np.concatenate([TOKENS[:1, :10], padded]),
            "attention_mask": mask,
            "position_ids": np.stack([np.arange(10), np.maximum(np.arange(10) - 3, 0)]),
            **{one.name: np.zeros((2, 2, 0, 16), np.float32) for one in decode.inputs[3:]},
        },
    )[0]
    assert np.abs(said[0] - logits_of(gpt, TOKENS[:1, :10])[0]).max() < 5e-5
    assert np.abs(said[1, 3:] - logits_of(gpt, TOKENS[1:2, :7])[0]).max() < 5e-5


def test_openvino_keeps_what_it_read_and_takes_what_its_pipelines_give(
    llama: Original, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    receipt = export_model(llama, "openvino", tmp_path / "out", num_threads=1)
    check_text(receipt, tmp_path / "out")
    graph = receipt.files[0]
    assert [one.name for one in graph.inputs] == ["input_ids", "attention_mask", "position_ids", "beam_idx"]
    assert [one.name for one in graph.outputs] == ["logits"]
    assert receipt.checked_with.startswith("openvino ")


def test_without_accelerate_nobody_reads_gguf_back(
    gpt: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    real = importlib.util.find_spec
    absent = {"accelerate", "llama_cpp"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else real(name))
    with pytest.raises(
        MissingExtraError, match=r"Reading GGUF back without llama-cpp-python needs the package 'accelerate'"
    ):
        export_model(gpt, "gguf", tmp_path / "out", num_threads=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "precision", "stored"),
    [
        ("gpt", None, "F32"),
        ("gpt", "int8", "Q8_0"),
        ("llama", "int4", "Q8_0, Q4_0"),
        ("llama", "f16", "F16"),
    ],
)
def test_gguf_reads_back_the_same_model(
    name: str, precision: str | None, stored: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kind = {"gpt": "qwen3", "llama": "llama"}[name]
    gguf = pytest.importorskip("gguf")
    original = request.getfixturevalue(name)
    before = [parameter.clone() for parameter in original.module.parameters()]
    receipt = export_model(original, "gguf", tmp_path / "out", precision=precision, num_threads=1)
    found = receipt.agreement
    assert receipt.precision == stored
    assert receipt.files[0].holds == f"weights, sizes and tokenizer, of the kind {kind}"
    assert found.reference == {
        None: "the model in torch in fp32",
        "f16": "the model in torch in fp32",
    }.get(precision, f"the weights rounded to {precision}, in torch in fp32")
    assert (found.rounding_difference is not None) == (precision in ("int8", "int4"))
    if receipt.checked_with.startswith("transformers") and precision != "f16":
        assert found.largest_difference < 5e-5
    assert all(torch.equal(*pair) for pair in zip(before, original.module.parameters(), strict=True))
    reader = gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    assert reader.get_field("general.architecture").contents() == kind
    assert reader.get_field(f"{kind}.context_length").contents() == {"qwen3": CONTEXT, "llama": 32}[kind]
    assert reader.get_field("tokenizer.ggml.model").contents() == {"qwen3": "gpt2", "llama": "llama"}[kind]


def test_the_same_model_gives_the_same_bytes_of_gguf(gpt: Original, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    for place in ("one", "two"):
        export_model(gpt, "gguf", tmp_path / place, num_threads=1)
    assert (tmp_path / "one" / "model.gguf").read_bytes() == (tmp_path / "two" / "model.gguf").read_bytes()


def image_model(folder: Path) -> Original:
    shape = DataShape(inputs="images", channels=1, height=10, width=10, num_outputs=3)
    spec = ViTSpec.of_size({"depth": 1, "width": 32, "num_heads": 2, "patch_size": 4}, shape)
    images = FLOATS((5, 1, 10, 10)).astype(np.float32)
    scale = {"images": InputScale(offset=(0.5,), scale=(0.25,))}
    return original_of(spec, folder, {"images": images}, classes=("a", "b", "c"), input_scales=scale)


def text_classifier(folder: Path) -> Original:
    shape = DataShape(inputs="tokens", vocab_size=40, context=12, num_outputs=2)
    spec = EncoderSpec.of_size({"depth": 1, "width": 32, "num_heads": 2}, shape)
    tokens = np.random.default_rng(1).integers(1, 40, (5, 12))
    tokens[2, 6:] = 0
    return original_of(spec, folder, {"tokens": tokens}, classes=("no", "yes"))


def translator(folder: Path) -> Original:
    shape = DataShape(inputs="pairs", vocab_size=40, context=8)
    spec = Seq2SeqSpec.of_size({"depth": 1, "width": 32, "num_heads": 2}, shape)
    source, target = np.random.default_rng(1).integers(1, 40, (2, 5, 8))
    source[1, 5:], target[:, 0] = 0, 0
    return original_of(spec, folder, {"source": source, "target": target})


def towers(folder: Path) -> Original:
    shape = DataShape(inputs="captions", channels=1, height=8, width=8, vocab_size=40, context=6)
    spec = DualSpec.of_size({"depth": 1, "width": 32, "num_heads": 2, "patch_size": 4}, shape)
    images = FLOATS((5, 1, 8, 8)).astype(np.float32)
    tokens = np.random.default_rng(1).integers(1, 40, (5, 6))
    tokens[3, 4:] = 0
    return original_of(spec, folder, {"images": images, "tokens": tokens})


def columns(folder: Path) -> Original:
    shape = DataShape(inputs="features", num_features=7, num_outputs=1)
    spec = MLPSpec.of_size({"depth": 1, "width": 16}, shape)
    return original_of(spec, folder, {"features": FLOATS((5, 7)).astype(np.float32)})


def convolutions(folder: Path) -> Original:
    shape = DataShape(inputs="images", channels=1, height=12, width=12, num_outputs=3)
    spec = ConvNetSpec.of_size({"depth": 2, "width": 8}, shape)
    images = FLOATS((5, 1, 12, 12)).astype(np.float32)
    return original_of(spec, folder, {"images": images}, classes=("a", "b", "c"))


@pytest.mark.parametrize("make", [image_model, text_classifier, translator, towers])
def test_families_that_transformers_has_are_read_back_by_it(make, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    original = make(tmp_path / "model")
    receipt = export_model(original, "hf", tmp_path / "out", num_threads=1)
    assert receipt.agreement.largest_difference < 5e-5
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    if original.classes:
        assert config["id2label"] == {str(n): name for n, name in enumerate(original.classes)}


@pytest.mark.parametrize(
    ("make", "to"),
    [
        (image_model, "onnx"),
        (text_classifier, "openvino"),
        (translator, "onnx"),
        (towers, "openvino"),
        (columns, "onnx"),
        (convolutions, "openvino"),
    ],
)
def test_graphs_hold_every_family(make, to: str, tmp_path: Path) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(to, to))
    original = make(tmp_path / "model")
    receipt = export_model(original, to, tmp_path / "out", num_threads=1)
    assert receipt.agreement.largest_difference < 5e-5
    assert receipt.agreement.greedy is None
    graph = receipt.files[0]
    assert [one.name for one in graph.inputs] == list(original.input_names)
    outputs = {towers: 3}.get(make, 1)
    assert len(graph.outputs) == outputs
    assert (receipt.agreement.num_same_answer is None) == (make in (towers, columns))
    assert receipt.classes == original.classes
    said = [one for one in receipt.not_carried_over if "normalization" in one]
    assert bool(said) == bool(original.input_scales)


def test_what_does_not_agree_is_not_written(
    gpt: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")

    def wrong(job, folder):
        spec = job.original.spec
        other = perturbed(build(spec, seed=7))
        return written(replace(job, original=replace(job.original, module=other)), folder)

    written = FORMATS["hf"]
    monkeypatch.setitem(FORMATS, "hf", wrong)
    with pytest.raises(
        GateError, match=r"as hf does not agree with the original: of outputs up to .*; nothing was written"
    ):
        export_model(gpt, "hf", tmp_path / "out", num_threads=1)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(GateError, match=r"--tolerance \S+   takes it as it is"):
        export_model(gpt, "hf", tmp_path / "out", tolerance_frac=0.01, num_threads=1)
    receipt = export_model(gpt, "hf", tmp_path / "out", tolerance_frac=1e6, num_threads=1)
    assert receipt.agreement.num_same_answer < receipt.agreement.num_answers


def test_an_exact_tolerance_is_kept_to(llama: Original, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(GateError, match="does not agree"):
        export_model(llama, "hf", tmp_path / "out", precision="f16", tolerance_frac=0, num_threads=1)


def test_what_is_left_behind_is_said(gpt: Original, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    name = "blocks.0.attn_out"
    kept = torch.ones_like(dict(gpt.module.named_parameters())[name], dtype=torch.bool)
    held = replace(
        gpt,
        forms={name: Masked(kept)},
        activations=Activations(cache_bits=8, has_dynamic_inputs=True),
    )
    receipt = export_model(held, "hf", tmp_path / "out", num_threads=1)
    assert [one.split(":")[0] for one in receipt.not_carried_over] == [
        "A cache of 8 bits",
        "Inputs of layers in 8 bits",
        "That zeros are left out of the file",
        "That weights are in few bits",
    ]
    assert receipt.agreement.reference == "the weights as they are stored, in torch in fp32"


def test_what_an_export_refuses(gpt: Original, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown format 'gguv'\. Did you mean 'gguf'"):
        export_model(gpt, "gguv", tmp_path / "out")
    with pytest.raises(UsageError, match=r"the format hf is written in fp32, f16\. Got 'int8'"):
        export_model(gpt, "hf", tmp_path / "out", precision="int8")
    with pytest.raises(UsageError, match=r"the tolerance must be 0 or more. Got -1"):
        export_model(gpt, "hf", tmp_path / "out", tolerance_frac=-1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="full holds something already"):
        export_model(gpt, "hf", tmp_path / "full")
    columns(tmp_path / "columns")
    with pytest.raises(RecipeError, match="is a model without a run: its task and data must be said"):
        open_original(tmp_path / "columns")


def test_what_a_format_cannot_hold(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    original = columns(tmp_path / "model")
    with pytest.raises(RecipeError, match="transformers has no architecture that computes MLP"):
        export_model(original, "hf", tmp_path / "out")
    with pytest.raises(RecipeError, match="GGUF holds language models with their tokenizer; MLP is none"):
        export_model(original, "gguf", tmp_path / "out")
    mixture = open_original(
        gpt_folder(tmp_path / "mixture", num_experts=4, experts_per_token=2, expert_width=16, mlp_width=64)
    )
    with pytest.raises(
        RecipeError,
        match=r"GPT cannot be written as GGUF, which Kleiber writes of Qwen3ForCausalLM and Llama.*Got 'Qwen3MoeForCausalLM'",
    ):
        export_model(mixture, "gguf", tmp_path / "out")
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    stretched = open_original(llama_folder(tmp_path / "stretched", rope_parameters=scaled))
    with pytest.raises(RecipeError, match=r"of the kind llama: rope_type must be default. Got 'linear'"):
        export_model(stretched, "gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_an_mlp_that_blocks_do_not_divide_is_filled_up_with_zeros(precision: str, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    original = open_original(gpt_folder(tmp_path / "model", mlp_width=40))
    receipt = export_model(original, "gguf", tmp_path / "out", precision=precision, num_threads=1)
    assert "F32" not in receipt.precision
    found = receipt.agreement
    # llama.cpp rounds what goes into products to 8 bits too.
    assert found.difference_frac < (1e-5 if receipt.checked_with.startswith("transformers") else 0.03)
    assert receipt.notes[0] == (
        "The MLP is 64 wide in the file and 40 in the model: zeros fill it up to whole blocks of 32 columns."
    )
    reader = gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    assert reader.get_field("qwen3.feed_forward_length").contents() == 64
    plain = export_model(original, "gguf", tmp_path / "plain", num_threads=1)
    assert plain.precision == "F32"
    reader = gguf.GGUFReader(tmp_path / "plain" / "model.gguf")
    assert reader.get_field("qwen3.feed_forward_length").contents() == 40


def test_columns_that_blocks_do_not_divide_stay_numbers(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    original = open_original(gpt_folder(tmp_path / "model", width=48, head_dim=12))
    receipt = export_model(original, "gguf", tmp_path / "out", precision="int8", num_threads=1)
    assert receipt.precision == "F32, Q8_0"
    assert receipt.notes[0].startswith("Written as F32, because 32 does not divide their columns: ")


def test_a_folder_of_ours_is_its_own_original(tmp_path: Path) -> None:
    folder = gpt_folder(tmp_path / "model")
    original = open_original(folder)
    assert original.writes_text
    assert original.inputs[0].shape == (4, CONTEXT)
    module, spec = load(folder)
    assert spec == original.spec
    assert isinstance(spec, GPTSpec)
    assert all(
        torch.equal(*pair) for pair in zip(module.parameters(), original.module.parameters(), strict=True)
    )
