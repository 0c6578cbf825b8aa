"""Gradients of a trained model: how noisy they are, and how many bytes they and the weights take to send.

Legend: K micro-batches, P parameters.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kleiber.cost.storage import served_bytes
from kleiber.models import load
from kleiber.runs import Estimate, Recipe, RunFolder
from kleiber.study.growing.measured import Gradient, measured_path
from kleiber.study.growing.opened import opened
from kleiber.tasks import task_of
from kleiber.train import Progress

__all__ = ["measure_gradient", "noise_scale", "packed_bytes"]

_MAX_BYTES = 256e6
"""Of all gradients that are held at once."""
_NUM_BATCHES = (8, 32)
_T_95 = 1.96
_LEVELS = 127


def noise_scale(gradients_KP: npt.NDArray[np.floating], batch_units: float) -> Estimate | None:
    """Return the simple noise scale B = tr(S) / |G|^2 with its 95% interval from a jackknife over micro-batches.

    Of two batch sizes, one micro-batch and all of them together, E|G_B|^2 = |G|^2 + tr(S)/B.

    Args:
        gradients_KP: One of each micro-batch, two or more.
        batch_units: Tokens or samples of one.

    Returns:
        [tokens or samples]; None where the micro-batches do not tell |G|^2 from zero.

    Source:
        McCandlish et al. 2018, arXiv:1812.06162, appendix A.1.

    Example:
        >>> noise_scale(np.array([[2.0, 1.0], [2.0, -1.0]]), 8)  # |G|^2 = 3, tr(S) = 8 x 2; no interval from two
        Estimate(value=5.333333333333333, low=5.333333333333333, high=5.333333333333333)
    """
    K = len(gradients_KP)
    gram_KK = (gradients_KP @ gradients_KP.T).astype(np.float64)
    whole = _scale_of(gram_KK, batch_units)
    if whole is None:
        return None
    if K < 3:
        return Estimate(value=whole, low=whole, high=whole)
    # In logs: the scale is a ratio of positive numbers.
    left_out = [_scale_of(np.delete(np.delete(gram_KK, k, axis=0), k, axis=1), batch_units) for k in range(K)]
    if any(one is None for one in left_out):
        return None
    logs = np.log(np.array(left_out, dtype=np.float64))
    error = np.sqrt((K - 1) / K * ((logs - logs.mean()) ** 2).sum())
    return Estimate(
        value=whole, low=float(whole * np.exp(-_T_95 * error)), high=float(whole * np.exp(_T_95 * error))
    )


def _scale_of(gram_KK: npt.NDArray[np.float64], batch_units: float) -> float | None:
    K = len(gram_KK)
    small, large = float(np.trace(gram_KK)) / K, float(gram_KK.sum()) / K**2
    squared_norm = (K * large - small) / (K - 1)
    trace = (small - large) * batch_units * K / (K - 1)
    return trace / squared_norm if squared_norm > 0 and trace > 0 else None


def packed_bytes(tensors: list[Tensor]) -> int:
    """Return the bytes of tensors in 8 bits with one fp32 scale a row, deflated.

    Example:
        >>> packed_bytes([torch.zeros(100, 100)]) < 1000
        True
    """
    packer, total = zlib.compressobj(level=6), 0
    for tensor in tensors:
        rows_RC = tensor.detach().float().reshape(len(tensor) if tensor.dim() > 1 else 1, -1)
        scale_R1 = rows_RC.abs().amax(1, keepdim=True) / _LEVELS
        codes_RC = torch.round(rows_RC / scale_R1.clamp_min(1e-30)).to(torch.int8)
        for part in (scale_R1, codes_RC):
            total += len(packer.compress(np.ascontiguousarray(part.numpy()).tobytes()))
    return total + len(packer.flush())


def measure_gradient(
    recipe: Recipe, member: str, run: Path, folder: Path, report: Callable[[Progress], None]
) -> None:
    """Write what gradients of a finished run's model say, and what they and its weights weigh.

    Args:
        recipe: Of the run.
        member: Name of its size.
        run: Its folder.
        folder: The study.
        report: Is told how far it is.
    """
    torch.set_num_threads(1)
    module, spec = load(RunFolder(run).find_model())
    data = opened(recipe)
    task, size = task_of(recipe.task, data.meta), recipe.train.batch_size
    count = spec.count()
    low, high = _NUM_BATCHES
    K = int(min(high, max(low, _MAX_BYTES / 4 / count.total)))
    module.train()
    params = [param for param in module.parameters() if param.requires_grad]
    gradients, last = [], []
    # The batches that training would have gone on with.
    coming = data.batches("train", recipe.train.num_steps * size, size)
    for k, batch in enumerate(itertools.islice(coming, K)):
        loss = task.loss(module, batch)
        last = list(torch.autograd.grad(loss, params, allow_unused=True, materialize_grads=True))
        gradients.append(torch.cat([one.reshape(-1) for one in last]).numpy())
        report(Progress(f"{member} gradients", k + 1, K, float(loss.detach()), 0.0, data.meta.unit))
    weights = RunFolder(run).find_model() / "model.safetensors"
    Gradient(
        member=member,
        batch_size=size,
        num_batches=K,
        noise_scale=noise_scale(np.stack(gradients), size * recipe.tokens_per_sample),
        stored_bytes=weights.stat().st_size,
        planned_stored_bytes=served_bytes(count.total, "safetensors-fp32"),
        packed_bytes=packed_bytes(params),  # type: ignore[arg-type] # parameters are tensors
        gradient_bytes=4 * sum(one.numel() for one in last),
        packed_gradient_bytes=packed_bytes(last),
    ).write(measured_path(folder, Gradient, member))
