"""A module that gives each text one vector of unit length.

Legend: B texts, T tokens of the longest, W width, E numbers of an embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.errors import UsageError
from kleiber.infer.embedding.pooling import Pooling, pooled
from kleiber.models import is_ours, load
from kleiber.models.dual.module import Dual
from kleiber.models.encoder.module import Encoder
from kleiber.models.family import FamilyModule
from kleiber.models.hf.module import HF
from kleiber.models.padding import is_token
from kleiber.runs import DataShape

__all__ = ["SentenceEncoder", "load_encoder"]

_LONGEST = 8192
"""Tokens of a text whatever a model has positions for: the memory of attention may grow with their square."""


class SentenceEncoder(nn.Module):
    """An encoder and what pools its vectors.

    Args:
        trunk: Holds the weights.
        pooling: Of its vectors; has no effect on a tower, which pools by itself.
        pad_id: The token that fills short texts.
    """

    def __init__(self, trunk: FamilyModule, pooling: Pooling, pad_id: int) -> None:
        super().__init__()
        self.trunk = trunk
        self._pooling: Pooling = pooling
        self._pad_id = pad_id

    @property
    def spec(self) -> Any:
        """Of the trunk."""
        return self.trunk.spec

    @property
    def config(self) -> Any:
        """What transformers built the trunk with; None of a family of ours."""
        return getattr(self.trunk, "config", None)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return embeddings of unit length, [B, E].

        Args:
            tokens_BT: Token numbers, int64, padded at their ends.
        """
        if isinstance(self.trunk, Dual):
            return self.trunk.embed_texts(tokens_BT)
        is_token_BT = is_token(tokens_BT, self._pad_id)
        return F.normalize(pooled(self._states(tokens_BT, is_token_BT), is_token_BT, self._pooling), dim=-1)

    def _states(self, tokens_BT: Tensor, is_token_BT: Tensor) -> Tensor:
        """Return the vectors of the last layer, [B, T, W]."""
        if isinstance(self.trunk, Encoder):
            return self.trunk.states(tokens_BT)
        whole: Any = self.trunk.model
        states_BTW: Tensor = whole.base_model(
            input_ids=tokens_BT, attention_mask=is_token_BT.long()
        ).last_hidden_state
        return states_BTW


def load_encoder(folder: Path, tokenizer: TextTokenizer) -> FamilyModule:
    """Return the module in a model's folder [fp32, CPU, in evaluation mode].

    Args:
        folder: With `config.json` and weights.
        tokenizer: Its own.

    Raises:
        UsageError: It is no encoder of texts.
        RunFolderError: A file is missing or truncated.
        RecipeError: transformers cannot build it.
        MissingExtraError: It needs transformers, which is not installed.
    """
    module, _ = load(folder, None if is_ours(folder) else _read_as(folder, tokenizer))
    if isinstance(module, HF):
        _require_encoder(folder, module.config)
    elif not isinstance(module, Encoder | Dual):
        raise _no_encoder(folder, module.title)
    return module.eval().requires_grad_(requires_grad=False)


def _read_as(folder: Path, tokenizer: TextTokenizer) -> DataShape:
    """Return data that an encoder of transformers takes; the head that goes with it is not used.

    Raises:
        UsageError: It is no encoder, which its config tells before its weights are read.
    """
    from kleiber.models.foreign.transformers_config import open_config  # noqa: PLC0415 - transformers takes seconds
    from kleiber.models.foreign.transformers_inputs import num_positions  # noqa: PLC0415 - the same

    config = open_config(folder).config
    _require_encoder(folder, config)
    longest = min(num_positions(config) or _LONGEST, _LONGEST)
    return DataShape(
        inputs="tokens",
        vocab_size=tokenizer.vocab_size,
        context=longest,
        num_outputs=2,
        pad_id=tokenizer.pad_id,
    )


def _require_encoder(folder: Path, config: Any) -> None:
    """Refuse what does not read both sides of a word: what does has a head that fills in masked words."""
    from transformers import MODEL_FOR_MASKED_LM_MAPPING  # noqa: PLC0415 - takes seconds to import, and is an extra

    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING or config.is_encoder_decoder:
        raise _no_encoder(folder, config.model_type)


def _no_encoder(folder: Path, kind: str) -> UsageError:
    return UsageError(
        f"{folder} gives no embeddings of texts: encoders such as BERT do, and the text side of two towers.",
        got=kind,
        hint="a folder of an encoder, such as all-MiniLM-L6-v2",
    )
