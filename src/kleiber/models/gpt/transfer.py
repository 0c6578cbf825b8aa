"""What rules for rates over widths and depths must know of a `gpt`."""

from __future__ import annotations

from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.groups import TransferMarks

__all__ = ["transfer_marks"]


def transfer_marks(spec: GPTSpec) -> TransferMarks:
    """Return the marks of a `gpt`'s parameters.

    Example:
        >>> marks = transfer_marks(GPTSpec.from_dial({"depth": 1, "width": 32}, vocab_size=64, context=8))
        >>> marks.to_stream, marks.output_gain
        (('blocks.0.attn_out', 'blocks.0.mlp_down'), 'final_norm')
    """
    blocks = range(spec.depth)
    last = "experts.down" if spec.is_mixture else "mlp_down"
    return TransferMarks(
        width=spec.width,
        depth=spec.depth,
        to_stream=tuple(f"blocks.{i}.{name}" for i in blocks for name in ("attn_out", last)),
        output_gain="final_norm",
        fixed_outputs=tuple(f"blocks.{i}.experts.router" for i in blocks if spec.is_mixture),
        on_stream=tuple(f"blocks.{i}.skip_mix" for i in blocks if spec.has_x0_skip),
        is_fan_in_scaled=spec.init != "standard",
        is_depth_scaled=spec.init != "zero_out",
    )
