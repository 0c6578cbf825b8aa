"""A tokenizer that somebody else trained, out of its folder: `data.tokenizer`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from kleiber.data.text_tokenizer import ROLES, TextTokenizer
from kleiber.data.tokenizer import load_tokenizer
from kleiber.errors import DataError, MissingExtraError
from kleiber.runs.recipe import DataRecipe

__all__ = ["given_tokenizer", "holds_tokenizer", "is_path", "open_tokenizer"]

_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "source.spm",
    "tekken.json",
)  # fmt: skip
"""One of these is in every folder with a tokenizer."""
_HINT = "--set data.tokenizer=FOLDER   with tokenizer.json, or a name of the hub such as bert-base-uncased"


def given_tokenizer(recipe: DataRecipe) -> tuple[TextTokenizer | None, DataRecipe]:
    """Return the tokenizer that a recipe names, None where one is to be trained, and the recipe with its vocabulary.

    Raises:
        DataError: There is none, it cannot be read, or the recipe asks for a vocabulary of another size.
        MissingExtraError: It needs transformers, which is not installed.
    """
    if recipe.tokenizer is None:
        return None, recipe
    found = open_tokenizer(recipe.tokenizer)
    if "vocab_size" in recipe.model_fields_set and recipe.vocab_size != found.vocab_size:
        raise DataError(
            f"data.vocab_size {recipe.vocab_size:,} contradicts data.tokenizer '{recipe.tokenizer}', which has "
            f"{found.vocab_size:,} entries.",
            hint=f"--set data.vocab_size={found.vocab_size}   or leave it out",
        )
    return found, recipe.model_copy(update={"vocab_size": found.vocab_size})


def holds_tokenizer(folder: Path) -> bool:
    """Return whether a folder has the files of a tokenizer."""
    return any((folder / name).is_file() for name in _FILES)


def is_path(name: str) -> bool:
    """Return whether a name can be none of the hub, which are `NAME` or `OWNER/NAME`.

    Example:
        >>> is_path("google/t5-small"), is_path("./t5"), is_path("models/t5/small")
        (False, True, True)
    """
    return name.count("/") > 1 or name.startswith((".", "/", "~"))


def open_tokenizer(name: str) -> TextTokenizer:
    """Return the tokenizer of a folder, or of a name of the hub: its `tokenizer.json`, else what transformers makes of older files.

    Code that stands beside it is never run.

    Raises:
        DataError: Nothing is there, it cannot be read, or no token of it can pad.
        MissingExtraError: It needs transformers, which is not installed.
    """
    here = Path(name).expanduser()
    folder = here.parent if here.is_file() else here
    if not folder.is_dir() and is_path(name):
        raise DataError(f"data.tokenizer '{name}' is no folder here.", hint=_HINT)
    if folder.is_dir() and not holds_tokenizer(folder):
        raise DataError(f"data.tokenizer '{name}' holds no tokenizer.", got=_names_in(folder), hint=_HINT)
    if (folder / "tokenizer.json").is_file():
        backend, special = load_tokenizer(folder), _special_tokens(folder)
    else:
        backend, special = _by_transformers(folder if folder.is_dir() else Path(name), name)
    if "pad_token" not in special and backend.padding is not None:
        special["pad_token"] = backend.padding["pad_token"]
    backend.no_padding()
    backend.no_truncation()
    known = backend.get_vocab()
    found = TextTokenizer(backend, {role: token for role, token in special.items() if token in known}, name)
    if not {"pad_token", "eos_token"} & set(found.given or ()) and not found.suffix:
        raise DataError(
            f"data.tokenizer '{name}' names no token that pads texts, and none that ends them.",
            hint='"pad_token": "[PAD]"   in its tokenizer_config.json',
        )
    return found


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())[:5]


def _special_tokens(folder: Path) -> dict[str, str]:
    """Return the special tokens by role as the files beside a `tokenizer.json` name them, the model's config where those do not."""
    found: dict[str, str] = {}
    config = _read(folder / "config.json")
    ids = {**config.get("text_config", {}), **config}
    names = {number: token for token, number in load_tokenizer(folder).get_vocab().items()}
    for role in ROLES:
        number = ids.get(f"{role}_id")
        first = number[0] if isinstance(number, list) and number else number
        if isinstance(first, int) and first in names:
            found[role] = names[first]
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        raw = _read(folder / file)
        for role in ROLES:
            token = raw.get(role)
            token = token.get("content") if isinstance(token, Mapping) else token
            if isinstance(token, str):
                found[role] = token
    return found


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"{path}, which names special tokens, is not valid JSON.", hint=_HINT) from None
    return raw if isinstance(raw, dict) else {}


def _by_transformers(where: Path, name: str) -> tuple[Tokenizer, dict[str, str]]:
    try:
        from transformers import AutoTokenizer  # noqa: PLC0415 - takes seconds to import, and is an extra
    except ImportError:
        raise MissingExtraError.of("transformers", "hf", f"data.tokenizer '{name}'") from None
    load: Any = AutoTokenizer.from_pretrained
    try:
        found = load(str(where), trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - a hundred tokenizers, each with its own checks
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
        what = "cannot be read" if where.is_dir() else "is no folder here, and the hub did not give it"
        raise DataError(f"data.tokenizer '{name}' {what}: {reason}", hint=_HINT) from None
    if not found.is_fast:
        raise DataError(
            f"data.tokenizer '{name}' is a {type(found).__name__}, which has no form as tokenizer.json.",
            hint="a folder in which AutoTokenizer finds a fast one",
        )
    if set(found.get_vocab()) <= set(found.all_special_tokens):
        # Of files that it does not know transformers makes a tokenizer without words.
        raise DataError(
            f"data.tokenizer '{name}' holds no vocabulary that a {type(found).__name__} reads.",
            got=_names_in(where),
            hint=_HINT,
        )
    special = {role: str(token) for role in ROLES if (token := getattr(found, role, None)) is not None}
    return Tokenizer.from_str(found.backend_tokenizer.to_str()), special
