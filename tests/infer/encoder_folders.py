"""Folders of small encoders with random weights, as transformers and sentence-transformers write them."""

from __future__ import annotations

import json

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("river", "stone", "cloud", "house", "green", "winter", "bread", "song", "##s")
MAX_TOKENS = 12


def write_tokenizer(folder):
    """Write a tokenizer of words that puts a text between [CLS] and [SEP]."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))  # noqa: S106 - a token of text
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    config = {"tokenizer_class": "BertTokenizer", **dict(zip(names, SPECIAL, strict=True))}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_bert(folder, *, width=32):
    """Write a BERT without a head, whose vectors differ from text to text."""
    return write_encoder(
        folder, "bert", hidden_size=width, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=MAX_TOKENS,
    )  # fmt: skip


def write_encoder(folder, model_type, **sizes):
    """Write a model of transformers without a head, and its tokenizer."""
    write_tokenizer(folder)
    config = transformers.CONFIG_MAPPING[model_type](
        vocab_size=len(SPECIAL) + len(WORDS), initializer_range=0.5, pad_token_id=0, **sizes
    )
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


def write_modules(folder, *parts, **pooling):
    """Write what sentence-transformers says beside a model."""
    kinds = ("Transformer", "Pooling", *parts)
    listed = [
        {
            "idx": index,
            "path": "" if kind == "Transformer" else f"{index}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
