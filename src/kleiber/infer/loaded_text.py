"""A language model out of its folder, before it has an engine: its weights, and how text becomes its tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kleiber.data import END_OF_TEXT
from kleiber.data.given_tokenizer import open_tokenizer
from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.errors import RunFolderError
from kleiber.infer.decoding.cached_forward import Heads, cached_heads
from kleiber.infer.identity import identity_of
from kleiber.infer.precision import Precision, in_precision
from kleiber.infer.vocabulary import require_known_tokens
from kleiber.models import Spec, is_ours, load
from kleiber.models.family import FamilyModule
from kleiber.models.hf.spec import HFSpec
from kleiber.models.seen_data import seen_by
from kleiber.models.stored import Activations, Forms, read_activations, read_forms
from kleiber.runs import RunFolder

__all__ = ["LoadedText", "end_ids", "load_text", "start_ids"]


@dataclass(frozen=True)
class LoadedText:
    """A model that goes on from text."""

    module: FamilyModule
    """fp32, in evaluation mode; its weights are those that `forms` stand for."""
    spec: Spec
    heads: Heads
    """Sizes of a cache for it."""
    forms: Forms
    """How weights are stored."""
    activations: Activations
    """How the inputs of layers are held, and keys and values."""
    tokenizer: TextTokenizer
    start_ids: tuple[int, ...]
    """Tokens that stand before a text; none where texts begin with their first word."""
    end_ids: frozenset[int]
    """Tokens that end a text."""

    @property
    def identity(self) -> dict[str, Any]:
        """What its speed on an engine follows from, in JSON."""
        return identity_of(self.module, self.forms, self.activations)


def load_text(folder: Path, precision: Precision | None = None) -> LoadedText:
    """Return the language model of a folder.

    Args:
        folder: Of a run, or in the Hugging Face layout.
        precision: None is as stored.

    Raises:
        RunFolderError: There is no model, or it does not load.
        DataError: There is no tokenizer beside it, or one that is not its own.
        UsageError: An unknown precision, one that the model cannot have, or a model that does not write text.
    """
    model_path = RunFolder(folder).find_model()
    shape = None if is_ours(model_path) else HFSpec.usual_shape({"path": str(model_path)})
    module, spec = load(model_path, shape)
    module = module.eval().requires_grad_(requires_grad=False)
    heads = cached_heads(module)  # refuses what writes no text
    tokenizer = open_tokenizer(str(model_path))
    require_known_tokens(tokenizer, seen_by(spec).vocab_size, model_path)
    return LoadedText(
        module=module,
        spec=spec,
        heads=heads,
        forms=in_precision(module, read_forms(model_path, module), precision),
        activations=read_activations(model_path),
        tokenizer=tokenizer,
        start_ids=start_ids(tokenizer),
        end_ids=end_ids(model_path, tokenizer),
    )


def end_ids(folder: Path, tokenizer: TextTokenizer) -> frozenset[int]:
    """Return the tokenizer's end of text and those that `generation_config.json` adds."""
    ends = _generation_config(folder).get("eos_token_id")
    more = ends if isinstance(ends, list) else [ends]
    return frozenset((tokenizer.end_id, *(one for one in more if isinstance(one, int))))


def _generation_config(folder: Path) -> dict[str, Any]:
    path = folder / "generation_config.json"
    if not path.is_file():
        return {}
    try:
        asked: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RunFolderError(
            f"{path}, which says where texts end, is truncated or not valid JSON.", hint=f"rm {path}"
        ) from None
    if not isinstance(asked, dict):
        raise RunFolderError(
            f"{path} must hold a mapping of keys to values.", got=type(asked).__name__, hint=f"rm {path}"
        )
    return asked


def start_ids(tokenizer: TextTokenizer) -> tuple[int, ...]:
    """Return what the tokenizer itself puts before a text, else the token by which somebody's model knows a beginning."""
    first = (tokenizer.given or {}).get("bos_token")
    if tokenizer.prefix or first in (None, END_OF_TEXT):
        return tokenizer.prefix
    return (tokenizer.backend.get_vocab()[first],)
