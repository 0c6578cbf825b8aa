"""From a module, and how its weights are stored, to a graph that other engines run fast."""

from kleiber.infer.lowering.export import export, to_bytes
from kleiber.infer.lowering.lower import Lowered, lower

__all__ = ["Lowered", "export", "lower", "to_bytes"]
