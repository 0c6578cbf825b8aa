from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from kleiber.cost.trace.fake import fake_module
from kleiber.errors import MissingExtraError, RecipeError
from kleiber.models.foreign import open_subject
from kleiber.models.foreign.failures import explained
from kleiber.models.foreign.grouped_experts import let_experts_be_traced
from kleiber.models.subject import BlockShape, Subject

transformers = pytest.importorskip("transformers")

Write = Callable[..., str]

TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 90,
}
IMAGE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
SPEECH = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 90, "pad_token_id": 1, "bos_token_id": 2,
    "eos_token_id": 3, "decoder_start_token_id": 2, "max_source_positions": 20, "max_target_positions": 24,
    "num_mel_bins": 16,
}  # fmt: skip
SOUND = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 30,
    "conv_dim": [16, 16], "conv_kernel": [400, 3], "conv_stride": [320, 2], "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}  # fmt: skip

# Model type, sizes, the class that is built, what goes in at a batch of 2.
CONFIGS: dict[str, tuple[dict[str, Any], str, dict[str, tuple[int, ...]]]] = {
    "llama": (TEXT | {"max_position_embeddings": 20}, "LlamaForCausalLM", {"input_ids": (2, 16), "labels": (2, 16)}),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16}, "GPT2LMHeadModel", {"input_ids": (2, 16), "labels": (2, 16)}),
    "bert": (TEXT | {"max_position_embeddings": 16}, "BertForMaskedLM", {"input_ids": (2, 16), "labels": (2, 16)}),
    "roberta": (TEXT | {"max_position_embeddings": 18}, "RobertaForMaskedLM", {"input_ids": (2, 16), "labels": (2, 16)}),
    "mixtral": (
        TEXT | {"max_position_embeddings": 16, "num_local_experts": 4, "num_key_value_heads": 2},
        "MixtralForCausalLM",
        {"input_ids": (2, 16), "labels": (2, 16)},
    ),
    "t5": (
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 90, "decoder_start_token_id": 0},
        "T5ForConditionalGeneration",
        {"input_ids": (2, 1024), "labels": (2, 1024)},
    ),
    "bart": (
        {k: v for k, v in SPEECH.items() if "max" not in k and "mel" not in k} | {"max_position_embeddings": 16},
        "BartForConditionalGeneration",
        {"input_ids": (2, 16), "labels": (2, 16)},
    ),
    "whisper": (SPEECH, "WhisperForConditionalGeneration", {"input_features": (2, 16, 40), "labels": (2, 16)}),
    "vit": (IMAGE | {"num_labels": 5}, "ViTForImageClassification", {"pixel_values": (2, 3, 32, 32), "labels": (2,)}),
    "resnet": (
        {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1], "num_labels": 5},
        "ResNetForImageClassification",
        {"pixel_values": (2, 3, 224, 224), "labels": (2,)},
    ),
    "wav2vec2": (SOUND, "Wav2Vec2ForCTC", {"input_values": (2, 160_000)}),
    "audio-spectrogram-transformer": (
        {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48, "max_length": 64, "num_mel_bins": 32},
        "ASTForAudioClassification",
        {"input_values": (2, 64, 32), "labels": (2,)},
    ),
    "clip": (
        {"text_config": TEXT | {"max_position_embeddings": 16}, "vision_config": IMAGE, "projection_dim": 16},
        "CLIPModel",
        {"input_ids": (2, 16), "pixel_values": (2, 3, 32, 32)},
    ),
}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(**config: Any) -> str:
        (tmp_path / "config.json").write_text(json.dumps(config))
        return str(tmp_path / "config.json")

    return _write


def step(subject: Subject, batch_size: int) -> torch.Tensor:
    """Return the loss of a step on fake tensors."""
    mode = FakeTensorMode()
    module = fake_module(subject.build, mode)
    with mode:
        example = subject.inputs(batch_size)
        with explained(module, example):
            loss = subject.loss(module(*example.args, **example.kwargs))
            loss.backward()
    return loss


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_step_runs_on_fake_and_on_real_tensors(model_type: str, write: Write) -> None:
    sizes, class_name, shapes = CONFIGS[model_type]
    subject = open_subject(write(model_type=model_type, **sizes))
    example = subject.inputs(2)
    assert {name: tuple(value.shape) for name, value in example.kwargs.items()} == shapes
    assert step(subject, 2).ndim == 0
    if model_type != "t5":  # long texts: what the fakes did is enough
        module = subject.build()
        assert type(module).__name__ == class_name
        loss = subject.loss(module(**example.kwargs))
        assert torch.isfinite(loss)


def test_labels_stay_in_range(write: Write) -> None:
    subject = open_subject(
        write(model_type="bert", architectures=["BertForTokenClassification"], num_labels=3, **TEXT),
        context=8,
    )
    assert set(subject.inputs(50).kwargs["labels"].flatten().tolist()) == {0, 1, 2}


HEADS: dict[str, dict[str, tuple[int, ...]]] = {
    "BertForSequenceClassification": {"input_ids": (2, 8), "labels": (2,)},
    "BertForTokenClassification": {"input_ids": (2, 8), "labels": (2, 8)},
    "BertForQuestionAnswering": {"input_ids": (2, 8), "start_positions": (2,), "end_positions": (2,)},
    "BertForPreTraining": {"input_ids": (2, 8), "labels": (2, 8), "next_sentence_label": (2,)},
    "BertModel": {"input_ids": (2, 8)},
}


@pytest.mark.parametrize("head", HEADS)
def test_the_architecture_that_the_config_names_gets_its_labels(head: str, write: Write) -> None:
    subject = open_subject(write(model_type="bert", architectures=[head], **TEXT), context=8)
    example = subject.inputs(2)
    module = subject.build()
    assert type(module).__name__ == head
    assert {name: tuple(value.shape) for name, value in example.kwargs.items()} == HEADS[head]
    assert (subject.loss_name == f"the loss of {head}") is (head != "BertModel")
    assert torch.isfinite(subject.loss(module(**example.kwargs)))
    assert subject.notes == ()


@pytest.mark.parametrize(
    ("problem", "num_labels", "shape", "is_floating"),
    [
        ("multi_label_classification", 3, (2, 3), True),
        (None, 1, (2,), True),
        ("regression", 3, (2, 3), True),
        (None, 3, (2,), False),
    ],
)
def test_labels_follow_the_kind_of_problem(
    problem: str | None, num_labels: int, shape: tuple[int, ...], is_floating: bool, write: Write
) -> None:
    config = TEXT | {"num_labels": num_labels, "problem_type": problem}
    subject = open_subject(
        write(model_type="bert", architectures=["BertForSequenceClassification"], **config), context=8
    )
    example = subject.inputs(2)
    labels = example.kwargs["labels"]
    assert (tuple(labels.shape), labels.is_floating_point()) == (shape, is_floating)
    assert torch.isfinite(subject.loss(subject.build()(**example.kwargs)))


def test_serving_has_no_labels_and_keeps_keys_and_values(write: Write) -> None:
    path = write(model_type="llama", **TEXT)
    for mode, keeps, names in (("train", False, {"input_ids", "labels"}), ("infer", True, {"input_ids"})):
        subject = open_subject(path, mode=mode, context=8)  # type: ignore[arg-type]
        example = subject.inputs(2)
        assert set(example.kwargs) == names
        assert (subject.build()(**example.kwargs).past_key_values is not None) is keeps


def test_a_decoder_is_given_its_text_when_it_cannot_make_it_from_labels(write: Write) -> None:
    sizes = {key: value for key, value in CONFIGS["t5"][0].items() if key != "decoder_start_token_id"}
    for mode in ("train", "infer"):
        example = open_subject(write(model_type="t5", **sizes), mode=mode, context=4).inputs(2)  # type: ignore[arg-type]
        assert example.kwargs["decoder_input_ids"].shape == (2, 4)


def test_video_is_frames_of_images(write: Write) -> None:
    sizes = IMAGE | {"num_frames": 4, "tubelet_size": 2}
    subject = open_subject(
        write(model_type="videomae", architectures=["VideoMAEForVideoClassification"], **sizes)
    )
    example = subject.inputs(2)
    assert example.kwargs["pixel_values"].shape == (2, 4, 3, 32, 32)
    assert torch.isfinite(subject.loss(subject.build()(**example.kwargs)))


def test_what_layouts_divide_is_read_off_the_config(write: Write) -> None:
    llama = open_subject(write(model_type="llama", num_key_value_heads=2, head_dim=16, **TEXT))
    assert llama.blocks == BlockShape(
        depth=2, width=32, num_heads=4, num_kv_heads=2, head_dim=16, vocab_size=90
    )
    assert llama.num_experts is None
    whisper = open_subject(write(model_type="whisper", **SPEECH)).blocks
    assert (whisper and whisper.depth, whisper and whisper.head_dim) == (5, 8)
    t5 = open_subject(write(model_type="t5", **CONFIGS["t5"][0])).blocks
    assert t5 is not None
    assert t5.depth == 4
    assert open_subject(write(model_type="resnet", **CONFIGS["resnet"][0])).blocks is None
    assert open_subject(write(model_type="clip", **CONFIGS["clip"][0])).blocks is None


def test_a_mixture_says_how_many_experts_a_token_visits(write: Write) -> None:
    sizes = {"num_experts_per_tok": 3, "num_local_experts": 5, "num_key_value_heads": 2}
    assert open_subject(write(model_type="mixtral", **sizes, **TEXT)).num_experts == (3, 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("columns", [8, 5])
def test_fake_groups_of_experts_are_laid_out_as_real_ones(dtype: torch.dtype, columns: int) -> None:
    def products() -> list[tuple[tuple[int, ...], tuple[int, ...], torch.dtype]]:
        tokens = torch.ones(10, 8, dtype=dtype)
        experts = torch.ones(3, columns, 8, dtype=dtype).transpose(1, 2)
        ends = torch.arange(1, 4, dtype=torch.int32) * 3
        product = torch.nn.functional.grouped_mm
        results = [
            product(tokens, experts, offs=ends),
            product(tokens.t(), torch.ones(10, 16, dtype=dtype), offs=ends),
        ]
        return [(tuple(result.shape), result.stride(), result.dtype) for result in results]

    let_experts_be_traced()
    real = products()
    with FakeTensorMode():
        assert products() == real


def test_what_was_chosen_is_noted(write: Write) -> None:
    subject = open_subject(write(model_type="wav2vec2", quantization_config={"bits": 4}, **SOUND))
    notes = "; ".join(subject.notes)
    for text in (
        "built as Wav2Vec2ForCTC",
        "layerdrop is set to 0.0",
        "no part of the sound is masked",
        "quantization_config is left out",
    ):
        assert text in notes


def test_weights_are_fp32_whatever_the_config_says(write: Write) -> None:
    with torch.device("meta"):
        module = open_subject(
            write(model_type="llama", torch_dtype="bfloat16", dtype="bfloat16", **TEXT)
        ).build()
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_a_folder_stands_for_its_config(write: Write, tmp_path: Path) -> None:
    write(model_type="llama", **TEXT)
    assert open_subject(str(tmp_path)).name == str(tmp_path)


def test_input_shapes_replace_what_the_config_says(write: Write) -> None:
    subject = open_subject(write(model_type="vit", num_labels=5, **IMAGE), inputs=["3x3x32x32"])
    example = subject.inputs(subject.batch_size)
    assert (example.args[0].shape, example.kwargs) == ((3, 3, 32, 32), {})
    assert torch.isfinite(subject.loss(subject.build()(*example.args)))


def test_attention_runs_fused(write: Write) -> None:
    module = open_subject(write(model_type="llama", **TEXT)).build()
    assert module.config._attn_implementation == "sdpa"  # type: ignore[union-attr]


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "no model type": ({"hidden_size": 32}, r"config\.json must name its model_type\.\n  try: \"model_type\": \"llama\""),
    "unknown model type": ({"model_type": "lama"}, r"unknown model_type 'lama'\. Did you mean 'llama'\?"),
    "absurd model type": ({"model_type": "qqqqqqq"}, r"unknown model_type 'qqqqqqq'\. transformers has no such architecture"),
    "remote code": (
        {"model_type": "my_own_net", "auto_map": {"AutoModel": "modeling.Net"}},
        r"'my_own_net' is built by code from the hub, which Kleiber does not run\.\n  try: save that code as my_model\.py",
    ),
    "unknown architecture": (
        {"model_type": "llama", "architectures": ["LlamaForCausalLN"]},
        r"unknown architecture 'LlamaForCausalLN'\. Did you mean 'LlamaForCausalLM'\?",
    ),
    "no model": ({"model_type": "llama", "architectures": ["LlamaConfig"]}, "unknown architecture 'LlamaConfig'"),
    "sizes": (TEXT | {"model_type": "llama", "hidden_size": 33}, r"config\.json: The hidden size \(33\) is not a multiple"),
    "type of a size": ({"model_type": "llama", "hidden_size": "big"}, r"config\.json: Field 'hidden_size' expected int, got str"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_a_config_that_cannot_be_built_is_one_sentence(case: str, write: Write) -> None:
    config, message = ERRORS[case]
    with pytest.raises(RecipeError, match=message):
        open_subject(write(**config))


def test_sizes_that_the_constructor_refuses_are_one_sentence(write: Write) -> None:
    subject = open_subject(write(model_type="whisper", **SPEECH | {"encoder_attention_heads": 5}))
    with (
        torch.device("meta"),
        pytest.raises(
            RecipeError,
            match=r"WhisperForConditionalGeneration cannot be built from this config: embed_dim must be divisible",
        ),
    ):
        subject.build()


def test_a_built_in_type_is_built_without_the_code_that_comes_with_it(write: Write) -> None:
    subject = open_subject(
        write(model_type="llama", auto_map={"AutoModelForCausalLM": "modeling.Net"}, **TEXT)
    )
    assert type(subject.build()).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not valid JSON"), ("[1]", r"must hold a JSON object\. Got 'list'")]
)
def test_a_file_that_is_no_config_says_so(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RecipeError, match=message):
        open_subject(str(tmp_path))


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.json cannot be read: No such file"):
        open_subject(str(tmp_path / "none.json"))


def test_a_context_past_the_positions_is_refused(write: Write) -> None:
    path = write(model_type="roberta", max_position_embeddings=18, **TEXT)
    assert open_subject(path, context=16).tokens_per_sample == 16
    with pytest.raises(
        RecipeError,
        match=r"--context must be at most the 16 positions of the config\. Got 17\.\n  try: --context 16",
    ):
        open_subject(path, context=17)


def test_what_is_not_known_to_go_in_is_said_when_it_is_needed(write: Write) -> None:
    subject = open_subject(
        write(model_type="seamless_m4t_v2", architectures=["SeamlessM4Tv2ForSpeechToText"])
    )
    with pytest.raises(
        RecipeError, match=r"It is not known what goes into a 'seamless_m4t_v2' \(input_features\)"
    ):
        subject.inputs(2)


def test_without_transformers_one_sentence_says_what_to_install(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        MissingExtraError,
        match=r"Reading .*config\.json needs the package 'transformers'.*\n  try: pip install 'kleiber\[hf\]'",
    ):
        open_subject(write(model_type="llama", **TEXT))
