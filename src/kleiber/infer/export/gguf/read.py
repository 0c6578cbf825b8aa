"""The tokenizer that a file of GGUF holds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.errors import DataError, RunFolderError
from kleiber.infer.export.gguf.vocabulary import CONTROL, PRE_TOKENIZERS, ROLES, SPACE, USER_DEFINED
from kleiber.infer.export.gguf.write import require_gguf

__all__ = ["read_tokenizer"]

_HINT = "a folder with the model's tokenizer.json beside the file"


def read_tokenizer(path: Path) -> TextTokenizer:
    """Return the tokenizer of a file: as its `tokenizer.json` stands in it, else rebuilt from what llama.cpp reads.

    Raises:
        MissingExtraError: gguf is not installed.
        RunFolderError: The file is missing, truncated or no GGUF.
        DataError: Its tokenizer is of a kind that is not known here.
    """
    require_gguf()
    import gguf  # noqa: PLC0415 - of an extra

    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise RunFolderError(
            f"{path} cannot be read as GGUF: {str(error).splitlines()[0] if str(error) else type(error).__name__}.",
            hint="kleiber export RUN --format gguf -o FOLDER",
        ) from None

    def value(key: str) -> Any:
        field = reader.get_field(f"tokenizer.{key}")
        return None if field is None else field.contents()

    whole = value("huggingface.json")
    backend = _rebuilt(value, path) if whole is None else Tokenizer.from_str(whole)
    backend.no_padding()
    backend.no_truncation()
    return TextTokenizer(backend, _special(value, backend), str(path))


def _special(value: Callable[[str], Any], backend: Tokenizer) -> dict[str, str]:
    numbers = {ours: value(f"ggml.{theirs}_token_id") for ours, theirs in ROLES.items()}
    return {
        role: str(backend.id_to_token(int(number))) for role, number in numbers.items() if number is not None
    }


def _rebuilt(value: Callable[[str], Any], path: Path) -> Tokenizer:
    kind, pre = value("ggml.model"), value("ggml.pre")
    tokens: list[str] = value("ggml.tokens") or []
    vocab = {token: number for number, token in enumerate(tokens)}
    if kind == "gpt2" and pre in PRE_TOKENIZERS:
        merges = [tuple(pair.split(" ", 1)) for pair in value("ggml.merges")]
        backend = _of_bytes(vocab, merges, pre)
    elif kind == "llama":
        adds_space = value("ggml.add_space_prefix")
        backend = _of_characters(
            vocab, value("ggml.scores"), unknown=tokens[int(value("ggml.unknown_token_id") or 0)],
            adds_space=adds_space is None or bool(adds_space),
        )  # fmt: skip
    else:
        raise DataError(
            f"{path} holds a tokenizer that is not known here.", got={"model": kind, "pre": pre}, hint=_HINT
        )
    _add_special(backend, tokens, value("ggml.token_type") or ())
    # llama.cpp puts the token that begins texts before those of the kind llama unless the file says otherwise.
    adds_bos = value("ggml.add_bos_token")
    begins = value("ggml.bos_token_id")
    if begins is not None and (kind == "llama" if adds_bos is None else adds_bos):
        first = tokens[int(begins)]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", pair=f"{first} $A {first}:1 $B:1", special_tokens=[(first, int(begins))]
        )
    return backend


def _of_bytes(vocab: Mapping[str, int], merges: Sequence[Any], pre: str) -> Tokenizer:
    expression = PRE_TOKENIZERS[pre]
    backend = Tokenizer(models.BPE(dict(vocab), list(merges), ignore_merges=pre == "llama-bpe"))
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=expression is None)
    backend.pre_tokenizer = (
        whole
        if expression is None
        else pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(expression), "isolated"), whole])
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _of_characters(
    vocab: Mapping[str, int], scores: Sequence[float], *, unknown: str, adds_space: bool
) -> Tokenizer:
    """Return a tokenizer that joins what makes the token of the highest score first, by ranks of all such pairs."""
    made = sorted((token for token in vocab if len(token) > 1), key=lambda token: -scores[vocab[token]])
    merges = [
        (token[:cut], token[cut:])
        for token in made
        for cut in range(1, len(token))
        if token[:cut] in vocab and token[cut:] in vocab
    ]
    backend = Tokenizer(models.BPE(dict(vocab), merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prepends = [normalizers.Prepend(SPACE)] if adds_space else []
    backend.normalizer = normalizers.Sequence([*prepends, normalizers.Replace(" ", SPACE)])
    strips = [decoders.Strip(" ", 1, 0)] if adds_space else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strips]
    )
    return backend


def _add_special(backend: Tokenizer, tokens: Sequence[str], types: Sequence[int]) -> None:
    of_type = list(itertools.zip_longest(tokens, types))
    backend.add_special_tokens([AddedToken(one, special=True) for one, kind in of_type if kind == CONTROL])
    backend.add_tokens([AddedToken(one, normalized=False) for one, kind in of_type if kind == USER_DEFINED])
