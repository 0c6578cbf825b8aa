"""Texts from texts, such as translations, written by the search of their model.

Legend: B texts, S tokens of a source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from kleiber.data.text_tokenizer import TextTokenizer, saved_tokenizer
from kleiber.errors import UsageError
from kleiber.infer.vocabulary import require_known_tokens
from kleiber.models import ARCHITECTURES, load
from kleiber.models.config_file import read_architecture, read_config
from kleiber.models.hf.module import HF
from kleiber.models.hf.spec import HFSpec
from kleiber.models.seen_data import seen_by
from kleiber.models.seq2seq.beam import generate
from kleiber.models.seq2seq.module import Seq2Seq
from kleiber.runs import RunFolder

__all__ = ["Translator", "is_translator", "open_translator"]

_NUM_AT_ONCE = 16
"""Texts that are written side by side, each with its beams."""


def is_translator(folder: Path) -> bool:
    """Return whether a run or a model's folder writes a text from a text.

    Raises:
        RunFolderError: There is no model, or its config cannot be read.
    """
    model = RunFolder(folder).find_model()
    if (raw := read_config(model).get(HFSpec.config_key)) is not None:
        return isinstance(raw, dict) and raw.get("shape", {}).get("inputs") == "pairs"
    return ARCHITECTURES.get(read_architecture(model)) == "seq2seq"


def open_translator(folder: Path) -> Translator:
    """Return the model of a run, or of a folder, that writes a text from a text.

    Raises:
        RunFolderError: There is no model, or it does not load.
        DataError: There is no tokenizer beside it, or one that is not its own.
        UsageError: It is a model of another kind.
    """
    if not is_translator(folder):
        raise UsageError(
            f"{folder} does not write a text from a text.", hint="a run of task.name=seq2seq, or no --beams"
        )
    model = RunFolder(folder).find_model()
    loaded, spec = load(model)
    tokenizer = saved_tokenizer(model)
    require_known_tokens(tokenizer, seen_by(spec).vocab_size, model)
    return Translator(cast("Seq2Seq | HF", loaded).eval(), tokenizer)


@dataclass(frozen=True)
class Translator:
    """A model that writes a text from a text."""

    module: Seq2Seq | HF
    tokenizer: TextTokenizer

    def translate(self, texts: Sequence[str], *, num_beams: int = 1) -> list[str]:
        """Return what the model writes from each text.

        Args:
            texts: Not empty, none longer than what the model reads.
            num_beams: Targets of a text that are written side by side, of which the best is kept; 1 takes the likeliest token
                each time.

        Raises:
            UsageError: A text is empty or too long, or there is no beam.
        """
        if num_beams < 1:
            raise UsageError("beams must be 1 or more.", got=num_beams, hint="--beams 4")
        sources = self._encoded(texts)
        written: list[str] = []
        for start in range(0, len(sources), _NUM_AT_ONCE):
            source_BS = self._padded(sources[start : start + _NUM_AT_ONCE])
            tokens_BT = _targets(self.module, source_BS, num_beams)
            decoded = self.tokenizer.backend.decode_batch(tokens_BT.tolist())
            written += [text.strip() for text in decoded]
        return written

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self.tokenizer.encode(texts, separator=self.tokenizer.pad_id)
        ends = encoded.ends.tolist()
        sources = []
        for start, end in zip([0, *(end + 1 for end in ends)], ends, strict=False):
            own = encoded.tokens[start:end].tolist()
            sources.append([*self.tokenizer.prefix, *own, *self.tokenizer.suffix])
            self._require_readable(len(own), len(sources[-1]))
        return sources

    def _require_readable(self, num_own: int, num_tokens: int) -> None:
        context = self.module.spec.shape.context or 0
        if not num_own:
            raise UsageError(
                "the prompt is empty: there is nothing to write a text from.",
                hint='--prompt "Two dogs are playing."',
            )
        if num_tokens > context:
            raise UsageError(
                f"the prompt is {num_tokens} tokens long; the model reads at most {context}.",
                hint="a sentence at a time",
            )

    def _padded(self, sources: list[list[int]]) -> Tensor:
        longest, pad_id = max(map(len, sources)), self.module.spec.shape.pad_id
        return torch.tensor([one + [pad_id] * (longest - len(one)) for one in sources])


def _targets(module: Seq2Seq | HF, source_BS: Tensor, num_beams: int) -> Tensor:
    if isinstance(module, Seq2Seq):
        return generate(module, source_BS, beam_size=num_beams)
    return module.generate(source_BS, beam_size=num_beams)
