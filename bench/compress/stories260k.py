"""The 260,032-parameter Llama of llama2.c as a transformers folder, and text that it wrote itself.

Its published validation loss, 1.2968, is of TinyStories, which is not here: what can be checked is that the folder writes the
published greedy sample token for token, and its loss on the published sample of the validation text.
"""

from __future__ import annotations

import argparse
import json
import struct
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from torch import Tensor as Weights
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

PUBLISHED_LOSS = 1.2968
BOS = 1


def write_folder(source: Path, folder: Path) -> Path:
    """Write `source` (weights by name, llama2.c's tokenizer) as config, weights and tokenizer that transformers reads."""

    arrays = dict(np.load(source / "stories260K.npz"))
    config = dict(zip(arrays["config_names"].tolist(), arrays["config"].tolist(), strict=True))
    made = LlamaConfig(
        vocab_size=config["vocab"],
        hidden_size=config["dim"],
        intermediate_size=config["hidden"],
        num_hidden_layers=config["n_layers"],
        num_attention_heads=config["n_heads"],
        num_key_value_heads=config["n_kv_heads"],
        max_position_embeddings=config["seq_len"],
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=BOS,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(made)
    model.load_state_dict(_state(arrays, config))
    model.save_pretrained(folder)
    _write_tokenizer(source / "tok512.bin", folder)
    return folder


def _state(arrays: dict[str, np.ndarray], config: dict[str, int]) -> dict[str, Weights]:
    table = torch.from_numpy(arrays["tok_embeddings"])
    state = {"model.embed_tokens.weight": table, "lm_head.weight": table}
    state["model.norm.weight"] = torch.from_numpy(arrays["norm"])
    names = {
        "attention_norm": "input_layernorm", "wq": "self_attn.q_proj", "wk": "self_attn.k_proj", "wv": "self_attn.v_proj",
        "wo": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "w1": "mlp.gate_proj", "w2": "mlp.down_proj",
        "w3": "mlp.up_proj",
    }  # fmt: skip
    heads = {"wq": config["n_heads"], "wk": config["n_kv_heads"]}
    for theirs, ours in names.items():
        for index, weight in enumerate(torch.from_numpy(arrays[theirs])):
            turned = _halves(weight, heads[theirs]) if theirs in heads else weight
            state[f"model.layers.{index}.{ours}.weight"] = turned
    return state


def _halves(weight_RC: Weights, num_heads: int) -> Weights:
    """Return rows in the order of transformers' rotation: llama2.c turns neighbours, transformers the two halves of a head."""
    R, C = weight_RC.shape
    return weight_RC.view(num_heads, R // num_heads // 2, 2, C).transpose(1, 2).reshape(R, C)


def _write_tokenizer(path: Path, folder: Path) -> None:
    """Write llama2.c's list of pieces and scores as `tokenizer.json`: the pair whose union has the best score is merged first."""

    pieces = _pieces(path.read_bytes())
    vocab = {piece: number for number, (piece, _) in enumerate(pieces)}
    scored = [
        (score, piece) for number, (piece, score) in enumerate(pieces) if number >= 259 and len(piece) > 1
    ]
    merges = [
        (piece[:cut], piece[cut:])
        for _, piece in sorted(scored, key=lambda one: -one[0])
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    made = Tokenizer(models.BPE(vocab, merges, byte_fallback=True, fuse_unk=True))
    made.model.unk_token = "<unk>"  # noqa: S105 - a name of a token
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.save(str(folder / "tokenizer.json"))
    # Stories are divided by the token that begins one.
    special = {"bos_token": "<s>", "eos_token": "<s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}) + "\n"
    )


def _pieces(content: bytes) -> list[tuple[str, float]]:
    pieces, place = [], 4
    while place < len(content):
        score, num_bytes = struct.unpack_from("<fi", content, place)
        place += 8
        text = content[place : place + num_bytes].decode()
        pieces.append((text.strip("\n").replace(" ", "▁") if len(pieces) > 2 else text.strip(), score))
        place += num_bytes
    return pieces


@torch.inference_mode()
def write_samples(folder: Path, path: Path, *, num: int, seed: int, max_tokens: int = 384) -> Path:
    """Write stories that the model samples from its own distribution, divided by lines `<|endoftext|>`."""

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    stories: list[str] = []
    start = torch.full((256, 1), BOS)
    while len(stories) < num:
        rows = model.generate(
            start,
            attention_mask=torch.ones_like(start),
            do_sample=True,
            top_k=0,
            max_new_tokens=max_tokens,
            eos_token_id=BOS,
            pad_token_id=BOS,
        )
        for row in rows[:, 1:].tolist():
            end = row.index(BOS) if BOS in row else len(row)
            stories.append(tokenizer.decode(row[:end]))
    path.write_text("\n<|endoftext|>\n".join(stories[:num]) + "\n", encoding="utf-8")
    return path


@torch.inference_mode()
def check(source: Path, folder: Path) -> None:
    """Print how the folder compares with what is published of the model."""

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    asked = np.load(source / "stories260K.npz")["greedy_token_ids_from_bos"].tolist()
    logits = model(torch.tensor([asked[:-1]])).logits[0]
    same = (logits.argmax(-1) == torch.tensor(asked[1:])).sum().item()
    print(f"greedy sample: {same} of {len(asked) - 1} tokens as published")
    text = (source / "tinystories_sample.txt").read_text(encoding="utf-8")
    losses = []
    for story in text.split("<|endoftext|>"):
        if story.strip():
            ids = [BOS, *tokenizer.encode(story.strip(), add_special_tokens=False).ids, BOS][:512]
            row = model(torch.tensor([ids[:-1]])).logits[0]
            losses += torch.nn.functional.cross_entropy(row, torch.tensor(ids[1:]), reduction="none").tolist()
    half = 1.96 * np.std(losses, ddof=1) / len(losses) ** 0.5
    print(
        f"loss on the sample of the validation text: {np.mean(losses):.4f} +- {half:.4f} over {len(losses)} tokens; published {PUBLISHED_LOSS}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stories", type=int, default=2000)
    given = parser.parse_args()
    check(given.source, write_folder(given.source, given.folder))
    write_samples(given.folder, given.folder / "own_samples.txt", num=given.stories, seed=0)
