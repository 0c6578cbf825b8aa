"""Sequence to sequence: a text from a text, such as its translation.

Legend: B pairs of a batch, N of a split, S tokens of a source, T of a target, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.data import PAD_ID, Batch, Data, Split
from kleiber.data.sample_data import SampleData
from kleiber.data.targets import counted
from kleiber.models.seq2seq.beam import generate
from kleiber.models.seq2seq.module import Seq2Seq
from kleiber.runs import DataMeta, Estimate, Shown, TaskRecipe
from kleiber.tasks.bleu import bleu
from kleiber.tasks.evaluation import evaluated_split, evaluating, split_batches, tensor
from kleiber.tasks.intervals import ratio_estimate
from kleiber.tasks.metrics import perplexity, require_metrics
from kleiber.tasks.paired import Scores
from kleiber.tasks.show import reader_of, shortened
from kleiber.tasks.task import Metrics

__all__ = ["VAL_DECODED", "SequenceToSequence", "Writer"]

VAL_DECODED = 256
"""Targets that are written out for BLEU at a validation: all of the test split are, once, after training."""


class Writer(Protocol):
    """A module that searches for targets itself."""

    def generate(self, source_BS: Tensor, *, beam_size: int) -> Tensor:
        """Return a target for each source, [B, T], padded at the end."""
        ...


class SequenceToSequence:
    """Cross-entropy of the target's next token [nats/token], its end included, what pads it left out.

    Args:
        recipe: How it is learnt, and how many beams write a target when it is measured.
        meta: Of the data. None where only the cost of the loss is asked.
    """

    def __init__(self, recipe: TaskRecipe, meta: DataMeta | None = None) -> None:
        self._smoothing, self._beam_size = recipe.label_smoothing, recipe.beam_size
        self._end_id = PAD_ID if meta is None else meta.shape.end_id
        if meta is not None:
            require_metrics("sacrebleu")

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the mean over all tokens of the batch's targets."""
        losses_BT, counted_BT = _losses(module, batch, self._smoothing, self._end_id)
        return losses_BT.sum() / counted_BT.sum()

    def weight(self, batch: Batch) -> float:
        """Return the number of tokens of the targets."""
        return float(counted(tensor(batch, "target")[:, 1:], self._end_id).sum())

    def evaluate(self, module: nn.Module, data: Data, split: Split = "val") -> Metrics:
        """Return loss, BLEU of what is written by greedy or beam search, and perplexity."""
        losses_N, num_tokens_N = self._sums(module, data, split)
        loss, reach = ratio_estimate(losses_N, num_tokens_N)
        values: dict[str, Estimate] = {}
        if data.tokenizer_path is not None:
            pairs = self._translations(module, data, split, None if split == "test" else VAL_DECODED)
            values["bleu"] = bleu([said for _, _, said in pairs], [meant for _, meant, _ in pairs])
        if (confusion := perplexity(losses_N, num_tokens_N)) is not None:
            values["perplexity"] = confusion
        return Metrics(loss, reach, len(losses_N), values)

    def scores(self, module: nn.Module, data: Data, split: Split = "val") -> Scores:
        """Return the mean loss of each target's tokens, and how many they are."""
        losses_N, num_tokens_N = self._sums(module, data, split)
        return Scores(losses_N / num_tokens_N, num_tokens_N)

    def show(self, module: nn.Module, data: Data, num: int = 16) -> Sequence[Shown]:
        """Return the first samples that are held out: source, target, and what the module writes; none is right or wrong."""
        split = evaluated_split(data)
        return [
            Shown(text=shortened(source), expected=shortened(meant), predicted=shortened(said))
            for source, meant, said in self._translations(module, data, split, num)
        ]

    def _sums(
        self, module: nn.Module, data: Data, split: Split
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the loss of all tokens of each target together, and how many they are, [N] each."""
        sums, counts = [], []
        with evaluating(module):
            for batch in split_batches(data, split):
                losses_BT, counted_BT = _losses(module, batch, 0.0, self._end_id)
                sums.append(losses_BT.double().sum(1).numpy())
                counts.append(counted_BT.double().sum(1).numpy())
        return np.concatenate(sums), np.concatenate(counts)

    def _translations(
        self, module: nn.Module, data: Data, split: Split, most: int | None
    ) -> list[tuple[str, str, str]]:
        """Return source, target and what the module writes, of the first samples of a split; a target that learning cuts is whole."""
        rows: list[tuple[str, str, str]] = []
        read = reader_of(data)
        whole = data.whole_texts(split, "target") if isinstance(data, SampleData) else None
        for batch in split_batches(data, split):
            kept = slice(None if most is None else most - len(rows))
            source_BS = tensor(batch, "source")[kept]
            said_BT = _written(module, source_BS, self._beam_size)
            if whole is None:
                meant = read(batch.arrays["target"][kept])
            else:
                meant = [read(tokens_T[None])[0] for tokens_T in islice(whole, len(source_BS))]
            rows += zip(read(source_BS.numpy()), meant, read(said_BT.numpy()), strict=True)
            if len(rows) == most:
                break
        return rows


def _written(module: nn.Module, source_BS: Tensor, beam_size: int) -> Tensor:
    """Return a target for each source, [B, T]: by our own search, or by the module's where it is not of our family."""
    if isinstance(module, Seq2Seq):
        return generate(module, source_BS, beam_size=beam_size)
    return cast("Writer", module).generate(source_BS, beam_size=beam_size)


def _losses(module: nn.Module, batch: Batch, smoothing: float, end_id: int) -> tuple[Tensor, Tensor]:
    """Return the loss of each token of the targets, 0 of those that pad, and which those are not, [B, T] each."""
    target = tensor(batch, "target")
    read_BT, asked_BT = target[:, :-1], target[:, 1:]
    logits_BTV = module(tensor(batch, "source"), read_BT)
    losses_BT = F.cross_entropy(
        logits_BTV.flatten(0, 1), asked_BT.flatten(), reduction="none", label_smoothing=smoothing
    ).view_as(asked_BT)
    counted_BT = counted(asked_BT, end_id)
    return losses_BT * counted_BT, counted_BT
