"""A small decoder, and what its texts are when they are written alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.infer.batching import Slots, Speaker
from kleiber.infer.batching.torch_rows import TorchRows
from kleiber.infer.decoding.cached_forward import cached_heads
from kleiber.infer.generation.sampling import Sampling, draw
from kleiber.models.gpt.module import build
from kleiber.models.gpt.spec import GPTSpec

VOCAB, CONTEXT = 60, 48
GREEDY = Sampling(temperature=0)


def speaker(end_ids=(0,)):
    """Return a tokenizer of one letter a token."""
    letters = {"<|endoftext|>": 0} | {chr(0x100 + index): index for index in range(1, VOCAB)}
    return Speaker(TextTokenizer(Tokenizer(models.WordLevel(letters))), (), frozenset(end_ids), CONTEXT)


def gpt(head_dim=8):
    """Return a small decoder whose logits differ."""
    size = {"depth": 2, "width": 32, "num_heads": 4, "num_kv_heads": 2, "head_dim": head_dim}
    module = build(GPTSpec.from_dial(size, vocab_size=VOCAB, context=CONTEXT)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3, generator=generator)
    return module


MODULE = gpt()


def alone(prompt, request, *, sample=0, end_ids=(0,), module=MODULE):
    """Return the tokens that a text has without a cache and without others."""
    rng, tokens = np.random.default_rng((request.seed, sample)), list(prompt)
    while len(tokens) < min(len(prompt) + request.max_tokens, CONTEXT + 1):
        with torch.no_grad():
            logits = module(torch.tensor([tokens]))[:, -1].numpy()
        tokens.append(int(draw(logits, request.sampling, [tokens], np.array([rng.random()]))[0]))
        if tokens[-1] in end_ids:
            break
    return tokens[len(prompt) :]


def prompts(num, seed=0):
    """Return prompts of different lengths."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, VOCAB, rng.integers(1, 30)).tolist() for _ in range(num)]


def slots(num, module=MODULE):
    """Return slots of a module in torch."""
    return Slots(TorchRows(module, cached_heads(module), num, 1), num)


def llama(folder):
    """Return a small Llama of transformers, with random weights."""
    transformers = pytest.importorskip("transformers")
    from kleiber.models import load  # noqa: PLC0415 - beside transformers
    from kleiber.runs import DataShape  # noqa: PLC0415 - the same

    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    module, _ = load(folder, DataShape(inputs="tokens", vocab_size=VOCAB, context=CONTEXT))
    return module.eval()
