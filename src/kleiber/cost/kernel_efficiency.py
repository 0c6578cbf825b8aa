"""How much of a device's peak and bandwidth kernels reach: one table for all devices, never fitted to a run.

Where a device was measured (`kleiber calibrate`), its own rates replace all of this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kleiber.cost.operations import OperationKind

__all__ = [
    "ATTENTION_BACKWARD_FRAC",
    "BACKTEST_SAYS",
    "EFFICIENCIES",
    "FUSED_KINDS",
    "FUSED_PASSES_FRAC",
    "LAUNCH_S",
    "SUSTAINED_FRAC",
    "KernelEfficiency",
    "product_frac",
]


@dataclass(frozen=True)
class KernelEfficiency:
    """What large kernels of one kind reach."""

    compute_frac: float
    """Of the peak of the dtype."""
    bandwidth_frac: float
    """Of the memory's rate."""
    source: str


_MATMUL_FRAC = 0.80
_STREAM_FRAC = 0.85
_MATMUL_SOURCE = (
    "best bf16 products: A100 SXM 0.869, H100 SXM 0.803, H100 as GH200 0.836, MI250X 0.767, MI300X 0.51 to 0.60 "
    "(S. Bekman, Machine Learning Engineering, 'Maximum Achievable Matmul FLOPS comparison table')"
)
_STREAM_SOURCE = "copies reach 0.85 to 0.93 of HBM's rate in STREAM-like benchmarks; from memory"
_ASSUMED = "assumed; no published table was found"

EFFICIENCIES: dict[OperationKind, KernelEfficiency] = {
    "matmul": KernelEfficiency(_MATMUL_FRAC, _STREAM_FRAC, _MATMUL_SOURCE),
    "attention": KernelEfficiency(
        0.50,
        _STREAM_FRAC,
        "FlashAttention-2: 0.50 to 0.73 of an A100's peak (Dao 2023, arXiv:2307.08691); on an H100 0.35, "
        "FlashAttention-3 up to 0.75 there (Shah et al. 2024, arXiv:2407.08608)",
    ),
    "convolution": KernelEfficiency(0.50, _STREAM_FRAC, _ASSUMED),
    "recurrent": KernelEfficiency(0.30, _STREAM_FRAC, _ASSUMED),
    "elementwise": KernelEfficiency(1.0, _STREAM_FRAC, _STREAM_SOURCE),
    "normalization": KernelEfficiency(1.0, _STREAM_FRAC, _STREAM_SOURCE),
    "softmax": KernelEfficiency(1.0, _STREAM_FRAC, _STREAM_SOURCE),
    "reduction": KernelEfficiency(1.0, _STREAM_FRAC, _STREAM_SOURCE),
    "pooling": KernelEfficiency(1.0, _STREAM_FRAC, _STREAM_SOURCE),
    "lookup": KernelEfficiency(1.0, 0.50, _ASSUMED),
    "copy": KernelEfficiency(1.0, _STREAM_FRAC, _STREAM_SOURCE),
    "optimizer": KernelEfficiency(_MATMUL_FRAC, _STREAM_FRAC, _STREAM_SOURCE),
}

ATTENTION_BACKWARD_FRAC = 2 / 2.5
"""Counted over done: flash attention computes the scores again, five products instead of four (arXiv:2307.08691)."""

LAUNCH_S = 3e-6
"""Between two kernels in one stream; published at 2 to 5 microseconds for CUDA."""

FUSED_KINDS: frozenset[OperationKind] = frozenset({"elementwise", "normalization", "reduction", "copy"})
"""What a compiler joins into one kernel."""
FUSED_PASSES_FRAC = 0.22
"""Passes over memory that fused kernels need of those that single operations make. Counted, not measured: norm,
rotation and gated MLP of a `gpt` block, forward and backward, pass 81 times over their tensors; fused, 18 times."""

SUSTAINED_FRAC = 0.87
"""What whole steps reach of what their kernels would one by one: clocks under load, ordinary shapes instead of the best,
the slowest device, the host. The one figure that is fitted: the median of eight published A100 runs, four of Megatron
(Korthikanti et al. 2022, arXiv:2205.05198, table 5: 0.77 to 1.03) and four of PyTorch's FSDP (fms-fsdp: 0.67 to 0.89).
`bench/published_runs.py` prints them, and errors on other runs."""

BACKTEST_SAYS = "plans of nine published runs were 18% off in the mean, mostly too short"
"""What `bench/published_runs.py` found with the figures of this file (docs/log.md)."""

_TILE = 128
_NUM_UNITS = 128
_HALF_DEPTH = 64


def product_frac(num_products: int, rows: int, columns: int, inner: int) -> float:
    """Return what a product of matrices reaches of what large ones do.

    Results are computed in tiles of 128 x 128, so many at once as there are units: tiles stick out at the edges, and
    the last wave leaves units idle. With fewer tiles than units the inner dimension is split among idle units, down
    to 256 terms each. A tile's start and end cost as much as 64 terms of its sums.

    Args:
        num_products: Products of one batch.
        rows: Of the result.
        columns: Of the result.
        inner: Terms of each sum.

    Source:
        NVIDIA 2023, "Matrix Multiplication Background User's Guide" DU-09799, sections 3.1 and 3.2. The number of units
        (A100: 108, H100: 132), the split and the 64 terms are round figures, not measured.

    Example:
        >>> round(product_frac(1, 4096, 4096, 4096), 3), round(product_frac(1, 128 * 129, 128, 4096), 3)
        (0.985, 0.496)
    """
    tiles_down, tiles_across = math.ceil(rows / _TILE), math.ceil(columns / _TILE)
    tiles = num_products * tiles_down * tiles_across
    splits = max(1, min(_NUM_UNITS // tiles, inner // 256)) if tiles < _NUM_UNITS else 1
    waves = tiles * splits / _NUM_UNITS
    in_tiles = rows * columns / (tiles_down * tiles_across * _TILE * _TILE)
    depth = inner / splits
    return in_tiles * waves / math.ceil(waves) * depth / (depth + _HALF_DEPTH)
