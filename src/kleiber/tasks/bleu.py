"""BLEU of translations, by sacrebleu, with an interval over the sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kleiber.runs import Estimate

__all__ = ["bleu", "tokenization"]

_NUM_RESAMPLES = 1000
_UNSPACED = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""Chinese characters: between them no spaces tell words apart."""


def tokenization(references: Sequence[str]) -> str:
    """Return sacrebleu's name of how to cut references into words: `zh` where most letters are Chinese, else `13a`.

    Example:
        >>> tokenization(["我不知道。", "Tom 笑了"]), tokenization(["I do not know."])
        ('zh', '13a')
    """
    letters = [character for text in references for character in text if character.isalpha()]
    num_chinese = sum(bool(_UNSPACED.match(letter)) for letter in letters)
    return "zh" if 2 * num_chinese > len(letters) else "13a"


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> Estimate:
    """Return the corpus's BLEU, 0 to 100, as sacrebleu counts it, with the interval of bootstrap over sentences.

    Source:
        Papineni et al. 2002; Post 2018, arXiv:1804.08771; Koehn 2004, section 3, for the interval.
    """
    from sacrebleu.metrics.bleu import BLEU  # noqa: PLC0415 - an extra

    # effective_order changes a sentence's score, not its counts, and keeps sacrebleu from warning of it.
    scorer = BLEU(tokenize=tokenization(references), effective_order=True)
    scores = [
        scorer.sentence_score(said, [meant]) for said, meant in zip(hypotheses, references, strict=True)
    ]
    counts = np.array([[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in scores])

    def of(summed: npt.NDArray[np.int64]) -> float:
        numbers = summed.tolist()
        corpus = BLEU.compute_bleu(
            numbers[:4], numbers[4:8], sys_len=numbers[8], ref_len=numbers[9], smooth_method="exp"
        )
        return float(corpus.score)

    rng = np.random.Generator(np.random.Philox(0))
    num, value = len(counts), of(counts.sum(0))
    drawn = [of(counts[rng.integers(num, size=num)].sum(0)) for _ in range(_NUM_RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return Estimate(value=value, low=min(low, value), high=max(high, value))
