"""How far a student's distribution is from its teacher's.

Legend: N places at which something is predicted, K outcomes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from kleiber.runs.recover_recipe import DivergenceName

__all__ = ["divergence"]


def divergence(
    student_NK: Tensor,
    teacher_NK: Tensor,
    name: DivergenceName = "forward",
    *,
    temperature: float = 1.0,
    skew: float = 0.1,
) -> Tensor:
    """Return the divergence at each place, times the square of the temperature [N, nats].

    The square keeps the gradient as large as it is at temperature 1.

    Args:
        student_NK: Logits.
        teacher_NK: Logits.
        name: `forward` is KL(teacher, student), which covers all that the teacher says; `reverse` KL(student, teacher), which
            keeps to its likeliest; `skew` KL(teacher, mixture of both).
        temperature: Divides the logits.
        skew: Share of the teacher in the mixture.

    Source:
        Hinton et al. 2015, arXiv:1503.02531, section 2; Ko et al. 2024, arXiv:2402.03898, equation 3.

    Example:
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.log(torch.tensor([[0.75, 0.25]]))
        >>> round(divergence(student, teacher).item(), 4)  # ln 2 less the entropy of (3/4, 1/4)
        0.1308
    """
    student_NK, teacher_NK = (
        F.log_softmax(logits.flatten(0, -2).float() / temperature, -1) for logits in (student_NK, teacher_NK)
    )
    if name == "reverse":
        student_NK, teacher_NK = teacher_NK, student_NK
    elif name == "skew":
        student_NK = torch.logaddexp(math.log(skew) + teacher_NK, math.log1p(-skew) + student_NK)
    return (teacher_NK.exp() * (teacher_NK - student_NK)).sum(-1) * temperature**2
