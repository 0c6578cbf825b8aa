"""An encoder of texts behind an engine.

Legend: N texts, B texts of a batch, T tokens of the longest, E numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from kleiber.data.given_tokenizer import open_tokenizer
from kleiber.errors import KleiberError, UsageError
from kleiber.infer.classification.texts import FramedTexts
from kleiber.infer.embedding.declared import read_declared
from kleiber.infer.embedding.pooling import Pooling
from kleiber.infer.embedding.sentence_encoder import SentenceEncoder, load_encoder
from kleiber.infer.engines import EngineName, open_predictor
from kleiber.infer.fastest_predictor import fastest_predictor
from kleiber.infer.predictor import Predictor
from kleiber.models.stored import read_activations, read_forms
from kleiber.runs import RunFolder

__all__ = ["Embedder", "open_embedder"]

_BATCH = 32
"""Texts that go through the model at once: enough for its speed, and little memory."""
_EXAMPLE_TOKENS = 32
"""Of the text that engines are measured on: a sentence or two."""


@dataclass(frozen=True)
class Embedder:
    """Gives texts embeddings of unit length: the product of two is the cosine between them."""

    folder: Path
    """Of the run or the model."""
    texts: FramedTexts
    pooling: Pooling
    predictor: Predictor

    @property
    def engine(self) -> str:
        """What computes it."""
        return self.predictor.engine

    @property
    def precision(self) -> str:
        """What it computes in."""
        return self.predictor.precision

    @property
    def context(self) -> int:
        """Tokens that a text may have, with those that the tokenizer puts around it."""
        return self.texts.context

    def tokens_of(self, text: str | Sequence[int]) -> list[int]:
        """Return the tokens of a text in the tokenizer's frame; a special token that it spells is read as the text that it is.

        Args:
            text: Or its tokens, as they are.

        Raises:
            UsageError: It is empty, longer than the context, or a token is none of the vocabulary.
        """
        tokenizer = self.texts.tokenizer
        own = self.texts.tokens_of(text) if isinstance(text, str) else list(text)
        if not own:
            raise UsageError("a text to embed is empty.", got=text, hint="a text with a word")
        framed = [*tokenizer.prefix, *own, *tokenizer.suffix] if isinstance(text, str) else own
        if len(framed) > self.context:
            raise UsageError(
                f"a text to embed is {len(framed):,} tokens long; the model reads at most {self.context:,}.",
                hint="a shorter text, or its parts",
            )
        wrong = next((token for token in own if not 0 <= token < tokenizer.vocab_size), None)
        if wrong is not None:
            raise UsageError(f"a token of this model is from 0 to {tokenizer.vocab_size - 1}.", got=wrong)
        return framed

    def embed(self, tokens: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """Return embeddings [N, E], in order.

        Args:
            tokens: Of each text, as `tokens_of` gives them.

        Raises:
            KleiberError: The model's output is not finite.
        """
        # Texts of like length go together: little of a batch is padding.
        order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
        parts = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
        batches = [self.predictor(self._batch([tokens[index] for index in part])) for part in parts]
        found_NE = np.concatenate(batches).astype(np.float32, copy=False)
        if not np.isfinite(found_NE).all():
            raise KleiberError(f"{self.folder} gave an embedding that is not finite.")
        embeddings_NE = np.empty_like(found_NE)
        embeddings_NE[order] = found_NE
        return embeddings_NE

    def _batch(self, tokens: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
        longest = max(map(len, tokens))
        tokens_BT = np.full((len(tokens), longest), self.texts.tokenizer.pad_id, np.int64)
        for row_T, one in zip(tokens_BT, tokens, strict=True):
            row_T[: len(one)] = one
        return tokens_BT


def open_embedder(
    folder: Path | str,
    *,
    engine: EngineName | Literal["auto"] = "torch",
    num_threads: int | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Embedder:
    """Return the encoder of a folder.

    Args:
        folder: Of a run whose model is an encoder or has two towers, or in the Hugging Face layout, that of
            sentence-transformers included.
        engine: Computes it; `auto` measures those that are installed, once for a model of these sizes on this machine.
        num_threads: None takes torch's number.
        on_progress: Is told which engine is measured.

    Raises:
        RunFolderError: There is no model, or it does not load.
        DataError: There is no tokenizer beside it.
        UsageError: It is no encoder of texts, pools in a way that is not known here, or an unknown engine.
        MissingExtraError: The engine's package is not installed.
        RecipeError: The engine does not take the model.
    """
    path = RunFolder(Path(folder)).find_model()
    tokenizer, declared = open_tokenizer(str(path)), read_declared(path)
    trunk = load_encoder(path, tokenizer)
    spec: Any = trunk.spec
    context = min(spec.shape.context, declared.max_tokens or spec.shape.context)
    module = SentenceEncoder(trunk, declared.pooling, tokenizer.pad_id).eval()
    example_1T = torch.arange(min(context, _EXAMPLE_TOKENS))[None] % tokenizer.vocab_size
    given: dict[str, Any] = {
        "forms": {f"trunk.{name}": form for name, form in read_forms(path, trunk).items()},
        "activations": read_activations(path),
        "num_threads": num_threads,
    }
    if engine == "auto":
        predictor, _ = fastest_predictor(module, [example_1T], **given, on_progress=on_progress)
    else:
        predictor = open_predictor(engine, module, [example_1T], **given)
    return Embedder(Path(folder), FramedTexts(tokenizer, context), declared.pooling, predictor)
