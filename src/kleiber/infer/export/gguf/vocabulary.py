"""A tokenizer as GGUF holds it: its tokens, how text is cut into words, and which pairs are joined first.

llama.cpp has tokenizers of its own. What they need is written so that they read a text as ours does; what they cannot read as
ours does is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.errors import RecipeError

__all__ = ["CONTROL", "PRE_TOKENIZERS", "ROLES", "SPACE", "USER_DEFINED", "Vocabulary", "vocabulary_of"]

PRE_TOKENIZERS: dict[str, str | None] = {
    "gpt-2": None,
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
"""What llama.cpp calls the ways to cut text into words before bytes are joined, with the expression of each; None of GPT-2's,
which is built into byte-level pre-tokenizers."""

_IGNORES_MERGES = "llama-bpe"
"""Whose words are looked up whole before anything is joined."""
_NORMAL, _UNKNOWN, CONTROL, USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
"""Types of tokens, as ggml numbers them."""
SPACE = "\u2581"
"""What sentencepiece writes for a space."""
_HINT = "--format onnx   leaves the tokenizer beside the model as tokenizer.json"


@dataclass(frozen=True)
class Vocabulary:
    """What GGUF says of a tokenizer."""

    model: Literal["gpt2", "llama"]
    """Bytes that are joined by rank inside words; characters of a whole text that are joined by score."""
    pre: str
    """How text is cut into words: of `PRE_TOKENIZERS`; `default` where it is not."""
    tokens: tuple[str, ...]
    """By number."""
    types: tuple[int, ...]
    merges: tuple[str, ...] = ()
    """The first pairs first, each with a space between; of `gpt2`."""
    scores: tuple[float, ...] = ()
    """The token with the highest is joined first; of `llama`."""
    special_ids: Mapping[str, int] | None = None
    """By GGUF's name of the role: `bos`, `eos`, `unknown`, `seperator`, `padding`, `mask`."""
    adds_bos: bool = False
    adds_eos: bool = False
    adds_space: bool = False
    """Whether a space is put before a text."""


ROLES = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "sep_token": "seperator",
    "pad_token": "padding",
    "mask_token": "mask",
}
"""Of transformers, and of GGUF, whose spelling it is."""


def vocabulary_of(tokenizer: TextTokenizer, num_rows: int) -> Vocabulary:
    """Return a tokenizer as llama.cpp reads it.

    Args:
        tokenizer: Byte-level BPE, or BPE of characters with a fallback to bytes, as sentencepiece makes it.
        num_rows: Of the model's table; what the tokenizer has no token for is marked as unused.

    Raises:
        RecipeError: llama.cpp has no tokenizer that reads texts as this one does.
    """
    raw = json.loads(tokenizer.backend.to_str())
    model = raw["model"]
    if model.get("type") != "BPE":
        raise _refusal(tokenizer, f"its kind is {model.get('type')}, not BPE")
    tokens, types = _tokens(raw, num_rows)
    shared: dict[str, Any] = {
        "tokens": tokens,
        "types": types,
        "special_ids": {
            theirs: tokenizer.backend.get_vocab()[tokenizer.special[ours]]
            for ours, theirs in ROLES.items()
            if ours in tokenizer.special
        },
        **_frame(tokenizer),
    }
    merges = [tuple(one.split(" ", 1)) if isinstance(one, str) else tuple(one) for one in model["merges"]]
    if _bytes_are_letters(raw):
        return Vocabulary(
            "gpt2", _pre_of(raw, tokenizer), merges=_merges(merges, tokens, tokenizer), **shared
        )
    if not model.get("byte_fallback"):
        raise _refusal(tokenizer, "it reads neither bytes nor characters that fall back to bytes")
    adds_space = _spaces(raw, tokenizer)
    scores = _scores(model["vocab"], merges, {*_added(raw)}, tokenizer, num_rows)
    return Vocabulary("llama", "default", scores=scores, adds_space=adds_space, **shared)


def _added(raw: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the tokens that stand beside those of the model, by their text."""
    return {one["content"]: one for one in raw.get("added_tokens") or ()}


def _tokens(raw: Mapping[str, Any], num_rows: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    model, added = raw["model"], _added(raw)
    tokens = [f"[UNUSED{number}]" for number in range(num_rows)]
    types = [_UNUSED] * num_rows
    for text, number in model["vocab"].items():
        tokens[number], types[number] = text, _NORMAL
        if model.get("byte_fallback") and len(text) == 6 and text.startswith("<0x"):
            types[number] = _BYTE
    for text, one in added.items():
        tokens[one["id"]], types[one["id"]] = text, CONTROL if one["special"] else USER_DEFINED
    if (unknown := model.get("unk_token")) is not None:
        types[model["vocab"][unknown]] = _UNKNOWN
    return tuple(tokens), tuple(types)


def _frame(tokenizer: TextTokenizer) -> dict[str, bool]:
    """Return what is put around a text: the token that begins one, the token that ends one, or neither."""
    ids = {role: tokenizer.backend.get_vocab()[token] for role, token in tokenizer.special.items()}
    begins, ends = tokenizer.prefix, tokenizer.suffix
    if begins not in ((), (ids.get("bos_token"),)) or ends not in ((), (ids.get("eos_token"),)):
        raise _refusal(tokenizer, f"it puts the tokens {begins} before a text and {ends} after it")
    return {"adds_bos": bool(begins), "adds_eos": bool(ends)}


def _steps(part: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    """Return the steps of a normalizer or pre-tokenizer in order."""
    if part is None:
        return []
    return list(part[key]) if part["type"] == "Sequence" else [part]


def _bytes_are_letters(raw: Mapping[str, Any]) -> bool:
    return any(step["type"] == "ByteLevel" for step in _steps(raw["pre_tokenizer"], "pretokenizers"))


def _pre_of(raw: Mapping[str, Any], tokenizer: TextTokenizer) -> str:
    """Return what llama.cpp calls the way in which a byte-level tokenizer cuts words."""
    if raw["normalizer"] is not None:
        raise _refusal(tokenizer, f"it changes texts first, by {raw['normalizer']['type']}")
    *splits, last = _steps(raw["pre_tokenizer"], "pretokenizers")
    expressions = [step.get("pattern", {}).get("Regex") for step in splits]
    asked = expressions or ([None] if last["use_regex"] else [])
    known = [name for name, expression in PRE_TOKENIZERS.items() if asked == [expression]]
    ignores_merges = bool(raw["model"].get("ignore_merges"))
    if not known or last["add_prefix_space"] or ignores_merges != (known[0] == _IGNORES_MERGES):
        raise _refusal(
            tokenizer, f"it cuts words in another way than those known, {', '.join(PRE_TOKENIZERS)}"
        )
    return known[0]


def _merges(
    merges: Sequence[tuple[str, ...]], tokens: Sequence[str], tokenizer: TextTokenizer
) -> tuple[str, ...]:
    if not merges:
        # llama.cpp wants one. Tokens of several letters never come to stand side by side where nothing is joined.
        long = next((token for token in tokens if len(token) > 1), None)
        if long is None:
            raise _refusal(tokenizer, "it joins nothing, and llama.cpp wants one pair")
        return (f"{long} {long}",)
    return tuple(" ".join(pair) for pair in merges)


def _spaces(raw: Mapping[str, Any], tokenizer: TextTokenizer) -> bool:
    """Return whether a space is put before a text, of a tokenizer that writes spaces as sentencepiece does."""
    steps = _steps(raw["normalizer"], "normalizers")
    replaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepends = {"type": "Prepend", "prepend": SPACE}
    if raw["pre_tokenizer"] is not None or steps not in ([replaces], [prepends, replaces]):
        raise _refusal(tokenizer, "it treats spaces otherwise than sentencepiece")
    return len(steps) == 2


def _scores(
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, ...]],
    special: set[str],
    tokenizer: TextTokenizer,
    num_rows: int,
) -> tuple[float, ...]:
    """Return a score for each token, by which llama.cpp joins what the ranks of the pairs say.

    It joins any two neighbours that make a token, the highest score first. That is the same where every such pair has a rank,
    and the ranks of all pairs that make one token lie together.
    """
    first_rank: dict[str, int] = {}
    made = ["".join(pair) for pair in merges]
    for rank, token in enumerate(made):
        first_rank.setdefault(token, rank)
    lies_together = sum(one != before for one, before in zip(made[1:], made, strict=False)) < len(first_rank)
    if not lies_together or not set(_pairs(vocab, special)) <= set(merges):
        raise _refusal(tokenizer, "its pairs are not joined in the order of the tokens that they make")
    scores = [0.0] * num_rows
    for token, rank in first_rank.items():
        scores[vocab[token]] = -1.0 - rank
    return tuple(scores)


def _pairs(vocab: Mapping[str, int], special: set[str]) -> Iterator[tuple[str, str]]:
    """Yield every two texts that make a token and can stand side by side: tokens, or characters that are none."""

    def can_stand(text: str) -> bool:
        return len(text) == 1 or (text in vocab and text not in special)

    for token in vocab:
        if token in special or (token.startswith("<0x") and len(token) == 6):
            continue
        for cut in range(1, len(token)):
            if can_stand(token[:cut]) and can_stand(token[cut:]):
                yield token[:cut], token[cut:]


def _refusal(tokenizer: TextTokenizer, reason: str) -> RecipeError:
    return RecipeError(
        f"llama.cpp has no tokenizer that reads as {tokenizer.name} does: {reason}.", hint=_HINT
    )
