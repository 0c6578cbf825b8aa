"""From a module, and how its weights are stored, to a graph that other engines run fast."""

from kleiber.infer.lowering.export import export, to_bytes

__all__ = ["export", "to_bytes"]
