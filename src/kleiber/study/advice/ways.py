"""The routes to a quality, as numbers: what each adds to or takes from training a model and serving it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from kleiber.study.advice.served import PLAIN, Served
from kleiber.study.advice.spread import Spread

__all__ = ["PUBLISHED_COMPRESSION", "RouteName", "Start", "Way", "grown", "optimum_way", "smaller_way"]

RouteName = Literal["optimum", "smaller", "grow", "compress"]

_NONE = Spread.exact(0.0)
_ONE = Spread.exact(1.0)
_GROWTH = Spread(0.40, 0.33, 0.47, is_uniform=True)
"""Training operations saved by growing Transformers of text: LEMON 33.2% on BERT (Wang et al. 2023, arXiv:2310.07999, abstract), LiGO
and bert2BERT about 45 to 47% (arXiv:2303.00980, arXiv:2110.07143), stacking 35% fewer tokens at 7 B (arXiv:2405.15319)."""


@dataclass(frozen=True)
class Start:
    """A trained model that another is grown from."""

    run: str
    num_params: float
    """N, by the law's convention."""
    loss: float
    """Measured [nats/token]."""
    train_flops: float
    """That it took; spent already."""


@dataclass(frozen=True)
class Way:
    """One route, before its size is sought."""

    name: RouteName
    title: str
    rests_on: str
    """What its numbers come from, a sentence."""
    is_trained_alone: bool = False
    """Whether its size is that which is cheapest to train, whatever it costs to serve."""
    rise: Spread = _NONE
    """Of the loss, by compression [nats/token]."""
    train_factor: float = 1.0
    """On the cost of training: what recovery after compression adds."""
    saving: Spread = _NONE
    """Part of the training that a grown model is spared."""
    served: Served = PLAIN
    serve_factor: Spread = field(default=_ONE)
    """On the time of serving: how sure the measured ratios are."""
    start: Start | None = None

    @property
    def least_params(self) -> float:
        """No size below this can take the route."""
        return 0.0 if self.start is None else self.start.num_params


def optimum_way() -> Way:
    """Return training the size that reaches the quality with the least training."""
    return Way(
        "optimum",
        "train the optimum",
        "The size that is cheapest to train to this loss under the law.",
        is_trained_alone=True,
    )


def smaller_way() -> Way:
    """Return training a smaller model for longer: the least cost of training and serving together.

    Source:
        Sardana et al. 2024, arXiv:2401.00448, equation 3.
    """
    return Way(
        "smaller",
        "smaller and longer",
        "The size of the least cost of training and serving together (Sardana et al. 2024, arXiv:2401.00448).",
    )


def grown(start: Start) -> Way:
    """Return growing a model from a trained one."""
    return Way(
        "grow",
        f"grow from {start.run}",
        f"Growing is taken to save {_GROWTH.low:.0%} to {_GROWTH.high:.0%} of the training, as papers on text models report "
        "(arXiv:2310.07999, 2303.00980, 2110.07143, 2405.15319), and never more than the law's tokens to the donor's own loss; "
        "nothing of it was measured here.",
        saving=_GROWTH,
        start=start,
    )


PUBLISHED_COMPRESSION = Way(
    "compress",
    "large, then 4 bits",
    "Weights in 4 bits are taken to raise perplexity 1.011 to 1.073 times, as published of Llama-2-7B in groups of 128 "
    "(EfficientQAT, arXiv:2407.11062: 5.53 of 5.47; AWQ 5.60; GPTQ 5.87), at 4.25 of 16 bits; smaller models lose more, and "
    "nothing of it was measured here: --receipts takes what was.",
    rise=Spread((math.log(1.011) + math.log(1.073)) / 2, math.log(1.011), math.log(1.073), is_uniform=True),
    served=Served(bytes_ratio=4.25 / 16),
)
"""Four bits a weight and two 16-bit numbers for each 128: what is assumed where no receipt is given. Operations stay as they were."""
