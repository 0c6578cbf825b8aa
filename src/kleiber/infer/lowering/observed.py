"""What values inside a graph lie between, on samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kleiber.infer.lowering.export import to_bytes
from kleiber.infer.sessions import session_of

__all__ = ["observed_ranges"]


def observed_ranges(
    model: Any, values: Mapping[str, Any], samples: Sequence[Tensor]
) -> dict[str, tuple[float, float]]:
    """Return the least and the greatest number of each value.

    Args:
        model: An `onnx_ir.Model`; as it was, afterwards.
        values: Of its graph, by any name.
        samples: Its inputs, in order.
    """
    outputs = list(model.graph.outputs)
    model.graph.outputs.extend(values.values())
    session = session_of(to_bytes(model), num_threads=1)
    del model.graph.outputs[len(outputs) :]
    named = {one.name: sample.numpy() for one, sample in zip(session.get_inputs(), samples, strict=True)}
    found = session.run(None, named)[len(outputs) :]
    return {name: (float(array.min()), float(array.max())) for name, array in zip(values, found, strict=True)}
