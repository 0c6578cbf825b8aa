"""What a `gpt` does beside its products of matrices: passes over memory, one row an operation.

A row says the name, the kind, and how often each of some memories is read or written. Norms, rotation and MLP go as
`module.py` and `rotary.py` write them and as autograd turns them around; Muon's as `train/muon.py` does.
"""

from __future__ import annotations

from kleiber.cost.operations import OperationKind

__all__ = [
    "MLP_BACKWARD",
    "MLP_FORWARD",
    "NORM_BACKWARD",
    "NORM_FORWARD",
    "ROTARY_BACKWARD",
    "ROTARY_FORWARD",
    "Passes",
]

Passes = tuple[tuple[str, OperationKind, tuple[int, ...]], ...]

NORM_FORWARD: Passes = (
    ("pow", "elementwise", (2, 0)),
    ("mean", "reduction", (1, 1)),
    ("add_", "elementwise", (0, 2)),
    ("rsqrt", "elementwise", (0, 2)),
    ("mul", "elementwise", (2, 1)),
    ("mul", "elementwise", (2, 0)),
)
"""Over the residual stream; over one value a token."""
NORM_BACKWARD: Passes = (
    ("mul", "elementwise", (3, 0)),
    ("mul", "elementwise", (2, 0)),
    ("sum", "reduction", (1, 0)),
    ("mul", "elementwise", (3, 0)),
    ("mul", "elementwise", (2, 1)),
    ("sum", "reduction", (1, 1)),
    ("pow", "elementwise", (0, 2)),
    ("mul", "elementwise", (0, 2)),
    ("mul", "elementwise", (0, 3)),
    ("div", "elementwise", (1, 1)),
    ("pow", "elementwise", (2, 0)),
    ("mul", "elementwise", (2, 0)),
    ("mul", "elementwise", (3, 0)),
    ("add", "elementwise", (3, 0)),
)
"""As `NORM_FORWARD`."""

ROTARY_FORWARD: Passes = (
    ("linalg_vector_norm", "reduction", (1, 1, 0)),
    ("pow_", "elementwise", (0, 2, 0)),
    ("mul_", "elementwise", (0, 2, 0)),
    ("add_", "elementwise", (0, 2, 0)),
    ("rsqrt_", "elementwise", (0, 2, 0)),
    ("mul", "elementwise", (2, 1, 0)),
    ("mul", "elementwise", (2, 0, 0)),
    ("mul", "elementwise", (2, 0, 1)),
    ("roll", "copy", (2, 0, 0)),
    ("addcmul", "elementwise", (3, 0, 1)),
)
"""Over query and key heads; over one value a head; over the cosines, or sines, of all heads."""
ROTARY_BACKWARD: Passes = (
    ("cat", "copy", (2, 0, 0)),
    ("mul", "elementwise", (2, 0, 1)),
    ("roll", "copy", (2, 0, 0)),
    ("addcmul", "elementwise", (3, 0, 1)),
    ("mul", "elementwise", (2, 0, 0)),
    ("mul_", "elementwise", (3, 0, 0)),
    ("sum", "reduction", (1, 0, 0)),
    ("mul", "elementwise", (3, 0, 0)),
    ("sum", "reduction", (1, 1, 0)),
    ("mul_", "elementwise", (0, 2, 0)),
    ("addcmul_", "elementwise", (3, 1, 0)),
    ("mul_", "elementwise", (2, 1, 0)),
)
"""As `ROTARY_FORWARD`."""

MLP_FORWARD: Passes = (("silu", "elementwise", (2,)), ("mul", "elementwise", (3,)))
"""Over the features between gate and down projection."""
MLP_BACKWARD: Passes = (
    ("mul", "elementwise", (3,)),
    ("mul", "elementwise", (3,)),
    ("silu_backward", "elementwise", (3,)),
    ("cat", "copy", (4,)),
)
"""As `MLP_FORWARD`."""
