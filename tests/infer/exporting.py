"""Small models to export: folders with weights and a tokenizer, and models with inputs of any kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.data.tokenizer import train_tokenizer
from kleiber.infer.export.original import Original
from kleiber.models import Spec, build, save
from kleiber.models.family import FamilyModule
from kleiber.models.gpt import GPTSpec
from kleiber.models.hf import HFSpec
from kleiber.runs import DataShape

CONTEXT, VOCAB = 24, 300
TEXT = "the lower tower of the town, the owner of the low water\n" * 4


def perturbed(module: FamilyModule) -> FamilyModule:
    """Return a module whose every weight says something: fresh ones have output projections of 0."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    return module.eval().requires_grad_(requires_grad=False)


def byte_tokenizer() -> TextTokenizer:
    """Return a tokenizer as Kleiber trains them."""
    return TextTokenizer(train_tokenizer([TEXT], 272, source="text:low.txt"))


def character_tokenizer() -> TextTokenizer:
    """Return a tokenizer as sentencepiece makes them: characters joined by score, bytes for what is unknown."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made = ["\u2581t", "he", "\u2581the", "ow", "\u2581l", "\u2581low", "er"]
    letters = sorted({letter for word in made for letter in word})
    vocab = {word: number for number, word in enumerate([*words, *made, *letters])}
    merges = [
        (word[:cut], word[cut:])
        for word in made
        for cut in range(1, len(word))
        if word[:cut] in vocab and word[cut:] in vocab
    ]
    backend = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))  # noqa: S106 - a token of text
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    backend.add_special_tokens(list(special.values()))
    return TextTokenizer(backend, special, "characters")


def gpt_folder(folder: Path, **size: Any) -> Path:
    """Write a decoder of ours with its tokenizer."""
    spec = GPTSpec.from_dial(
        {"depth": 1, "width": 32, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16, "mlp_width": 64} | size,
        vocab_size=VOCAB,
        context=CONTEXT,
    )
    save(perturbed(build(spec, seed=0)), spec, folder)
    byte_tokenizer().write(folder, context=CONTEXT)
    return folder


def llama_folder(folder: Path, **changes: Any) -> Path:
    """Write a decoder as transformers has it with its tokenizer."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB,
        "max_position_embeddings": 32,
        "tie_word_embeddings": False,
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    shape = DataShape(inputs="tokens", vocab_size=VOCAB, context=CONTEXT)
    spec = HFSpec.of_size({"path": str(folder)}, shape)
    save(perturbed(build(spec, seed=0)), spec, folder)
    character_tokenizer().write(folder, context=CONTEXT)
    return folder


def original_of(spec: Spec, folder: Path, inputs: dict[str, np.ndarray], **changes: Any) -> Original:
    """Return a model of any family with inputs of any kind, saved in a folder."""
    module = perturbed(build(spec, seed=0))
    save(module, spec, folder)
    return Original(
        typed="runs/small",
        folder=folder,
        module=module,
        spec=spec,
        inputs=tuple(inputs.values()),
        input_names=tuple(inputs),
        inputs_from="random numbers",
        **changes,
    )
