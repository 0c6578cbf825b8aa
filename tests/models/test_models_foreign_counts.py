"""Parameters that the authors of a model, or the library that distributes it, publish."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from kleiber.models.foreign import open_subject

pytest.importorskip("transformers")

LLAMA_3_8B = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192,
}  # fmt: skip
LLAMA_3_70B = LLAMA_3_8B | {
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "intermediate_size": 28672,
}
ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
MISTRAL = {"num_key_value_heads": 8, "intermediate_size": 14336, "hidden_size": 4096, "num_hidden_layers": 32}

# What a config leaves out is what the library gives: the sizes of the first published model.
PUBLISHED: dict[str, tuple[str, dict[str, Any], int]] = {
    "GPT2LMHeadModel": ("gpt2", {}, 124_439_808),
    "BertModel": ("bert", {}, 109_482_240),
    "RobertaModel": ("roberta", ROBERTA, 124_645_632),
    "DistilBertModel": ("distilbert", {}, 66_362_880),
    "T5ForConditionalGeneration": ("t5", {}, 60_506_624),
    "BartForConditionalGeneration": ("bart", {}, 406_291_456),
    "WhisperForConditionalGeneration": ("whisper", {}, 37_760_640),
    "Wav2Vec2Model": ("wav2vec2", {}, 94_371_712),
    "ViTForImageClassification": ("vit", {"num_labels": 1000}, 86_567_656),
    "ResNetForImageClassification": ("resnet", {"num_labels": 1000}, 25_557_032),
    "ConvNextForImageClassification": ("convnext", {"num_labels": 1000}, 28_589_128),
    "CLIPModel": ("clip", {}, 151_277_313),
    "LlamaForCausalLM": ("llama", LLAMA_3_8B, 8_030_261_248),
    "MistralForCausalLM": ("mistral", MISTRAL, 7_241_732_096),
    "MixtralForCausalLM": ("mixtral", {}, 46_702_792_704),
}


def num_params(folder: Path, model_type: str, architecture: str, sizes: dict[str, Any]) -> int:
    config = {"model_type": model_type, "architectures": [architecture], **sizes}
    (folder / "config.json").write_text(json.dumps(config))
    subject = open_subject(str(folder))
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in subject.build().parameters())


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_a_published_count_is_met(architecture: str, tmp_path: Path) -> None:
    model_type, sizes, expected = PUBLISHED[architecture]
    assert num_params(tmp_path, model_type, architecture, sizes) == expected


def test_seventy_billion_parameters_are_counted_in_seconds_and_little_memory(tmp_path: Path) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert num_params(tmp_path, "llama", "LlamaForCausalLM", LLAMA_3_70B) == 70_553_706_496
    assert time.perf_counter() - start < 15
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2**30
