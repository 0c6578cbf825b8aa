"""Contrastive image and text: which text belongs to which image.

Legend: B pairs of a batch, N of a split, C distinct captions, T tokens, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.data import Batch, Data, Split
from kleiber.runs import DataMeta, Shown, TaskRecipe
from kleiber.tasks.evaluation import (
    evaluated_split,
    evaluating,
    gathered,
    model_inputs,
    split_batches,
    tensor,
)
from kleiber.tasks.intervals import half_width
from kleiber.tasks.metrics import recall_at
from kleiber.tasks.paired import Scores
from kleiber.tasks.retrieval import Retrieval
from kleiber.tasks.show import MAX_POOL, reader_of, sample_fields, shortened, wrong_first
from kleiber.tasks.task import Metrics

__all__ = ["Contrastive"]


class Contrastive:
    """Cross-entropy of finding each image's text among a batch's, and each text's image [nats].

    Captions that are the same text are all right answers, in equal shares: a class's name written under each of its images
    would otherwise count as wrong for all but one. Where all captions differ it is CLIP's loss.

    Source:
        Radford et al. 2021, arXiv:2103.00020, figure 3; Yang et al. 2022, arXiv:2204.03610, eq. 3 to 5, for equal captions.
    """

    def __init__(self, recipe: TaskRecipe, meta: DataMeta | None = None) -> None:
        del recipe, meta

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the mean over both directions and all pairs of the batch."""
        images_BE, texts_BE, scale = module(*model_inputs(batch))
        return _losses(images_BE, texts_BE, scale, tensor(batch, "tokens")).mean()

    def weight(self, batch: Batch) -> float:
        """Return the number of pairs."""
        return len(batch)

    def evaluate(self, module: nn.Module, data: Data, split: Split = "val") -> Metrics:
        """Return the loss within batches of a fixed size, and how often what is sought is found among the whole split."""
        retrieval, losses_N = _retrieve(module, data, split)
        to_text, to_image = retrieval.text_ranks(), retrieval.image_ranks()
        values = {
            "image_to_text_recall_at_1": recall_at(1, to_text),
            "image_to_text_recall_at_5": recall_at(5, to_text),
            "text_to_image_recall_at_1": recall_at(1, to_image),
            "text_to_image_recall_at_5": recall_at(5, to_image),
        }
        return Metrics(float(losses_N.mean()), half_width(losses_N.numpy()), len(losses_N), values)

    def scores(self, module: nn.Module, data: Data, split: Split = "val") -> Scores:
        """Return the loss of each pair within its batch, and whether its image finds its text first among the whole split."""
        retrieval, losses_N = _retrieve(module, data, split)
        return Scores(losses_N.numpy(), np.ones(len(losses_N)), retrieval.text_ranks() == 0)

    def show(self, module: nn.Module, data: Data, num: int = 16) -> Sequence[Shown]:
        """Return images that are held out, with their own text and the one found for each; wrong ones first."""
        split = evaluated_split(data)
        retrieval, _ = _retrieve(module, data, split, most=MAX_POOL)
        found_N, confidence_N = retrieval.best_texts()
        chosen = wrong_first(found_N == retrieval.caption_of, num)
        captions = [shortened(text) for text in reader_of(data)(retrieval.captions)]
        arrays = gathered(data, split, chosen)
        fields = sample_fields({"images": arrays["images"]}, data)
        return [
            Shown(
                **fields[position],
                expected=captions[retrieval.caption_of[index]],
                predicted=captions[found_N[index]],
                is_right=bool(found_N[index] == retrieval.caption_of[index]),
                confidence_frac=float(confidence_N[index]),
            )
            for position, index in enumerate(chosen)
        ]


def _losses(images_BE: Tensor, texts_BE: Tensor, scale: Tensor, tokens_BT: Tensor) -> Tensor:
    """Return the mean over both directions of each pair's loss, [B]."""
    logits_BB = scale * images_BE @ texts_BE.T
    caption_B = torch.unique(tokens_BT, dim=0, return_inverse=True)[1]
    equal_BB = (caption_B[:, None] == caption_B).to(logits_BB.dtype)
    shares_BB = equal_BB / equal_BB.sum(1, keepdim=True)
    to_text_B = F.cross_entropy(logits_BB, shares_BB, reduction="none")
    return (to_text_B + F.cross_entropy(logits_BB.T, shares_BB, reduction="none")) / 2


def _retrieve(
    module: nn.Module, data: Data, split: Split, *, most: int | None = None
) -> tuple[Retrieval, Tensor]:
    """Return the embeddings of a split's pairs, and the loss of each within its batch [N]."""
    images, captions, tokens, losses = [], [], [], []
    scale = torch.ones(())
    with evaluating(module):
        for batch in split_batches(data, split):
            images_BE, texts_BE, scale = module(*model_inputs(batch))
            images.append(images_BE)
            captions.append(texts_BE)
            tokens.append(batch.arrays["tokens"])
            losses.append(_losses(images_BE, texts_BE, scale, tensor(batch, "tokens")))
            if most is not None and batch.cursor >= most:
                break
    retrieval = Retrieval.of(
        torch.cat(images).numpy(), torch.cat(captions).numpy(), np.concatenate(tokens), scale=float(scale)
    )
    return retrieval, torch.cat(losses).double()
