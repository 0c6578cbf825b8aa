"""What a classifier says of a sample.

Legend: B samples, K classes, O outputs of the model: K, or 1 where two classes are told apart by one number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.runs import DataMeta, TaskRecipe

__all__ = ["Answer", "class_names", "probabilities"]


@dataclass(frozen=True)
class Answer:
    """A probability for each class.

    Example:
        >>> answer = Answer(("cat", "dog"), np.array([0.25, 0.75]))
        >>> answer.predicted, answer.confidence_frac, answer.top(1)
        ('dog', 0.75, [('dog', 0.75)])
    """

    classes: tuple[str, ...]
    """Names [K]."""
    probs_K: npt.NDArray[np.float64]
    """They add up to 1, but where the run learnt each class by itself."""

    @property
    def predicted(self) -> str:
        """The likeliest class; of equally likely ones the first."""
        return self.classes[int(self.probs_K.argmax())]

    @property
    def confidence_frac(self) -> float:
        """Its probability."""
        return float(self.probs_K.max())

    def top(self, num: int) -> list[tuple[str, float]]:
        """Return the likeliest classes with their probabilities, the likeliest first."""
        order = np.argsort(-self.probs_K, kind="stable")[:num]
        return [(self.classes[index], float(self.probs_K[index])) for index in order]

    def document(self, num: int) -> dict[str, Any]:
        """Return what a program reads of it: `predicted`, `confidence_frac`, and `top` with so many classes."""
        top = [{"class": name, "prob_frac": prob} for name, prob in self.top(num)]
        return {"predicted": self.predicted, "confidence_frac": self.confidence_frac, "top": top}


def probabilities(outputs_BO: npt.NDArray[np.floating], task: TaskRecipe) -> npt.NDArray[np.float64]:
    """Return the probability of each class, [B, K].

    Args:
        outputs_BO: Of the model.
        task: Cross-entropy was learnt over all classes: they share 1. Binary cross-entropy was learnt of each by itself; of a
            single output it is the second of two classes.

    Example:
        >>> probabilities(np.log([[1.0, 3.0]]), TaskRecipe(name="classification")).round(2).tolist()
        [[0.25, 0.75]]
        >>> probabilities(np.log([[3.0]]), TaskRecipe(name="classification", loss="binary_cross_entropy")).round(2).tolist()
        [[0.25, 0.75]]
    """
    logits_BO = outputs_BO.astype(np.float64)
    if task.minimized == "cross_entropy":
        weights_BK = np.exp(logits_BO - logits_BO.max(1, keepdims=True))
        shares_BK: npt.NDArray[np.float64] = weights_BK / weights_BK.sum(1, keepdims=True)
        return shares_BK
    # By tanh: exp of a large negative log-odds would overflow.
    probs_BO: npt.NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * logits_BO))
    return np.concatenate([1 - probs_BO, probs_BO], 1) if logits_BO.shape[1] == 1 else probs_BO


def class_names(meta: DataMeta) -> tuple[str, ...]:
    """Return the names of the classes, their numbers where the data has no names."""
    num = max(2, meta.shape.num_outputs or 0)
    return meta.classes or tuple(str(label) for label in range(num))
